# SPDX-License-Identifier: Apache-2.0
# Finds LibTorch without its own package file, which stops where no CUDA toolkit is installed.
# Looks at LibTorch_ROOT, Torch_DIR, CMAKE_PREFIX_PATH, the bootstrap's cache folder, then at an importable torch of python3.
# Defines the imported target LibTorch::cpu (torch_cpu + c10) and LibTorch_LIBRARY_DIR, LibTorch_VERSION.

set(_libtorch_hints)
if(LibTorch_ROOT)
  list(APPEND _libtorch_hints ${LibTorch_ROOT} ${LibTorch_ROOT}/torch)
endif()
foreach(_dir IN ITEMS "${Torch_DIR}" "$ENV{Torch_DIR}")
  if(_dir)
    list(APPEND _libtorch_hints ${_dir}/../../.. ${_dir})
  endif()
endforeach()
foreach(_dir IN LISTS CMAKE_PREFIX_PATH)
  list(APPEND _libtorch_hints ${_dir} ${_dir}/torch)
endforeach()
if(NOT "$ENV{XDG_CACHE_HOME}" STREQUAL "")
  file(GLOB _libtorch_cached $ENV{XDG_CACHE_HOME}/muster/libtorch-*)
else()
  file(GLOB _libtorch_cached $ENV{HOME}/.cache/muster/libtorch-*)
endif()
foreach(_dir IN LISTS _libtorch_cached)
  list(APPEND _libtorch_hints ${_dir}/torch)
endforeach()
find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h HINTS ${_libtorch_hints} PATH_SUFFIXES include NO_DEFAULT_PATH)
if(NOT LibTorch_INCLUDE_DIR)
  find_program(_libtorch_python python3)
  if(_libtorch_python)
    execute_process(COMMAND ${_libtorch_python} -c
      "import importlib.util,os;s=importlib.util.find_spec('torch');print(os.path.dirname(s.origin) if s else '')"
      OUTPUT_VARIABLE _libtorch_py OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(_libtorch_py)
      find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h HINTS ${_libtorch_py}/include NO_DEFAULT_PATH)
    endif()
  endif()
endif()

if(LibTorch_INCLUDE_DIR)
  get_filename_component(LibTorch_ROOT_DIR ${LibTorch_INCLUDE_DIR} DIRECTORY)
  set(LibTorch_LIBRARY_DIR ${LibTorch_ROOT_DIR}/lib)
  find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${LibTorch_LIBRARY_DIR} NO_DEFAULT_PATH)
  find_library(LibTorch_C10_LIBRARY c10 HINTS ${LibTorch_LIBRARY_DIR} NO_DEFAULT_PATH)
  if(EXISTS ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h)
    set(_libtorch_version_file ${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h)
  else()
    set(_libtorch_version_file ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include/torch/version.h)
  endif()
  if(EXISTS ${_libtorch_version_file})
    file(STRINGS ${_libtorch_version_file} _v REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
    string(REGEX REPLACE "[^0-9]+" "." _v "${_v}")
    string(REGEX REPLACE "^\\.|\\.$" "" LibTorch_VERSION "${_v}")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/bootstrap.sh, or set LibTorch_ROOT to the folder that holds torch's include/ and lib/")

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  add_library(LibTorch::c10 UNKNOWN IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${LibTorch_C10_LIBRARY})
  add_library(LibTorch::cpu UNKNOWN IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES IMPORTED_LOCATION ${LibTorch_CPU_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES "${LibTorch_INCLUDE_DIR};${LibTorch_INCLUDE_DIR}/torch/csrc/api/include"
    INTERFACE_LINK_LIBRARIES LibTorch::c10
    INTERFACE_LINK_OPTIONS "LINKER:--disable-new-dtags,-rpath,${LibTorch_LIBRARY_DIR}")
endif()
