# Checks of the tree itself: who includes whom, compiler flags, format, paths, manual page, README. can_fail shows each
# of them something wrong. All are release-only: nothing of them changes under a sanitizer.
find_program(COFFER_PYTHON NAMES python3 REQUIRED)
function(coffer_check name)
  add_test(NAME check.${name} COMMAND ${ARGN})
  set_tests_properties(check.${name} PROPERTIES TIMEOUT 600 LABELS "check;release-only" SKIP_RETURN_CODE 77
    ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endfunction()

set(checks ${CMAKE_CURRENT_LIST_DIR})
coffer_check(rooms ${COFFER_PYTHON} ${checks}/rooms.py ${PROJECT_SOURCE_DIR})
coffer_check(arithmetic ${COFFER_PYTHON} ${checks}/arithmetic.py ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
coffer_check(paths ${COFFER_PYTHON} ${checks}/paths.py ${PROJECT_SOURCE_DIR})
coffer_check(format ${COFFER_PYTHON} ${checks}/format.py ${PROJECT_SOURCE_DIR})
coffer_check(man bash ${checks}/man.sh $<TARGET_FILE:coffer>)
coffer_check(readme ${COFFER_PYTHON} ${checks}/readme.py ${PROJECT_SOURCE_DIR} $<TARGET_FILE:coffer>)
coffer_check(can_fail ${COFFER_PYTHON} ${checks}/can_fail.py)
set_tests_properties(check.readme PROPERTIES COST 10)
