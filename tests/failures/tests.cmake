# Everything that can go wrong, from outside: failures.crash, failures.input, failures.launch, and what a supervisor makes of
# it: failures.supervise, failures.resume. Needs no model.
add_library(slow_end SHARED ${CMAKE_CURRENT_LIST_DIR}/slow_end.c)
foreach(part crash input launch supervise resume)
  set(more)
  if(part STREQUAL crash)
    set(more $<TARGET_FILE:slow_end>)
  endif()
  add_test(NAME failures.${part} COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/${part}.py $<TARGET_FILE:coffer> ${more})
  set_tests_properties(failures.${part} PROPERTIES TIMEOUT 600 LABELS failures ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0;PYTHONDONTWRITEBYTECODE=1")
endforeach()
# Its clocks are those of the released program; the sanitizers meet the same paths in failures.input and failures.launch.
set_tests_properties(failures.crash PROPERTIES LABELS "failures;release-only" COST 55)
set_tests_properties(failures.supervise PROPERTIES LABELS "failures;release-only" COST 50)
set_tests_properties(failures.resume PROPERTIES LABELS "failures;release-only" COST 20)
set_tests_properties(failures.input PROPERTIES COST 60)
set_tests_properties(failures.launch PROPERTIES COST 15)
# A preloaded library must come after the sanitizers' own, and they take any address space.
add_library(fail_pread SHARED ${CMAKE_CURRENT_LIST_DIR}/fail_pread.c)
add_test(NAME failures.loading
  COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/loading.py $<TARGET_FILE:coffer> $<TARGET_FILE:fail_pread>)
set_tests_properties(failures.loading PROPERTIES TIMEOUT 300 LABELS "failures;release-only"
  ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
