# Compiler settings and the two functions with which every folder declares its library and its tests.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # Depend mode: what a file includes comes from the compiler's own list, not from a run of the preprocessor. The
  # sloppiness is what ccache asks for where headers are precompiled; the base directory lets checkouts share results.
  set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_DEPEND=1 CCACHE_SLOPPINESS=pch_defines,time_macros
                                      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} ${CCACHE_PROGRAM})
endif()

add_library(flyover_options INTERFACE)
target_compile_options(flyover_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Werror -fno-math-errno
                                                 -ffp-contract=off)
target_include_directories(flyover_options INTERFACE ${PROJECT_SOURCE_DIR}/src)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports false positives of these three inside its own standard library.
  target_compile_options(flyover_options INTERFACE -Wno-restrict -Wno-stringop-overflow -Wno-maybe-uninitialized)
endif()
if(FLYOVER_SANITIZE)
  target_compile_options(flyover_options INTERFACE -fsanitize=${FLYOVER_SANITIZE} -fno-sanitize-recover=all
                                                   -fno-omit-frame-pointer)
  target_link_options(flyover_options INTERFACE -fsanitize=${FLYOVER_SANITIZE})
endif()

# Where running time does not matter, compiling time does.
set(FLYOVER_COMPILE_QUICKLY $<$<CONFIG:Release>:-O1>)
set(FLYOVER_COMPILE_FULLY $<$<CONFIG:Release>:-O3>)  # a source of a QUICK library that is an exception

# Sources of a target that are compiled together, as one. Most of the time of a small one goes into the headers that it
# shares with its neighbours; a full build takes half as long. 0: each alone (preset debug, clang-tidy), which is what a
# changed file wants and what tells that each includes what it uses.
set(FLYOVER_COMPILED_TOGETHER 0 CACHE STRING "Sources that are compiled together; 0 = each alone")

function(flyover_compile_together target)
  if(FLYOVER_COMPILED_TOGETHER GREATER 0)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${FLYOVER_COMPILED_TOGETHER})
  endif()
endfunction()

# flyover_library(NAME SOURCES a.cpp ... [DEPENDS lower folders ...] [LINK external targets ...] [QUICK] [ALONE])
# One folder of src/ = one static library flyover_NAME. DEPENDS may name lower floors of the house only (a test checks
# it). QUICK: it says what is to be done, and the time is spent elsewhere. ALONE: its sources
# have names in common and are never compiled together.
function(flyover_library name)
  cmake_parse_arguments(ARG "QUICK;ALONE" "" "SOURCES;DEPENDS;LINK" ${ARGN})
  add_library(flyover_${name} STATIC ${ARG_SOURCES})
  list(TRANSFORM ARG_DEPENDS PREPEND flyover_)
  target_link_libraries(flyover_${name} PUBLIC flyover_options ${ARG_DEPENDS} ${ARG_LINK})
  if(ARG_QUICK)
    target_compile_options(flyover_${name} PRIVATE ${FLYOVER_COMPILE_QUICKLY})
  endif()
  if(NOT ARG_ALONE)
    flyover_compile_together(flyover_${name})
  endif()
endfunction()

# flyover_test(NAME SOURCES a_test.cpp ... [DEPENDS folders ...] [LINK targets ...] [LABEL fast|slow] [ALONE])
# A GoogleTest program NAME_tests; every test in it becomes a CTest entry with the label (default fast).
function(flyover_test name)
  cmake_parse_arguments(ARG "ALONE" "LABEL" "SOURCES;DEPENDS;LINK" ${ARGN})
  if(NOT ARG_LABEL)
    set(ARG_LABEL fast)
  endif()
  add_executable(${name}_tests ${ARG_SOURCES})
  list(TRANSFORM ARG_DEPENDS PREPEND flyover_)
  target_link_libraries(${name}_tests PRIVATE flyover_test_support ${ARG_DEPENDS} ${ARG_LINK} GTest::gtest_main)
  target_include_directories(${name}_tests PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_options(${name}_tests PRIVATE ${FLYOVER_COMPILE_QUICKLY})
  if(NOT ARG_ALONE)
    flyover_compile_together(${name}_tests)
  endif()
  target_precompile_headers(${name}_tests REUSE_FROM flyover_test_support)
  gtest_discover_tests(${name}_tests DISCOVERY_MODE PRE_TEST WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
                       PROPERTIES LABELS ${ARG_LABEL} TIMEOUT 900)
endfunction()

# One folder = one static library = one namespace. Lower floors first; a folder may depend on those above it in this list.
set(FLYOVER_FOLDERS
  base kernels devices tensor autograd ops parallel nn models checkpoint optim tokenizer data recipe rollout evaluate
  trainer posttrain report cli)
