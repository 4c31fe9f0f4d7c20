#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Configures and builds with a preset: default, cpu and cuda go to build/, asan and fuzz to folders of their own in it.
#
#   scripts/build.sh [default|cpu|cuda|asan|fuzz] [-DNAME=VALUE ...] [--target NAME ...]
#
# The default preset builds libmuster_cuda.so where the CUDA headers and NCCL are found. The number of compile jobs is limited by
# memory (2 GB each) as well as by cores; CMAKE_BUILD_PARALLEL_LEVEL overrides it. ccache is used when it is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$repo_root"

preset=default
if [[ ${1:-} =~ ^(default|cpu|cuda|asan|fuzz)$ ]]; then
  preset=$1
  shift
fi
definitions=()
while [[ ${1:-} == -D* ]]; do
  definitions+=("$1")
  shift
done
binary_dir=$repo_root/build
if [[ $preset == asan || $preset == fuzz ]]; then binary_dir=$repo_root/build/$preset; fi

libtorch=$(find_libtorch)
[[ -n $libtorch ]] || fail 2 "LibTorch was not found; run scripts/bootstrap.sh, or set LibTorch_ROOT"

arguments=(--preset "$preset" -DLibTorch_ROOT="$libtorch" "${definitions[@]}")
if ! command -v ninja >/dev/null; then arguments+=(-G "Unix Makefiles"); fi
if command -v ccache >/dev/null; then
  arguments+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  # Without this ccache passes over every file that uses a precompiled header.
  export CCACHE_SLOPPINESS=${CCACHE_SLOPPINESS:-pch_defines,time_macros}
fi

# Configuring again costs seconds, and the build does it by itself when a CMake file changed: only new arguments need it here.
# They start from an empty cache, so that nothing of an earlier preset or LibTorch stays; compiled objects do stay.
stamp=$binary_dir/.configured-with
if [[ ! -e $stamp || $(<"$stamp") != "${arguments[*]}" ]]; then
  rm -f "$stamp" "$binary_dir/CMakeCache.txt"
  cmake "${arguments[@]}" >&2
  printf '%s' "${arguments[*]}" >"$stamp"
fi
cmake --build "$binary_dir" --parallel "$(build_jobs)" "$@"
