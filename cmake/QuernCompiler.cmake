# Warnings, sanitizers and ccache for every target.
find_program(QUERN_CCACHE ccache)
if(QUERN_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Base folder and no directory hash: checkouts in different places share one cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${QUERN_CCACHE})
endif()

add_library(quern_options INTERFACE)
target_compile_options(quern_options INTERFACE -Wall -Wextra -Wshadow -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # With full optimisation GCC 12 sees copies of impossible lengths inside std::string, std::vector and std::variant (GCC bug 105651 and its
  # kin). The debug and sanitizer builds keep these warnings.
  target_compile_options(quern_options INTERFACE $<$<CONFIG:Release>:-Wno-restrict -Wno-stringop-overflow -Wno-maybe-uninitialized>)
endif()
if(QUERN_WERROR)
  target_compile_options(quern_options INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  target_compile_options(quern_options INTERFACE -Wthread-safety)
endif()
set(QUERN_TEST_OPTIONS $<$<CONFIG:Release>:-O1>)  # most of a test's time is the compiler's
if(QUERN_SANITIZE)
  list(APPEND QUERN_TEST_OPTIONS -fno-sanitize=undefined)  # what is tested has the checks
  add_compile_definitions(QUERN_SANITIZED)
  add_compile_options(-fsanitize=${QUERN_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${QUERN_SANITIZE})
endif()
# One rounding per operation as written: the same source gives the same bits with every compiler.
add_compile_options(-ffp-contract=off)
add_link_options(-Wl,--as-needed)
