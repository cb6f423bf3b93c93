# Two hosts made of network namespaces, where that is allowed (else skipped, and it says why).
add_test(NAME hosts.two COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/hosts_test.py $<TARGET_FILE:coffer>
  ${PROJECT_SOURCE_DIR}/deploy/testbed/hosts)
set_tests_properties(hosts.two PROPERTIES TIMEOUT 300 LABELS "hosts;release-only" COST 30 SKIP_RETURN_CODE 77)
