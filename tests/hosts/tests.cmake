# Several hosts made of network namespaces, where that is allowed (else skipped, and it says why).
add_test(NAME hosts.two COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/hosts_test.py $<TARGET_FILE:coffer>
  ${PROJECT_SOURCE_DIR}/deploy/testbed/hosts)
set_tests_properties(hosts.two PROPERTIES TIMEOUT 300 LABELS "hosts;release-only" COST 40 SKIP_RETURN_CODE 77)

# Not part of CI (`ctest --preset testbed`): the test bed itself, and more hosts, links and layouts.
add_test(NAME testbed.hosts CONFIGURATIONS testbed COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/bed_test.py)
add_test(NAME testbed.clusters CONFIGURATIONS testbed
  COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/clusters.py $<TARGET_FILE:coffer>)
set_tests_properties(testbed.hosts testbed.clusters PROPERTIES TIMEOUT 3600 LABELS testbed RUN_SERIAL ON SKIP_RETURN_CODE 77
  ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
# Only `hosts` builds it, when it needs it; here the compiler looks at it with all warnings.
add_library(vswitch_warnings OBJECT ${PROJECT_SOURCE_DIR}/deploy/testbed/vswitch.c)
# One daemon and one host lost, each once, at a random moment; the whole matrix is faults.py itself: six faults, 20 runs each.
add_test(NAME hosts.faults COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/faults.py $<TARGET_FILE:coffer>
  ${PROJECT_SOURCE_DIR}/deploy/testbed/hosts --runs 1 --faults orted,cut -n 150)
set_tests_properties(hosts.faults PROPERTIES TIMEOUT 300 LABELS "hosts;release-only" COST 25 SKIP_RETURN_CODE 77)
