# The templates of deploy/: every option in them exists, what they promise of packages and ranks is so, the batch file runs in
# a Slurm of its own, and the Kubernetes job on workers made of namespaces, with sshd and keys as the MPI Operator has them.
# What is not at hand (Slurm, sshd, YAML, systemd) is left out, and the test says so.
add_test(NAME deploy.templates COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/templates_test.py $<TARGET_FILE:coffer>
  ${PROJECT_SOURCE_DIR}/deploy/templates)
add_test(NAME deploy.slurm COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/slurm_test.py $<TARGET_FILE:coffer>
  ${PROJECT_SOURCE_DIR}/deploy/templates/coffer.sbatch)
add_test(NAME deploy.mpijob COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/mpijob_test.py $<TARGET_FILE:coffer>
  ${PROJECT_SOURCE_DIR}/deploy ${PROJECT_BINARY_DIR}/openssh)
set_tests_properties(deploy.templates deploy.slurm deploy.mpijob PROPERTIES TIMEOUT 200 LABELS "deploy;release-only" SKIP_RETURN_CODE 77
  ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
set_tests_properties(deploy.slurm PROPERTIES TIMEOUT 400)
# Not part of CI (`ctest --preset testbed`): the image, built from nothing, and the job in containers of it.
add_test(NAME testbed.containers CONFIGURATIONS testbed COMMAND /usr/bin/python3 ${CMAKE_CURRENT_LIST_DIR}/containers_test.py
  ${PROJECT_SOURCE_DIR}/deploy)
set_tests_properties(testbed.containers PROPERTIES TIMEOUT 5400 LABELS testbed RUN_SERIAL ON SKIP_RETURN_CODE 77
  ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
