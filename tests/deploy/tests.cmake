# The templates of deploy/: every option in them exists, what they promise of packages and ranks is so, and the batch file
# runs in a Slurm of its own. What is not at hand (Slurm, YAML, systemd) is left out, and the test says so.
add_test(NAME deploy.templates COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/templates_test.py $<TARGET_FILE:coffer>
  ${PROJECT_SOURCE_DIR}/deploy/templates)
add_test(NAME deploy.slurm COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/slurm_test.py $<TARGET_FILE:coffer>
  ${PROJECT_SOURCE_DIR}/deploy/templates/coffer.sbatch)
set_tests_properties(deploy.templates deploy.slurm PROPERTIES TIMEOUT 200 LABELS "deploy;release-only" SKIP_RETURN_CODE 77
  ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
