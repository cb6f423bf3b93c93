# The manual page comes out of the program itself (`coffer man`), so that it lists the options that exist.
add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/coffer.1
  COMMAND coffer man > ${PROJECT_BINARY_DIR}/coffer.1
  DEPENDS coffer VERBATIM)
add_custom_target(man ALL DEPENDS ${PROJECT_BINARY_DIR}/coffer.1)
install(FILES ${PROJECT_BINARY_DIR}/coffer.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
