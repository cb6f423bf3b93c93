# Rank tests: the same bits for any number of ranks, layout, threads, batch composition (matrix.py, sequences.py), and real
# shares of memory and work (shares.py). Models come from `coffer synth`, once, into the build tree.
find_program(COFFER_PYTHON NAMES python3 REQUIRED)
set(rank_models ${CMAKE_CURRENT_BINARY_DIR}/rank_models)
add_executable(sequences ${CMAKE_CURRENT_LIST_DIR}/sequences.c)
target_link_libraries(sequences PRIVATE coffer_coordinator_decode PkgConfig::XXHASH)
add_executable(replicas ${CMAKE_CURRENT_LIST_DIR}/replicas.c)
target_link_libraries(replicas PRIVATE coffer_coordinator_plan PkgConfig::XXHASH)
set(rank_quick "")
if(COFFER_SANITIZE)
  set(rank_quick --quick)
endif()

function(coffer_rank_test name script timeout)
  add_test(NAME ranks.${name}
    COMMAND ${COFFER_PYTHON} ${PROJECT_SOURCE_DIR}/tests/ranks/${script} ${rank_quick} --coffer $<TARGET_FILE:coffer>
      --sequences $<TARGET_FILE:sequences> --models ${rank_models} ${ARGN})
  set_tests_properties(ranks.${name} PROPERTIES TIMEOUT ${timeout} LABELS rank COST 15)
endfunction()

coffer_rank_test(models models.py 120)
set_tests_properties(ranks.models PROPERTIES FIXTURES_SETUP rank_models)
foreach(type q8_0 q4_0 q4_k)
  coffer_rank_test(matrix.${type} matrix.py 300 ${type})
endforeach()
coffer_rank_test(matrix.more matrix.py 300 more)
foreach(type q8_0 q4_0 q4_k q6_k f32)
  coffer_rank_test(sequences.${type} sequences.py 600 ${type})
endforeach()
coffer_rank_test(shares shares.py 300)
coffer_rank_test(memory memory.py 300)
coffer_rank_test(simulated simulated.py 300)
set_tests_properties(ranks.simulated PROPERTIES LABELS "rank;release-only")
set(coffer_python_found ${COFFER_PYTHON})
set(COFFER_PYTHON /usr/bin/python3) # that has numpy, see tests/reference
coffer_rank_test(perplexity perplexity.py 300)
coffer_rank_test(embed embed.py 300)
coffer_rank_test(experts experts.py 300)
set(COFFER_PYTHON ${coffer_python_found})
coffer_rank_test(prompt_cache prompt_cache.py 300)
coffer_rank_test(kv_types kv_types.py 300)
coffer_rank_test(wire wire.py 300 $<TARGET_FILE:replicas>)
coffer_rank_test(rotate rotate.py 300)
coffer_rank_test(sampling sampling.py 600)
coffer_rank_test(prompts prompts.py 600)
coffer_rank_test(auto auto.py 300)
coffer_rank_test(fewer fewer.py 300)
coffer_rank_test(straggler straggler.py 300)
set_tests_properties(ranks.matrix.q8_0 ranks.matrix.q4_0 ranks.matrix.q4_k ranks.matrix.more ranks.sequences.q8_0
  ranks.sequences.q4_0 ranks.sequences.q4_k ranks.sequences.q6_k ranks.sequences.f32 ranks.shares ranks.memory
  ranks.perplexity ranks.sampling ranks.prompts ranks.prompt_cache ranks.embed ranks.kv_types ranks.rotate ranks.auto ranks.wire
  PROPERTIES FIXTURES_REQUIRED rank_models)
set_tests_properties(ranks.matrix.q8_0 ranks.matrix.q4_0 ranks.matrix.q4_k PROPERTIES COST 25)
set_tests_properties(ranks.sequences.q8_0 PROPERTIES COST 70)
# Every architecture (tests/reference/families.py names them), and the table of the README.
set(families llama mixtral qwen2 qwen3 qwen2moe qwen3moe qwen3moe-fused gemma gemma2 gemma3 gemma3-linear phi3 phi3-short gpt-oss gpt-oss-mxfp4 glm4moe
  glm4moe-norm deepseek2 deepseek2-v2 deepseek2-lite deepseek2-fused)
foreach(family ${families})
  coffer_rank_test(family.${family} families.py 300 ${family})
  set_tests_properties(ranks.family.${family} PROPERTIES FIXTURES_REQUIRED rank_models)
endforeach()
add_test(NAME ranks.table COMMAND ${COFFER_PYTHON} ${PROJECT_SOURCE_DIR}/tests/ranks/table.py --coffer $<TARGET_FILE:coffer>
  --ranks 1 --every 4 --check ${PROJECT_SOURCE_DIR}/README.md)
set_tests_properties(ranks.table PROPERTIES TIMEOUT 300 LABELS "rank;release-only")
# The figures of these tests are times: nothing may run beside them.
set_tests_properties(ranks.shares ranks.straggler PROPERTIES RUN_SERIAL TRUE)
set_tests_properties(ranks.straggler PROPERTIES LABELS "rank;release-only")
# For the thread sanitizer only: elsewhere matrix.py and sequences.py run the same with more.
if(COFFER_SANITIZE STREQUAL "thread")
  coffer_rank_test(threads threads.py 300)
  set_tests_properties(ranks.threads PROPERTIES LABELS "rank;threads")
endif()
# The model comes to hosts that lack it.
add_test(NAME ranks.ship COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/ship.py $<TARGET_FILE:coffer>)
set_tests_properties(ranks.ship PROPERTIES TIMEOUT 300 LABELS "rank;release-only" COST 30)
# Not part of CI: as many ranks as a cluster has (`ctest --preset testbed`).
add_test(NAME testbed.simulated CONFIGURATIONS testbed COMMAND ${COFFER_PYTHON} ${CMAKE_CURRENT_LIST_DIR}/simulated.py
  --coffer $<TARGET_FILE:coffer> --models ${rank_models} many)
set_tests_properties(testbed.simulated PROPERTIES TIMEOUT 1800 LABELS testbed RUN_SERIAL ON)
