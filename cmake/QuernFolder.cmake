# One library per folder of src/quern, its tests, benchmarks and fuzz targets found by name:
#   foo.cpp  foo_test.cpp  foo_bench.cpp  foo_fuzz.cpp  foo.kernel.cpp (once per instruction set)

# quern_folder(NAME [DEPS folder...] [LINK library...])
function(quern_folder name)
  cmake_parse_arguments(arg "" "" "DEPS;LINK" ${ARGN})
  set(dir ${CMAKE_CURRENT_SOURCE_DIR}/${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${dir}/*.cpp)
  set(tests ${sources})
  set(benches ${sources})
  set(fuzzers ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cpp$")
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "(_test|_bench|_fuzz|\\.kernel|/main)\\.cpp$")

  if(NOT sources)
    file(WRITE ${CMAKE_BINARY_DIR}/empty.cpp "")
    set(sources ${CMAKE_BINARY_DIR}/empty.cpp)
  endif()
  add_library(quern_${name} STATIC ${sources})
  target_include_directories(quern_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  list(TRANSFORM arg_DEPS PREPEND quern_)
  target_link_libraries(quern_${name} PUBLIC ${arg_DEPS} fmt::fmt PRIVATE quern_options ${arg_LINK})

  if(QUERN_TESTS AND tests)
    add_executable(quern_${name}_test ${tests})
    target_link_libraries(quern_${name}_test PRIVATE quern_${name} quern_options GTest::gmock GTest::gtest_main)
    target_compile_definitions(quern_${name}_test PRIVATE QUERN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    target_compile_options(quern_${name}_test PRIVATE ${QUERN_TEST_OPTIONS})
    include(GoogleTest)
    gtest_discover_tests(quern_${name}_test TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                         PROPERTIES LABELS ${name} TIMEOUT 300 SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
  endif()
  if(QUERN_BENCHMARKS AND benches)
    add_executable(quern_${name}_bench ${benches})
    target_link_libraries(quern_${name}_bench PRIVATE quern_${name} quern_options benchmark::benchmark_main)
  endif()
  if(QUERN_FUZZERS)
    target_compile_options(quern_${name} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
  foreach(source IN LISTS fuzzers)
    get_filename_component(target ${source} NAME_WE)
    if(QUERN_FUZZERS)
      add_executable(${target} ${source})
      target_link_libraries(${target} PRIVATE quern_${name} quern_options)
      target_compile_options(${target} PRIVATE -fsanitize=fuzzer)
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    elseif(QUERN_TESTS)
      # Without a fuzzer its corpus, tests/data/fuzz/foo_fuzz/, is an ordinary test.
      add_executable(${target}_replay ${source} ${PROJECT_SOURCE_DIR}/tests/fuzz_replay.cpp)
      target_link_libraries(${target}_replay PRIVATE quern_${name} quern_options)
      add_test(NAME fuzz.${target} COMMAND ${target}_replay ${PROJECT_SOURCE_DIR}/tests/data/fuzz/${target})
      set_tests_properties(fuzz.${target} PROPERTIES LABELS fuzz TIMEOUT 300)
    endif()
  endforeach()
endfunction()

# quern_registry(FOLDER SUFFIX TYPE HEADER): for every x.SUFFIX.cpp below FOLDER a constant `SUFFIX_x` of TYPE; generates the
# sorted table `const TYPE* const SUFFIX_table[]` and its size `SUFFIX_table_size`, declared in HEADER.
function(quern_registry folder suffix type header)
  file(GLOB_RECURSE files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.${suffix}.cpp)
  list(SORT files)
  set(externs "")
  set(entries "")
  foreach(file IN LISTS files)
    get_filename_component(base ${file} NAME)
    string(REPLACE ".${suffix}.cpp" "" base ${base})
    string(REPLACE "-" "_" base ${base})
    string(APPEND externs "extern const ${type} ${suffix}_${base};\n")
    string(APPEND entries "    &${suffix}_${base},\n")
  endforeach()
  set(out ${CMAKE_BINARY_DIR}/generated/quern/${suffix}_table.cpp)
  file(CONFIGURE OUTPUT ${out} CONTENT
"// Generated from the names of the files *.${suffix}.cpp.
#include \"${header}\"

namespace quern {
${externs}
const ${type}* const ${suffix}_table[] = {
${entries}};
const int ${suffix}_table_size = sizeof(${suffix}_table) / sizeof(${suffix}_table[0]);
}  // namespace quern
" @ONLY)
  target_sources(quern_${folder} PRIVATE ${out})
endfunction()

# quern_kernels(FOLDER): compiles FOLDER's *.kernel.cpp once per instruction set, in namespace quern::<level>; *.avx512.kernel.cpp for
# avx512 only. What CPUs with avx512 may lack is apart: *.avx512_bf16.kernel.cpp, in namespace quern::avx512_bf16.
function(quern_kernels folder)
  file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.kernel.cpp)
  set(own_kernels ${kernels})
  list(FILTER kernels EXCLUDE REGEX "\\.avx512(_bf16)?\\.kernel\\.cpp$")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(levels x86_64_v2 avx2 avx_vnni avx512 avx512_bf16)
  else()
    set(levels neon)
  endif()
  set(flags_x86_64_v2 -march=x86-64-v2)
  set(flags_avx2 -mavx2 -mfma -mf16c -mbmi2)
  set(flags_avx_vnni ${flags_avx2} -mavxvnni)
  set(flags_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx2 -mfma -mf16c -mbmi2
                   -mprefer-vector-width=512)
  set(flags_avx512_bf16 ${flags_avx512} -mavx512bf16)
  set(flags_neon -march=armv8.2-a+dotprod+fp16)
  # The kernels of a debug build are optimised all the same: without it the tests take minutes.
  set(optimisation -O2)
  if(QUERN_SANITIZE)
    set(optimisation -O1)
    # A tile is one function of thousands of loads: with checks written out at each the compiler needs minutes for every instruction set.
    # Addresses are checked by calls, undefined behaviour is not.
    set(few_checks -fno-sanitize=undefined)
    if(QUERN_SANITIZE MATCHES address)
      set(calls asan-instrumentation-with-call-threshold=0)
      list(APPEND few_checks $<IF:$<CXX_COMPILER_ID:GNU>,--param;${calls},-mllvm;-${calls}>)
    endif()
    set_property(SOURCE ${folder}/matmul.kernel.cpp ${folder}/matmul_two_streams.avx512.kernel.cpp ${folder}/matmul_unpacked.avx512.kernel.cpp
                 PROPERTY COMPILE_OPTIONS ${few_checks})
  endif()
  foreach(level IN LISTS levels)
    set(sources ${own_kernels})
    list(FILTER sources INCLUDE REGEX "\\.${level}\\.kernel\\.cpp$")
    if(NOT level STREQUAL "avx512_bf16")
      list(APPEND sources ${kernels})
    endif()
    add_library(quern_${folder}_${level} OBJECT ${sources})
    target_include_directories(quern_${folder}_${level} PRIVATE ${PROJECT_SOURCE_DIR}/src)
    target_compile_definitions(quern_${folder}_${level} PRIVATE QUERN_ISA=${level} QUERN_ISA_${level}=1)
    if(level STREQUAL "avx_vnni")  # its floats are those of avx2
      target_compile_definitions(quern_${folder}_${level} PRIVATE QUERN_ISA_avx2=1)
    elseif(level STREQUAL "avx512_bf16")  # all but its products are avx512's
      target_compile_definitions(quern_${folder}_${level} PRIVATE QUERN_ISA_avx512=1)
    endif()
    target_compile_options(quern_${folder}_${level} PRIVATE ${flags_${level}} ${optimisation} -fno-lto -fno-exceptions -fno-math-errno)
    target_link_libraries(quern_${folder}_${level} PRIVATE quern_options)
    target_sources(quern_${folder} PRIVATE $<TARGET_OBJECTS:quern_${folder}_${level}>)
    set_property(GLOBAL APPEND PROPERTY QUERN_ISA_LIBRARIES quern_${folder}_${level})
  endforeach()
endfunction()
