# Not a ctest: tests/numa/in_vm.sh runs this, and the unit tests of the memory room, on machines with several nodes.
add_executable(numa_where numa/where.c)
target_link_libraries(numa_where PRIVATE coffer_node_memory)
