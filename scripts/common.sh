# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# What the scripts share: sourced, it defines functions and changes nothing.

readonly kLibtorchVersion=2.11.0
repo_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034  # used by the scripts that source this
readonly repo_root

say() { printf 'muster: %s\n' "$*" >&2; }

# fail CODE MESSAGE: 2 is something for the user to settle, 3 a model or download, 7 the disk.
fail() {
  local code=$1
  shift
  say "$*"
  exit "$code"
}

# Downloads live outside the repository, so that every clone shares them.
cache_dir() {
  local home
  home=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
  printf '%s/muster' "${XDG_CACHE_HOME:-$home/.cache}"
}

make_cache_dir() {
  local dir
  dir=$(cache_dir)
  { mkdir -p "$dir" && [[ -w $dir ]]; } 2>/dev/null ||
    fail 7 "cannot write to the cache folder $dir; set XDG_CACHE_HOME to a folder on a disk with room"
}

# need_free_mb MB FOLDER WHAT: stops before a download that would fill the disk.
need_free_mb() {
  local free
  free=$(df -Pm "$2" | awk 'NR == 2 { print $4 }')
  ((free >= $1)) || fail 7 "$3 needs $1 MB under $2, which has $free MB free; free some, or set XDG_CACHE_HOME to a larger disk"
}

# pip with the user's own index, proxy and certificate settings; only what breaks --target is overridden.
# A terminal gets its progress bar.
run_pip() {
  if [[ ! -t 2 ]]; then set -- "$@" --quiet; fi
  PIP_USER=0 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip "$@"
}

holds_libtorch() { [[ -e $1/include/ATen/core/Tensor.h && -e $1/lib/libtorch_cpu.so ]]; }

libtorch_version() {
  local header
  for header in headeronly/version.h csrc/api/include/torch/version.h; do
    if [[ -e $1/include/torch/$header ]]; then
      awk '/define TORCH_VERSION_(MAJOR|MINOR|PATCH) / { version = version dot $3; dot = "." } END { print version }' \
        "$1/include/torch/$header"
      return
    fi
  done
}

own_libtorch() { printf '%s/libtorch-%s' "$(cache_dir)" "$kLibtorchVersion"; }

# Prints the folder of LibTorch (with include/ and lib/), or nothing: LibTorch_ROOT, Torch_DIR, our own download, then
# a torch that python3 can import, when it is of the version this program is built and tested with.
find_libtorch() {
  local dir
  if [[ -n ${LibTorch_ROOT:-} || -n ${Torch_DIR:-} ]]; then
    for dir in ${LibTorch_ROOT:+"$LibTorch_ROOT" "$LibTorch_ROOT/torch"} ${Torch_DIR:+"$Torch_DIR/../../.." "$Torch_DIR"}; do
      if holds_libtorch "$dir"; then
        (cd "$dir" && pwd)
        return
      fi
    done
    fail 2 "LibTorch_ROOT='${LibTorch_ROOT:-}' Torch_DIR='${Torch_DIR:-}': no include/ATen/core/Tensor.h with lib/libtorch_cpu.so there"
  fi
  dir=$(own_libtorch)/torch
  if holds_libtorch "$dir"; then
    echo "$dir"
    return
  fi
  dir=$(python3 -c '
import importlib.util, os
spec = importlib.util.find_spec("torch")
print(os.path.dirname(spec.origin) if spec and spec.origin else "")' 2>/dev/null) || return 0
  if [[ -n $dir ]] && holds_libtorch "$dir" && [[ $(libtorch_version "$dir") == "${kLibtorchVersion%.*}".* ]]; then
    echo "$dir"
  fi
}

# Compile jobs: one a core, but a file that parses torch headers can take 2 GB.
build_jobs() {
  local cores memory_mb limit
  if [[ -n ${CMAKE_BUILD_PARALLEL_LEVEL:-} ]]; then
    echo "$CMAKE_BUILD_PARALLEL_LEVEL"
    return
  fi
  cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)
  memory_mb=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
  limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
  if [[ $limit =~ ^[0-9]+$ ]] && ((limit / 1048576 < memory_mb)); then
    memory_mb=$((limit / 1048576))
  fi
  local jobs=$((memory_mb / 2048 < cores ? memory_mb / 2048 : cores))
  echo $((jobs > 0 ? jobs : 1))
}
