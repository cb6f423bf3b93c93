# The engine's messages counted by SimGrid (messages.py), where libsimgrid-dev is installed; else skipped, and it says so.
# engine.c is coffer once more, its transport compiled against SMPI's mpi.h; nothing of it can run under a sanitizer,
# which does not know SimGrid's way to switch between ranks.
find_program(COFFER_SMPIRUN NAMES smpirun)
find_path(COFFER_SMPI_INCLUDE NAMES smpi/smpi_helpers.h)
find_library(COFFER_SIMGRID NAMES simgrid)
set(simgrid_words --coffer $<TARGET_FILE:coffer>)
if(COFFER_SMPIRUN AND COFFER_SMPI_INCLUDE AND COFFER_SIMGRID AND NOT COFFER_SANITIZE)
  file(GLOB simgrid_transport CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/transport/*.c)
  add_library(simgrid_transport OBJECT ${simgrid_transport})
  target_link_libraries(simgrid_transport PRIVATE coffer_proto)
  target_include_directories(simgrid_transport SYSTEM PRIVATE ${COFFER_SMPI_INCLUDE}/smpi)
  target_compile_definitions(simgrid_transport PRIVATE SMPI_NO_OVERRIDE_MALLOC)
  target_compile_options(simgrid_transport PRIVATE -include smpi/smpi_helpers.h) # clocks and naps in virtual time
  # --as-needed: what is left of coffer_transport, and of the MPI that it wants, does not come along.
  add_executable(simgrid_engine ${CMAKE_CURRENT_LIST_DIR}/engine.c $<TARGET_OBJECTS:simgrid_transport>)
  target_include_directories(simgrid_engine SYSTEM PRIVATE ${COFFER_SMPI_INCLUDE}/smpi)
  target_link_options(simgrid_engine PRIVATE -Wl,--as-needed,--wrap=cf_calibrate_rank,--wrap=cf_calibrate_links)
  target_link_libraries(simgrid_engine PRIVATE ${COFFER_SIMGRID} coffer_coordinator_commands)
  set_target_properties(simgrid_engine PROPERTIES ENABLE_EXPORTS ON) # rank.c finds coffer_rank() in it
  add_library(simgrid_rank MODULE ${CMAKE_CURRENT_LIST_DIR}/rank.c)
  list(APPEND simgrid_words --smpirun ${COFFER_SMPIRUN} --engine $<TARGET_FILE:simgrid_engine> --rank $<TARGET_FILE:simgrid_rank>)
endif()
add_test(NAME simgrid.messages COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/messages.py ${simgrid_words})
set_tests_properties(simgrid.messages PROPERTIES TIMEOUT 900 LABELS "rank;release-only" COST 25)
# Not part of CI: more groups of 64 ranks (`ctest --preset testbed`).
add_test(NAME testbed.simgrid CONFIGURATIONS testbed
  COMMAND python3 ${CMAKE_CURRENT_LIST_DIR}/messages.py ${simgrid_words} --many)
set_tests_properties(testbed.simgrid PROPERTIES TIMEOUT 1800 LABELS testbed)
set_tests_properties(simgrid.messages testbed.simgrid PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
