# Not a ctest: tests/numa/in_vm.sh runs this, and the unit tests of the memory room, on machines with several nodes.
add_executable(numa_where numa/where.c)
target_link_libraries(numa_where PRIVATE coffer_node_memory)

# coffer run on virtual machines of several nodes: minutes, so only with COFFER_VM_TESTS=1.
add_test(NAME vm.run COMMAND ${CMAKE_CURRENT_LIST_DIR}/run_in_vm.sh --ctest ${PROJECT_SOURCE_DIR}/../shared/testbed/numa-vm
  $<TARGET_FILE:coffer>)
set_tests_properties(vm.run PROPERTIES TIMEOUT 1500 LABELS vm PROCESSORS 2 SKIP_RETURN_CODE 77)
