# Not a ctest: tests/numa/in_vm.sh runs this, and the unit tests of the memory room, on machines with several nodes.
add_executable(numa_where numa/where.c)
target_link_libraries(numa_where PRIVATE coffer_node_memory)

# coffer run on virtual machines of several nodes, where QEMU is (else skipped, and it says what is missing). CI boots one,
# of two nodes; `ctest --preset testbed` all.
set(vm_test python3 ${CMAKE_CURRENT_LIST_DIR}/vm_test.py $<TARGET_FILE:coffer>)
add_test(NAME vm.run COMMAND ${vm_test} short)
set_tests_properties(vm.run PROPERTIES TIMEOUT 600 LABELS "vm;release-only" COST 30 PROCESSORS 2)
add_test(NAME testbed.vm CONFIGURATIONS testbed COMMAND ${vm_test})
add_test(NAME testbed.vm_memory CONFIGURATIONS testbed COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/in_vm.sh ${PROJECT_BINARY_DIR})
set_tests_properties(testbed.vm testbed.vm_memory PROPERTIES TIMEOUT 3600 LABELS testbed RUN_SERIAL ON)
set_tests_properties(vm.run testbed.vm testbed.vm_memory PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
