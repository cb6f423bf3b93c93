# The kernels on other processors, under qemu-user (skipped where a cross compiler or qemu is missing), and machines that
# Coffer does not support. Nothing of this changes under a sanitizer. See README.md.
add_executable(bits ${CMAKE_CURRENT_LIST_DIR}/bits.c)
target_link_libraries(bits PRIVATE coffer_node_kernels)
foreach(arch aarch64 ppc64le)
  add_test(NAME cross.${arch} COMMAND ${CMAKE_CURRENT_LIST_DIR}/kernels ${arch} $<TARGET_FILE:bits>
    ${CMAKE_CURRENT_BINARY_DIR}/cross-${arch})
  set_tests_properties(cross.${arch} PROPERTIES TIMEOUT 600 LABELS "cross;release-only" SKIP_RETURN_CODE 77
    ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endforeach()
add_test(NAME cross.refused COMMAND ${CMAKE_CURRENT_LIST_DIR}/refused ${CMAKE_CURRENT_BINARY_DIR}/cross-refused)
set_tests_properties(cross.refused PROPERTIES TIMEOUT 120 LABELS "cross;release-only" SKIP_RETURN_CODE 77)
