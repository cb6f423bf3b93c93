# Others' answers: the formulas once more in numpy, and the recorded answers of other engines where they are at hand.
set(reference ${CMAKE_CURRENT_LIST_DIR})
foreach(table llama families)
  add_test(NAME reference.numpy_${table}
    COMMAND /usr/bin/python3 ${reference}/compare.py --coffer $<TARGET_FILE:coffer> --table ${table})
  set_tests_properties(reference.numpy_${table} PROPERTIES TIMEOUT 300 LABELS reference SKIP_RETURN_CODE 77
    ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endforeach()
foreach(what one tensor3 layers2 domain3 tokenizers formulas)
  add_test(NAME reference.oracle_${what} COMMAND bash ${reference}/oracle.sh $<TARGET_FILE:coffer> ${PROJECT_SOURCE_DIR} ${what})
  set_tests_properties(reference.oracle_${what} PROPERTIES TIMEOUT 600 LABELS "reference;release-only" SKIP_RETURN_CODE 77
    ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endforeach()
set_tests_properties(reference.oracle_tensor3 PROPERTIES COST 10)
