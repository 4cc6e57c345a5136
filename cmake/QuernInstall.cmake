# What `cmake --install` puts where. Manual pages and completion scripts come from the program itself, so that they say
# what its tables say.
include(GNUInstallDirs)
install(TARGETS quern RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

file(GLOB command_files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/quern/cli/command/*.command.cpp)
set(share ${CMAKE_BINARY_DIR}/generated/share)
set(manual_pages ${share}/quern.1)
set(manual_commands COMMAND ${CMAKE_COMMAND} -E make_directory ${share}
                    COMMAND quern man > ${share}/quern.1)
foreach(file IN LISTS command_files)
  get_filename_component(name ${file} NAME)
  string(REPLACE ".command.cpp" "" name ${name})
  list(APPEND manual_pages ${share}/quern-${name}.1)
  list(APPEND manual_commands COMMAND quern man ${name} > ${share}/quern-${name}.1)
endforeach()
add_custom_command(
  OUTPUT ${manual_pages} ${share}/quern.bash ${share}/_quern ${share}/quern.fish
  ${manual_commands}
  COMMAND quern completion bash > ${share}/quern.bash
  COMMAND quern completion zsh > ${share}/_quern
  COMMAND quern completion fish > ${share}/quern.fish
  DEPENDS quern
  COMMENT "Writing manual pages and shell completion"
  VERBATIM)
# Part of `all`: an installation must not have to build.
add_custom_target(quern_manual ALL DEPENDS ${manual_pages} ${share}/quern.bash ${share}/_quern ${share}/quern.fish)

install(FILES ${manual_pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${share}/quern.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME quern)
install(FILES ${share}/_quern DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${share}/quern.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
