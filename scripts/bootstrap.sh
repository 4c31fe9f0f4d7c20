#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prepares a Debian 12 machine to build muster: the system packages and LibTorch. Idempotent; both are left alone when there.
#
#   scripts/bootstrap.sh [--cuda] [--full]
#
# --full adds what only scripts/test.sh --full needs: clang 16 with its sanitizers and libFuzzer (110 MB to fetch), and Slurm, whose
# services the tests start by themselves.
# LibTorch comes from LibTorch_ROOT, Torch_DIR, the cache folder or an importable torch; else three wheels are unpacked into the
# cache folder (0.5 GB to fetch, 1.2 GB on disk). Those three are what libtorch_cpu.so needs to load. The other CUDA wheels
# (cuBLAS, cuDNN, NCCL ...: 2 GB to fetch) come when there is a GPU, or with --cuda. A CUDA toolkit alone does not fetch them:
# libmuster_cuda.so builds against the toolkit's own headers and NCCL, and without a GPU nothing would load the wheels.
# MUSTER_NO_PACKAGES=1 skips the package check, for machines where MPI, HDF5 and the rest come from modules or a prefix.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly kPackages=(
  libopenmpi-dev openmpi-bin libhdf5-openmpi-dev libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libfmt-dev libpng-dev
  libicu-dev zlib1g-dev libssl-dev libgtest-dev libgmock-dev)
# clang 16 and not 14, which is Debian's own but cannot parse <source_location> of GCC 12.
readonly kFullPackages=(clang-16 libclang-rt-16-dev slurm-wlm munge iproute2)

# What torch 2.11.0 declares (through cuda-toolkit 13.0.2), so that the libraries agree with each other.
readonly kCpuWheels=("torch==$kLibtorchVersion" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
readonly kCudaWheels=(
  nvidia-cublas==13.1.0.3 nvidia-cufft==12.0.0.61 nvidia-cufile==1.15.1.6 nvidia-curand==10.4.0.35
  nvidia-cusolver==12.0.4.66 nvidia-cusparse==12.6.3.3 nvidia-nvjitlink==13.0.88 nvidia-cuda-nvrtc==13.0.88
  nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 nvidia-cudnn-cu13==9.19.0.56
  nvidia-cusparselt-cu13==0.8.0 nvidia-nccl-cu13==2.28.9 nvidia-nvshmem-cu13==3.4.5)

have() { command -v "$1" >/dev/null 2>&1; }

# missing_packages LIBRARY...: tools may come from anywhere; libraries are asked of dpkg.
missing_packages() {
  local missing=() installed package
  have "${CXX:-c++}" || missing+=(g++)
  have cmake || missing+=(cmake)
  have ninja || have make || missing+=(ninja-build)
  if ! have python3; then
    missing+=(python3 python3-pip)
  elif [[ -z $(find_libtorch) || ! -e $(cache_dir)/models/all-MiniLM-L6-v2 ]] && ! python3 -c 'import pip' 2>/dev/null; then
    missing+=(python3-pip)
  fi
  installed=" $(dpkg-query -W -f='${db:Status-Abbrev}${binary:Package}\n' "$@" 2>/dev/null |
    sed -n 's/^ii *\([^:]*\).*/\1/p' | tr '\n' ' ' || true)"
  for package in "$@"; do
    [[ $installed == *" $package "* ]] || missing+=("$package")
  done
  echo "${missing[*]}"
}

# apt's 700 lines of progress matter only when it fails.
apt_quietly() {
  local log
  log=$(mktemp)
  if DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -y -q "$@" >"$log" 2>&1; then
    rm -f "$log"
    return 0
  fi
  tail -n 20 "$log" >&2
  rm -f "$log"
  return 1
}

install_packages() {
  say "installing $*"
  local install=(install --no-install-recommends "$@")
  # A machine without package lists, or with old ones, needs fresh ones first; others are spared the wait.
  if apt-get -s "${install[@]}" >/dev/null 2>&1 && apt_quietly "${install[@]}"; then return; fi
  say "fetching fresh package lists"
  apt_quietly update || fail 2 "apt-get update failed (above)"
  apt_quietly "${install[@]}" || fail 2 "apt-get could not install $* (above)"
}

# check_packages LIBRARY...: what is missing of them and of the tools is installed.
check_packages() {
  [[ -z ${MUSTER_NO_PACKAGES:-} ]] || return 0
  local missing
  have dpkg-query || fail 2 "this is no Debian: install $* by their names here, then set MUSTER_NO_PACKAGES=1"
  missing=$(missing_packages "$@")
  [[ -n $missing ]] || return 0
  if (($(id -u) != 0)); then
    say "packages are missing and this is not root; ask for this line, then start again:"
    printf '\n  apt-get install -y --no-install-recommends %s\n\n' "$missing" >&2
    exit 2
  fi
  # shellcheck disable=SC2086  # a list of package names
  install_packages $missing
}

# unpack_wheels FOLDER WHEEL...: the folder appears whole or not at all.
unpack_wheels() {
  local target=$1 partial
  shift
  partial=$(mktemp -d "$(cache_dir)/.partial-XXXXXX")
  # pip unpacks beside its temporary files, which must be on the same large disk as the target.
  mkdir "$partial/tmp"
  # A fixed Python version: the libraries are wanted, not the module, and so every Python gets the same ones.
  TMPDIR="$partial/tmp" run_pip install --no-deps --no-compile --only-binary=:all: --python-version 3.11 \
    --target "$partial/tree" "$@" >&2 ||
    fail 3 "pip could not fetch $* (its message is above); behind a proxy set https_proxy, for a mirror PIP_INDEX_URL"
  mv -T "$partial/tree" "$target"
  rm -rf "$partial"
}

fetch_libtorch() {
  need_free_mb 2500 "$(cache_dir)" "fetching LibTorch"
  say "fetching LibTorch $kLibtorchVersion into $(own_libtorch) (544 MB; some minutes on a slow line)"
  rm -rf "$(own_libtorch)"
  unpack_wheels "$(own_libtorch)" "${kCpuWheels[@]}"
}

# The wheels share folders with those already there, so they are linked in file by file; the marker comes last.
fetch_cuda_wheels() {
  local target extra
  target=$(own_libtorch)
  need_free_mb 7000 "$(cache_dir)" "fetching the CUDA wheels"
  say "fetching the CUDA wheels into $target (2 GB)"
  extra=$(cache_dir)/.partial-cuda
  unpack_wheels "$extra" "${kCudaWheels[@]}"
  cp -a --link --no-clobber "$extra/nvidia" "$target/"
  rm -rf "$extra"
  : >"$target/.cuda-wheels"
}

# A LibTorch of somebody else's brings its own CUDA libraries.
lacks_cuda_wheels() {
  [[ $(find_libtorch) == "$(own_libtorch)"/torch && ! -e $(own_libtorch)/.cuda-wheels ]]
}

# One bootstrap at a time; what an interrupted one left behind goes first.
lock_cache() {
  make_cache_dir
  exec 9>"$(cache_dir)/.lock"
  flock 9
  trap 'rm -rf "$(cache_dir)"/.partial-*' EXIT
  rm -rf "$(cache_dir)"/.partial-*
}

main() {
  local want_cuda=no packages=("${kPackages[@]}") libtorch version
  while (($# > 0)); do
    case "$1" in
      --cuda) want_cuda=yes ;;
      --full) packages+=("${kFullPackages[@]}") ;;
      *) fail 2 "usage: scripts/bootstrap.sh [--cuda] [--full]" ;;
    esac
    shift
  done
  if [[ -e /dev/nvidia0 ]]; then want_cuda=yes; fi

  check_packages "${packages[@]}"
  libtorch=$(find_libtorch)
  if [[ -z $libtorch ]]; then
    lock_cache
    if [[ -z $(find_libtorch) ]]; then fetch_libtorch; fi
    libtorch=$(find_libtorch)
  fi
  if [[ $want_cuda == yes ]] && lacks_cuda_wheels; then
    lock_cache
    if lacks_cuda_wheels; then fetch_cuda_wheels; fi
  fi

  version=$(libtorch_version "$libtorch")
  [[ $version == "${kLibtorchVersion%.*}".* ]] ||
    say "warning: LibTorch ${version:-of unknown version} in $libtorch; muster is tested with $kLibtorchVersion"
  say "packages and LibTorch $version ($libtorch) are there"
}

main "$@"
