# SPDX-License-Identifier: Apache-2.0
# One function per kind of target. A room is src/<room> plus include/muster/<room>; adding a file needs no edit here.

add_library(muster_options INTERFACE)
target_compile_options(muster_options INTERFACE -Wall -Wextra -Werror -Wno-missing-field-initializers
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)  # GCC 12 sees overlaps in std::string that are not there (GCC bug 105651)
target_include_directories(muster_options INTERFACE ${PROJECT_SOURCE_DIR}/include)
# Everyone formats with fmt; its definitions must also be those of the precompiled header.
target_link_libraries(muster_options INTERFACE fmt::fmt)
if(CMAKE_CXX_COMPILER_LAUNCHER MATCHES "ccache" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Lets ccache see through the precompiled header; with it go its sloppiness pch_defines,time_macros (scripts/build.sh).
  target_compile_options(muster_options INTERFACE -fpch-preprocess)
endif()
if(MUSTER_FUZZ AND NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "MUSTER_FUZZ needs libFuzzer: configure with the preset `fuzz`, or with clang++ 16 or newer")
endif()
if(MUSTER_SANITIZE OR MUSTER_FUZZ)
  # What UndefinedBehaviorSanitizer finds ends the program, too.
  target_compile_options(muster_options INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(muster_options INTERFACE -fsanitize=address,undefined)
endif()
if(MUSTER_FUZZ)
  target_compile_options(muster_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# muster_room(<name> [ROOMS rooms...] [LIBRARIES targets...] [TORCH])
# LIBRARIES stay private to the room: no public header may include theirs, and other rooms cannot see them by accident.
# Rooms that include ATen headers (TORCH) share one precompiled header: parsing them costs seconds a file.
function(muster_room name)
  cmake_parse_arguments(arg "TORCH" "" "ROOMS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/cuda/")
  if(NOT sources)
    message(FATAL_ERROR "room '${name}' has no source file under src/${name}")
  endif()
  add_library(muster_${name} STATIC ${sources})
  target_include_directories(muster_${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  list(TRANSFORM arg_ROOMS PREPEND muster_)
  target_link_libraries(muster_${name} PUBLIC muster_options ${arg_ROOMS} PRIVATE ${arg_LIBRARIES})
  if(arg_TORCH)
    target_link_libraries(muster_${name} PUBLIC LibTorch::cpu)
    if(NOT TARGET muster_torch_pch)
      file(WRITE ${PROJECT_BINARY_DIR}/torch_pch.cpp "// compiled once: the precompiled header that torch rooms share\n")
      add_library(muster_torch_pch OBJECT ${PROJECT_BINARY_DIR}/torch_pch.cpp)
      target_link_libraries(muster_torch_pch PUBLIC muster_options LibTorch::cpu)
      target_precompile_headers(muster_torch_pch PRIVATE
        <ATen/core/Tensor.h> <ATen/Functions.h> <string> <vector> <memory> <span> <fmt/format.h>)
    endif()
    target_precompile_headers(muster_${name} REUSE_FROM muster_torch_pch)
  endif()
endfunction()

# muster_instruction_set(<room> <name> flags...): src/<room>/kernels/<name>/ is compiled for processors that the rest does not
# ask for, and used where they are found at run time. No precompiled header: these files include no library's.
function(muster_instruction_set room name)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${room}/kernels/${name}/*.cpp)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set_source_files_properties(${sources} PROPERTIES HEADER_FILE_ONLY TRUE)
    return()
  endif()
  # A product and a sum are fused where the code says so, not where the compiler likes: all row counts round alike. GCC 12
  # takes its own headers' undefined vectors for a mistake (GCC bug 105593).
  set_source_files_properties(${sources} PROPERTIES SKIP_PRECOMPILE_HEADERS TRUE
    COMPILE_OPTIONS "${ARGN};-ffp-contract=off;$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>")
endfunction()

# The phases carry the version and the commit they were built from.
function(muster_version)
  set(file ${PROJECT_BINARY_DIR}/version.cpp)
  set(arguments -DSOURCE_DIR=${PROJECT_SOURCE_DIR} -DPROJECT_VERSION=${PROJECT_VERSION} -DOUTPUT=${file}
    -P ${PROJECT_SOURCE_DIR}/cmake/WriteVersion.cmake)
  execute_process(COMMAND ${CMAKE_COMMAND} ${arguments})
  add_custom_target(muster_write_version COMMAND ${CMAKE_COMMAND} ${arguments} BYPRODUCTS ${file})
  target_sources(muster_phases PRIVATE ${file})
  add_dependencies(muster_phases muster_write_version)
endfunction()

# The program is its command line as a library (tests start it with a phase of their own) and a main.
function(muster_program)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/app/*.cpp)
  list(REMOVE_ITEM sources ${PROJECT_SOURCE_DIR}/src/app/main.cpp)
  add_library(muster_app STATIC ${sources})
  target_include_directories(muster_app PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(muster_app PUBLIC muster_phases CLI11::CLI11)
  add_executable(muster src/app/main.cpp)
  target_link_libraries(muster PRIVATE muster_app)
  set_target_properties(muster PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}
    INSTALL_RPATH "$ORIGIN/../lib;${LibTorch_LIBRARY_DIR}" BUILD_RPATH "${PROJECT_BINARY_DIR};${LibTorch_LIBRARY_DIR}")
  install(TARGETS muster RUNTIME DESTINATION bin)
endfunction()

# libmuster_cuda.so: device services and NCCL. Opened at run time, and only when a GPU is used.
function(muster_cuda_library)
  if(NOT MUSTER_HAVE_CUDA)
    return()
  endif()
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS
    ${PROJECT_SOURCE_DIR}/src/comm/cuda/*.cpp ${PROJECT_SOURCE_DIR}/src/device/cuda/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_library(muster_cuda SHARED ${sources})
  target_include_directories(muster_cuda PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(muster_cuda PRIVATE muster_options muster_core MusterCuda::runtime MusterCuda::nccl)
  # The program opens it beside itself or in ../lib; CUDA and NCCL are found where they were linked.
  set_target_properties(muster_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}
    INSTALL_RPATH_USE_LINK_PATH TRUE)
  install(TARGETS muster_cuda LIBRARY DESTINATION lib)
endfunction()
