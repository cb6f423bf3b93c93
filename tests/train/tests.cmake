# The model that ships (deploy/models) and what made it. Only train.smoke needs torch, and is skipped without it.
set(train ${CMAKE_CURRENT_LIST_DIR})
add_test(NAME train.stories COMMAND /usr/bin/python3 ${train}/stories_test.py)
add_test(NAME train.model COMMAND /usr/bin/python3 ${train}/model_test.py $<TARGET_FILE:coffer>
  ${PROJECT_SOURCE_DIR}/deploy/models/stories.gguf)
add_test(NAME train.smoke COMMAND /usr/bin/python3 ${train}/smoke_test.py)
set_tests_properties(train.stories train.model train.smoke PROPERTIES TIMEOUT 300 LABELS train SKIP_RETURN_CODE 77
  ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
set_tests_properties(train.stories train.smoke PROPERTIES LABELS "train;release-only")
set_tests_properties(train.model PROPERTIES COST 15)
