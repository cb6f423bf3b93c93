# Rank tests of the transport: rank.transport.N (all is well) and rank.transport.SCENARIO.N (all must notice).
add_executable(transport_ranks ${CMAKE_CURRENT_LIST_DIR}/transport_ranks.c)
target_link_libraries(transport_ranks PRIVATE coffer_transport MPI::MPI_C)

# SEEN: how many ranks must have seen TEXT (0: the scenario succeeds).
function(coffer_transport_test name ranks seen scenario)
  add_test(NAME rank.transport.${name}
    COMMAND ${PROJECT_SOURCE_DIR}/tests/transport/run_ranks.sh $<TARGET_FILE:transport_ranks> ${ranks} ${seen} ${scenario} ${ARGN})
  set_tests_properties(rank.transport.${name} PROPERTIES TIMEOUT 60 LABELS rank
    ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")
endfunction()

foreach(ranks 1 2 3 4)
  coffer_transport_test(${ranks} ${ranks} 0 works)
endforeach()
coffer_transport_test(pauses.2 2 0 pauses)
coffer_transport_test(asks.2 2 0 asks)
set_property(TEST rank.transport.asks.2 APPEND PROPERTY ENVIRONMENT OMPI_MCA_btl_tcp_eager_limit=70000)
coffer_transport_test(protocol.3 3 3 protocol "speaks protocol 99")
coffer_transport_test(program.2 2 2 program "runs coffer 9.9.9")
coffer_transport_test(size.3 3 3 size "model of 1001 bytes")
coffer_transport_test(hash.4 4 4 hash "rank 3 (")
coffer_transport_test(zero.3 3 3 zero "rank 0 (")
coffer_transport_test(missing.3 3 3 missing "cannot open m.gguf")
coffer_transport_test(fails.2 2 2 fails "layer 3 went mad")
coffer_transport_test(fails.4 4 4 fails "layer 3 went mad")
coffer_transport_test(stops.3 3 2 stops "gave no sign of life for 2 s")

# The host's shared window.
add_executable(window_ranks ${CMAKE_CURRENT_LIST_DIR}/window_ranks.c)
target_link_libraries(window_ranks PRIVATE coffer_transport MPI::MPI_C)
function(coffer_window_test name ranks seen scenario)
  add_test(NAME rank.transport.window.${name}
    COMMAND ${PROJECT_SOURCE_DIR}/tests/transport/run_ranks.sh $<TARGET_FILE:window_ranks> ${ranks} ${seen} ${scenario} ${ARGN})
  set_tests_properties(rank.transport.window.${name} PROPERTIES TIMEOUT 60 LABELS rank
    ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0")
endfunction()
foreach(ranks 1 2 3 4)
  coffer_window_test(${ranks} ${ranks} 0 works)
endforeach()
foreach(ranks 2 4)
  coffer_window_test(rings.${ranks} ${ranks} 0 rings)
endforeach()
foreach(ranks 3 4)
  coffer_window_test(hosts.${ranks} ${ranks} 0 hosts)
  set_tests_properties(rank.transport.window.hosts.${ranks} PROPERTIES
    ENVIRONMENT "ASAN_OPTIONS=detect_leaks=0;COFFER_TEST_HOSTS=2")
endforeach()
# A tool for a person: how late a rank wakes up.
add_executable(late_ranks ${CMAKE_CURRENT_LIST_DIR}/late_ranks.c)
target_link_libraries(late_ranks PRIVATE coffer_transport MPI::MPI_C)
coffer_window_test(lies.3 3 3 lies "named a place outside of its window")
coffer_window_test(stops.3 3 2 stops "gave no sign of life for 2 s")
coffer_window_test(fails.3 3 3 fails "no room for the weights")
