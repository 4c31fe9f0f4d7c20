# SPDX-License-Identifier: Apache-2.0
# The CUDA runtime and NCCL, from a toolkit or from the nvidia-* wheels beside LibTorch. nvcc is not needed.
# Defines MusterCuda::runtime and MusterCuda::nccl.
set(_cuda_hints $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
if(LibTorch_ROOT_DIR)
  file(GLOB _wheel_hints ${LibTorch_ROOT_DIR}/../nvidia/* ${LibTorch_ROOT_DIR}/../nvidia/cu*)
  list(APPEND _cuda_hints ${_wheel_hints})
endif()
# The runtime's headers include crt/, which is a wheel of its own.
find_path(MusterCuda_INCLUDE_DIR crt/host_defines.h HINTS ${_cuda_hints} PATH_SUFFIXES include)
find_library(MusterCuda_RUNTIME_LIBRARY NAMES cudart libcudart.so.13 libcudart.so.12 HINTS ${_cuda_hints} PATH_SUFFIXES lib64 lib)
find_path(MusterCuda_NCCL_INCLUDE_DIR nccl.h HINTS ${_cuda_hints} PATH_SUFFIXES include)
find_library(MusterCuda_NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${_cuda_hints} PATH_SUFFIXES lib64 lib)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(MusterCuda REQUIRED_VARS
  MusterCuda_INCLUDE_DIR MusterCuda_RUNTIME_LIBRARY MusterCuda_NCCL_INCLUDE_DIR MusterCuda_NCCL_LIBRARY)
if(MusterCuda_FOUND AND NOT TARGET MusterCuda::runtime)
  add_library(MusterCuda::runtime UNKNOWN IMPORTED)
  set_target_properties(MusterCuda::runtime PROPERTIES IMPORTED_LOCATION ${MusterCuda_RUNTIME_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${MusterCuda_INCLUDE_DIR})
  add_library(MusterCuda::nccl UNKNOWN IMPORTED)
  set_target_properties(MusterCuda::nccl PROPERTIES IMPORTED_LOCATION ${MusterCuda_NCCL_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES ${MusterCuda_NCCL_INCLUDE_DIR})
endif()
