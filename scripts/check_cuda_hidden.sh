#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Configures and builds the program as on a machine without CUDA, in build/cuda-hidden, and starts it. A test labelled `full`.
#
# Toolkits, and the headers and NCCL of the CUDA wheels, are covered with empty folders in a mount namespace of this script's
# own, so that symbolic links to them dangle too. Where namespaces are not allowed, CMake is told to find no CUDA.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$repo_root"

binary_dir=$repo_root/build/cuda-hidden
libtorch=$(find_libtorch)

namespace=(unshare --mount)
if (($(id -u) != 0)); then namespace+=(--user --map-root-user); fi
if [[ -z ${MUSTER_CUDA_HIDDEN:-} ]]; then
  if [[ ! -e /usr/include/cuda_runtime_api.h ]] && "${namespace[@]}" mount -t tmpfs none /mnt 2>/dev/null; then
    MUSTER_CUDA_HIDDEN=mounts exec "${namespace[@]}" "$0"
  fi
  say "toolkits cannot be covered here (no mount namespace, or a toolkit in /usr/include); CMake is told to find no CUDA"
  export MUSTER_CUDA_HIDDEN=cmake
fi

hide_toolkits() {
  local nvcc dir
  nvcc=$(command -v nvcc || true)
  for dir in /usr/local/cuda /usr/local/cuda-* /usr/lib/cuda "${CUDA_HOME:-}" "${CUDA_PATH:-}" "${nvcc:+$(realpath "$nvcc")/../..}" \
    "${libtorch%/*}"/nvidia/*/include "${libtorch%/*}"/nvidia/nccl; do
    if [[ -n $dir && -d $dir ]]; then mount -t tmpfs none "$(realpath "$dir")"; fi
  done
}

arguments=(-S . -B "$binary_dir" -DCMAKE_BUILD_TYPE=Release -DMUSTER_TESTS=OFF -DMUSTER_CUDA=AUTO -DLibTorch_ROOT="$libtorch")
if [[ $MUSTER_CUDA_HIDDEN == mounts ]]; then
  hide_toolkits
else
  arguments+=(-DCMAKE_DISABLE_FIND_PACKAGE_MusterCuda=TRUE)
fi
unset CUDA_HOME CUDA_PATH LD_LIBRARY_PATH
if command -v ninja >/dev/null; then arguments+=(-G Ninja); fi
if command -v ccache >/dev/null; then
  arguments+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros}
fi

# What an earlier configure found must not answer for this one.
rm -f "$binary_dir/CMakeCache.txt"
log=$(cmake "${arguments[@]}")
grep 'CUDA library: FALSE' <<<"$log" || fail 1 "CUDA was found although it is hidden: $log"
cmake --build "$binary_dir" --parallel "$(build_jobs)" --target muster

[[ ! -e $binary_dir/libmuster_cuda.so ]] || fail 1 "libmuster_cuda.so was built although CUDA is hidden"
if readelf -d "$binary_dir/muster" | grep -E 'NEEDED.*(cuda|nccl|nvrtc)'; then
  fail 1 "the program is linked to CUDA"
fi
"$binary_dir/muster" --version
