# The front process from outside: with an mpirun of our own (no MPI needed) and with the real one.
find_program(COFFER_PYTHON NAMES python3 REQUIRED)
add_executable(front_helper ${CMAKE_CURRENT_LIST_DIR}/front_helper.c)
target_link_libraries(front_helper PRIVATE coffer_coordinator_cli)
add_test(NAME cli.front COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/front_test.py $<TARGET_FILE:front_helper>)
add_test(NAME cli.front_mpirun COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/front_test.py
  $<TARGET_FILE:front_helper> mpirun)
set_tests_properties(cli.front cli.front_mpirun PROPERTIES TIMEOUT 300 LABELS cli)
add_test(NAME cli.chat COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/chat_test.py $<TARGET_FILE:coffer>)
set_tests_properties(cli.chat PROPERTIES TIMEOUT 600 LABELS cli COST 20)
add_test(NAME cli.bench COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/bench_test.py $<TARGET_FILE:coffer>)
set_tests_properties(cli.bench PROPERTIES TIMEOUT 900 LABELS cli COST 25 PROCESSORS 2) # its clocks want both cores
add_test(NAME cli.tokenize COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/tokenize_test.py $<TARGET_FILE:coffer>)
set_tests_properties(cli.tokenize PROPERTIES TIMEOUT 300 LABELS cli)
add_test(NAME cli.peers COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/peers_test.py
  ${PROJECT_SOURCE_DIR}/deploy/compare-peers)
set_tests_properties(cli.peers PROPERTIES TIMEOUT 120 LABELS "cli;release-only")
add_test(NAME cli.quantize COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/quantize_test.py $<TARGET_FILE:coffer>)
set_tests_properties(cli.quantize PROPERTIES TIMEOUT 300 LABELS cli COST 10)
# A preloaded library must come after the sanitizers' own.
add_library(sick SHARED ${CMAKE_CURRENT_LIST_DIR}/sick.c)
add_test(NAME cli.doctor COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/doctor_test.py $<TARGET_FILE:coffer> $<TARGET_FILE:sick>)
set_tests_properties(cli.doctor PROPERTIES TIMEOUT 200 LABELS "cli;release-only" COST 12)
add_test(NAME cli.plan COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/plan_test.py ${PROJECT_SOURCE_DIR} $<TARGET_FILE:coffer>)
set_tests_properties(cli.plan PROPERTIES TIMEOUT 600 LABELS cli COST 35)
add_test(NAME cli.calibrate COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/calibrate_test.py $<TARGET_FILE:coffer>)
set_tests_properties(cli.calibrate PROPERTIES TIMEOUT 300 LABELS "cli;release-only" COST 15)
add_test(NAME cli.cluster COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/cluster_test.py $<TARGET_FILE:coffer>)
set_tests_properties(cli.cluster PROPERTIES TIMEOUT 300 LABELS "cli;release-only" COST 15)
