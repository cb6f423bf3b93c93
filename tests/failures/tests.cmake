# Everything that can go wrong, from outside: failures.crash, failures.input, failures.launch. Needs no model.
foreach(part crash input launch)
  add_test(NAME failures.${part} COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/${part}.py $<TARGET_FILE:coffer>)
  set_tests_properties(failures.${part} PROPERTIES TIMEOUT 600 LABELS failures PROCESSORS 2 ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0;PYTHONDONTWRITEBYTECODE=1")
endforeach()
# Its clocks are those of the released program; the sanitizers meet the same paths in failures.input and failures.launch.
set_tests_properties(failures.crash PROPERTIES LABELS "failures;release-only")
