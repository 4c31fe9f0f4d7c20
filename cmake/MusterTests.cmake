# SPDX-License-Identifier: Apache-2.0
# Tests are ordinary ctest entries. Those with the label `full` run only with scripts/test.sh --full.

find_package(GTest REQUIRED)

# Ranks of a test share one machine: more of them than cores, and as root in containers.
set(MUSTER_TEST_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  MUSTER_SOURCE_DIR=${PROJECT_SOURCE_DIR} MUSTER_PROGRAM=${PROJECT_BINARY_DIR}/muster
  MUSTER_TOY_PROGRAM=${PROJECT_BINARY_DIR}/tests/muster_toy)

file(GLOB support_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/support/*.cpp)
list(REMOVE_ITEM support_sources ${PROJECT_SOURCE_DIR}/tests/support/mpi_main.cpp)
add_library(muster_test_support STATIC ${support_sources})
target_include_directories(muster_test_support PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
target_link_libraries(muster_test_support PUBLIC muster_options muster_core GTest::gtest GTest::gmock)

# muster_test_binary(<target> SOURCES files... [ROOMS rooms...] [LIBRARIES targets...] [MPI])
# MPI: a main that starts MPI and runs every test on all ranks.
function(muster_test_binary target)
  cmake_parse_arguments(arg "MPI" "" "SOURCES;ROOMS;LIBRARIES" ${ARGN})
  add_executable(${target} ${arg_SOURCES})
  list(TRANSFORM arg_ROOMS PREPEND muster_)
  target_link_libraries(${target} PRIVATE muster_test_support ${arg_ROOMS} ${arg_LIBRARIES})
  if(MUSTER_SANITIZE)
    # The optimizer takes half of the time that a sanitized test needs to compile.
    target_compile_options(${target} PRIVATE -O0)
  endif()
  if(arg_MPI)
    target_sources(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support/mpi_main.cpp)
    target_link_libraries(${target} PRIVATE muster_comm)
  else()
    target_link_libraries(${target} PRIVATE GTest::gtest_main)
  endif()
endfunction()

# muster_room_test(<room> [LIBRARIES targets...] [NOT_TESTS files...])
# test_<room> from tests/<room>/*.cpp, and test_<room>_mpi from its *_mpi_test.cpp where there are some.
function(muster_room_test room)
  cmake_parse_arguments(arg "" "" "LIBRARIES;NOT_TESTS" ${ARGN})
  set(folder ${PROJECT_SOURCE_DIR}/tests/${room})
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cpp)
  foreach(file IN LISTS arg_NOT_TESTS)
    list(REMOVE_ITEM sources ${folder}/${file})
  endforeach()
  set(mpi_sources ${sources})
  list(FILTER mpi_sources INCLUDE REGEX "_mpi_test\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "_mpi_test\\.cpp$")
  if(NOT sources)
    message(FATAL_ERROR "room '${room}' has no test under tests/${room}")
  endif()
  muster_test_binary(test_${room} SOURCES ${sources} ROOMS ${room} LIBRARIES ${arg_LIBRARIES})
  if(mpi_sources)
    muster_test_binary(test_${room}_mpi SOURCES ${mpi_sources} ROOMS ${room} LIBRARIES ${arg_LIBRARIES} MPI)
  endif()
endfunction()

# muster_add_test(<name> <target> [FILTER pattern] [SECONDS limit] [CORES n] [ENVIRONMENT NAME=value...] [FULL])
# One entry that runs a test binary, or the tests of it that match. FULL: the long form, with MUSTER_LONG=1.
function(muster_add_test name target)
  cmake_parse_arguments(arg "FULL" "FILTER;SECONDS;CORES" "ENVIRONMENT;LAUNCHER" ${ARGN})
  add_test(NAME ${name} COMMAND ${arg_LAUNCHER} $<TARGET_FILE:${target}>
    $<$<BOOL:${arg_FILTER}>:--gtest_filter=${arg_FILTER}> $<$<BOOL:${arg_FULL}>:--gtest_also_run_disabled_tests>
    COMMAND_EXPAND_LISTS)
  if(NOT arg_SECONDS)
    set(arg_SECONDS 300)
  endif()
  if(NOT arg_CORES)
    set(arg_CORES 1)
  endif()
  set(environment ${MUSTER_TEST_ENVIRONMENT} ${arg_ENVIRONMENT})
  if(arg_FULL)
    list(APPEND environment MUSTER_LONG=1)
    set_tests_properties(${name} PROPERTIES LABELS full)
  endif()
  set_tests_properties(${name} PROPERTIES ENVIRONMENT "${environment}" TIMEOUT ${arg_SECONDS} PROCESSORS ${arg_CORES})
endfunction()

# add_mpi_test(<target> RANKS 1 2 4 [FILTER pattern] [SUFFIX word] [ENVIRONMENT NAME=value...] [FULL])
# A test binary under mpirun, an ordinary entry for every rank count.
function(add_mpi_test target)
  cmake_parse_arguments(arg "FULL" "FILTER;SUFFIX" "RANKS;ENVIRONMENT" ${ARGN})
  string(REGEX REPLACE "^test_|_mpi$" "" room ${target})
  set(forward CORES 2)
  if(arg_FULL)
    list(APPEND forward FULL)
  endif()
  if(arg_FILTER)
    list(APPEND forward FILTER ${arg_FILTER})
  endif()
  foreach(ranks IN LISTS arg_RANKS)
    muster_add_test(${room}${arg_SUFFIX}_${ranks}_ranks ${target} ${forward} ENVIRONMENT ${arg_ENVIRONMENT}
      LAUNCHER ${MPIEXEC_EXECUTABLE} -n ${ranks} --oversubscribe --bind-to none -q)
  endforeach()
endfunction()
