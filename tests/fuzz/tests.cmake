# Fuzz targets: fuzz_NAME.c with a corpus in corpus/NAME. Always: replay_NAME and the ctest "fuzz.NAME.replay". With
# COFFER_FUZZ (clang): the libFuzzer program fuzz_NAME as well, to be run as
#   build/fuzz/tests/fuzz_NAME -max_total_time=300 /tmp/new-corpus tests/fuzz/corpus/NAME
function(coffer_fuzz_target name)
  set(folder ${CMAKE_CURRENT_SOURCE_DIR}/fuzz)
  add_executable(replay_${name} ${folder}/replay.c ${folder}/fuzz_${name}.c)
  target_link_libraries(replay_${name} PRIVATE ${ARGN})
  file(GLOB seeds CONFIGURE_DEPENDS ${folder}/corpus/${name}/*)
  if(seeds)
    add_test(NAME fuzz.${name}.replay COMMAND replay_${name} ${folder}/corpus/${name})
    set_tests_properties(fuzz.${name}.replay PROPERTIES TIMEOUT 120 LABELS fuzz)
  endif()
  if(COFFER_FUZZ)
    add_executable(fuzz_${name} ${folder}/fuzz_${name}.c)
    target_link_libraries(fuzz_${name} PRIVATE ${ARGN} -fsanitize=fuzzer)
  endif()
endfunction()

coffer_fuzz_target(gguf coffer_node_gguf)
coffer_fuzz_target(prompts coffer_coordinator_commands)
coffer_fuzz_target(tokenizer coffer_coordinator_text)
coffer_fuzz_target(wire coffer_proto)
coffer_fuzz_target(chat coffer_coordinator_chat)
coffer_fuzz_target(prompt_cache coffer_coordinator_decode)
