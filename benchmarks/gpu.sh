#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Takes muster to a machine with a GPU and checks it there: parity, speed, memory, invariance and NCCL, in one call.
#
#   benchmarks/gpu.sh bundle [--build-dir DIR] [--model FOLDER|none] [FILE]
#       Builds muster with libmuster_cuda.so and packs it with the libraries that a bare machine lacks, Open MPI, small models and
#       documents: at most 60 MB. FILE ends in .tar.gz, .tar.xz or .tar.zst [build/gpu-bundle.tar.xz]. --build-dir takes what is built
#       there instead of scripts/build.sh's folder; --model is carried with its weights cut to bf16 [models/all-MiniLM-L6-v2].
#
#   benchmarks/gpu.sh run [DIR|FILE] [--output DIR] [--only PART,...] [--minutes N] [--rehearse]
#       On the other machine, which needs LibTorch 2.11 (of the torch that python3 imports, or LIBTORCH=its folder), Python and a
#       driver. Prints PASS, FAIL or SKIP and why for each part, and writes gpu-check.json and logs to DIR [gpu-check]. --rehearse
#       runs the GPU's parts on the CPU, small: it shows that the check works, its figures mean nothing. Exit code 1 when a part
#       failed, 77 when no part that needs the GPU could run.
#
# A bundle holds this script: tar xf gpu-bundle.tar.xz; gpu-bundle/gpu.sh run
# shellcheck disable=SC1091,SC2154  # bundle() sources scripts/common.sh, which a bundle does not hold
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

readonly kLimitBytes=60000000
# What every machine has, and what comes with LibTorch and the driver.
readonly kSystem='^(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|anl|nsl|nss_.*|stdc\+\+|gcc_s))\.so'
readonly kOfTorch='^lib(torch.*|c10.*|gomp|shm|cu[a-z]+|cudnn.*|nccl|nv[a-zA-Z]+)[-.]'

# ---- bundle -----------------------------------------------------------------------------------------------------------------

# Libraries of the system that these files need, by path; transitively, as ldd tells.
libraries_of() {
  ldd "$@" 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u | while read -r path; do
    local name=${path##*/}
    if ! [[ $name =~ $kSystem || $name =~ $kOfTorch ]]; then printf '%s\n' "$path"; fi
  done
}

copy_libraries() {
  local to=$1 path
  shift
  libraries_of "$@" | while read -r path; do
    if [[ ! -e $to/${path##*/} ]]; then cp -L "$path" "$to/"; fi
  done
}

# Open MPI finds its parts in folders; of its plugins those come along that need nothing else (the others are for fabrics).
copy_plugins() {
  local from=$1 to=$2 lib=$3 plugin needed
  mkdir -p "$to"
  for plugin in "$from"/*.so; do
    needed=$(libraries_of "$plugin" | while read -r path; do [[ -e $lib/${path##*/} ]] || printf '%s\n' "$path"; done)
    if [[ -z $needed ]]; then cp -L "$plugin" "$to/"; fi
  done
}

# folder_of NAME: what Open MPI says of its own installation.
mpi_folder() { ompi_info --path "$1" --parsable | awk -F: 'NR == 1 { print $NF }'; }

copy_open_mpi() {
  local stage=$1 plugins pmix
  plugins=$(mpi_folder pkglibdir)
  cp -L "$(command -v mpirun)" "$stage/bin/mpirun"
  cp -L "$(command -v orted)" "$stage/bin/orted"
  copy_libraries "$stage/lib" "$stage"/bin/{mpirun,orted} "$plugins"/mca_pmix_*.so
  copy_plugins "$plugins" "$stage/openmpi/plugins" "$stage/lib"
  mkdir -p "$stage/openmpi/share"
  cp -rL "$(mpi_folder pkgdatadir)"/*.txt "$stage/openmpi/share/"
  # PMIx outside Open MPI has plugins of its own, beside its library.
  pmix=$(libraries_of "$plugins"/mca_pmix_*.so | grep '/libpmix\.so' | head -n 1) || true
  if [[ -n $pmix ]]; then
    pmix=$(dirname "$(realpath "$pmix")")
    copy_plugins "$pmix/pmix" "$stage/openmpi/pmix" "$stage/lib"
  fi
}

copy_data() {
  local stage=$1 model=$2
  mkdir -p "$stage/data/models"
  cp "$repo_root/configs/demo/debian_2000.tsv.gz" "$stage/data/"
  cp -r "$repo_root/tests/phases/fixtures/tiny_encoder" "$stage/data/models/"
  if [[ $model != none ]]; then
    python3 "$here/gpu_models.py" shrink "$model" "$stage/data/models/$(basename "$model")"
  fi
  cp "$here"/{gpu.sh,gpu_check.py,gpu_models.py} "$stage/"
}

pack() {
  local from=$1 name=$2 file=$3 filter
  case $file in
    *.tar.gz) filter='gzip -6' ;;
    *.tar.xz) filter='xz -6 -T0' ;;
    *.tar.zst) filter='zstd -19 -T0 -q' ;;
    *) fail 2 "$file: a bundle ends in .tar.gz, .tar.xz or .tar.zst" ;;
  esac
  mkdir -p "$(dirname "$file")"
  tar -C "$from" --sort=name --owner=0 --group=0 --numeric-owner -cf - "$name" | $filter >"$file.part"
  local bytes
  bytes=$(stat -c %s "$file.part")
  if ((bytes > kLimitBytes)); then
    rm -f "$file.part"
    fail 1 "the bundle has $bytes bytes, more than $kLimitBytes; try .tar.xz, or --model none"
  fi
  mv "$file.part" "$file"
  say "$file: $bytes bytes of at most $kLimitBytes"
}

bundle() {
  source "$here/../scripts/common.sh"
  local build_dir='' model=$repo_root/models/all-MiniLM-L6-v2 file=''
  while (($# > 0)); do
    case $1 in
      --build-dir) build_dir=$(cd "$2" && pwd) && shift 2 ;;
      --model) model=$2 && shift 2 ;;
      -*) fail 2 "bundle has no option $1" ;;
      *) file=$1 && shift ;;
    esac
  done
  file=${file:-$repo_root/build/gpu-bundle.tar.xz}
  if [[ $model != none && ! -e $model/model.safetensors ]]; then
    fail 2 "$model has no model.safetensors; fetch it with scripts/fetch_models.sh, or say --model none"
  fi
  local targets=(muster muster_cuda test_nccl_gpu compare_embeddings)
  if [[ -z $build_dir ]]; then
    "$repo_root/scripts/build.sh" cuda --target "${targets[@]}" >&2
    build_dir=$repo_root/build
  else
    cmake --build "$build_dir" --target "${targets[@]}" >&2
  fi

  staging=$(mktemp -d)
  trap 'rm -rf "$staging"' EXIT
  local stage=$staging/gpu-bundle
  mkdir -p "$stage"/{bin,lib,libstdc++}
  cp "$build_dir/muster" "$build_dir/compare_embeddings" "$build_dir/test_nccl_gpu" "$stage/bin/" 2>/dev/null ||
    cp "$build_dir/muster" "$build_dir"/tests/{compare_embeddings,test_nccl_gpu} "$stage/bin/"
  cp "$build_dir/libmuster_cuda.so" "$stage/lib/"
  strip --strip-unneeded "$stage"/bin/* "$stage"/lib/*
  copy_libraries "$stage/lib" "$build_dir"/muster "$build_dir/libmuster_cuda.so" "$stage/bin/test_nccl_gpu"
  cp -L "$(gcc -print-file-name=libstdc++.so.6)" "$(gcc -print-file-name=libgcc_s.so.1)" "$stage/libstdc++/"
  copy_open_mpi "$stage"
  copy_data "$stage" "$model"
  {
    "$stage/bin/muster" --version
    getconf GNU_LIBC_VERSION
  } >"$stage/BUNDLE"
  pack "$staging" gpu-bundle "$file"
}

# ---- run --------------------------------------------------------------------------------------------------------------------

stop() {
  printf 'gpu.sh: %s\n' "$2" >&2
  exit "$1"
}

unpack() {
  local file=$1 to=$2
  case $file in
    *.tar.zst) zstd -dcq "$file" | tar -C "$to" -xf - ;;
    *) "$python" -m tarfile -e "$file" "$to" ;;  # knows gzip and xz by itself
  esac
}

# Prints the folder of the bundle that was named, that this script lies in, or that `bundle` wrote.
find_bundle() {
  local given=$1
  if [[ -z $given && -e $here/BUNDLE ]]; then given=$here; fi
  if [[ -z $given ]]; then given=$(compgen -G "$here/../build/gpu-bundle.tar.*" | head -n 1) || stop 2 "which bundle? make one with: $0 bundle"; fi
  if [[ -f $given ]]; then
    unpack "$given" "$scratch"
    given=$scratch/gpu-bundle
  fi
  [[ -e $given/BUNDLE ]] || stop 2 "$given is no bundle"
  (cd "$given" && pwd)
}

find_torch() {
  local dir=${LIBTORCH:-}
  if [[ -z $dir ]]; then
    dir=$("$python" -c '
import importlib.util, os
spec = importlib.util.find_spec("torch")
print(os.path.dirname(spec.origin) if spec and spec.origin else "")' 2>/dev/null) || dir=''
  fi
  [[ -e $dir/lib/libtorch_cpu.so ]] ||
    stop 2 "LibTorch was not found: '$dir' has no lib/libtorch_cpu.so; install torch $version for $python, or set LIBTORCH to the folder that has lib/"
  printf '%s' "$dir"
}

# LibTorch's own libraries, those of the CUDA wheels beside it or of a toolkit, and where containers put the driver.
library_path() {
  local bundle=$1 torch=$2 dir path
  path=$bundle/lib:$torch/lib
  for dir in "$torch"/../nvidia/*/lib /usr/local/cuda/lib64 /usr/local/nvidia/lib64; do
    if [[ -d $dir ]]; then path+=:$(cd "$dir" && pwd); fi
  done
  printf '%s' "$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
}

run() {
  python=${PYTHON:-python3}
  command -v "$python" >/dev/null || stop 2 "the check needs Python; set PYTHON to its path"
  local given='' options=()
  while (($# > 0)); do
    case $1 in
      --output | --only | --minutes) options+=("$1" "$2") && shift 2 ;;
      --rehearse) options+=("$1") && shift ;;
      -*) stop 2 "run has no option $1" ;;
      *) given=$1 && shift ;;
    esac
  done
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  local bundle torch
  bundle=$(find_bundle "$given")
  version=$(awk '$1 == "LibTorch" { print $2 }' "$bundle/BUNDLE")
  torch=$(find_torch)
  if [[ -e $torch/version.py ]] && ! grep -q "^__version__ = '${version%.*}\." "$torch/version.py"; then
    stop 2 "the torch in $torch is $(sed -n "s/^__version__ = //p" "$torch/version.py"), but muster was built with $version"
  fi

  # Only the check's own programs see these; Python goes on with the libraries of its machine.
  export MUSTER_GPU_LIBRARIES
  MUSTER_GPU_LIBRARIES=$(library_path "$bundle" "$torch")
  local first
  if ! first=$(LD_LIBRARY_PATH=$MUSTER_GPU_LIBRARIES "$bundle/bin/muster" --version 2>&1); then
    # An older libstdc++ than the one muster was compiled with?
    MUSTER_GPU_LIBRARIES=$bundle/libstdc++:$MUSTER_GPU_LIBRARIES
    LD_LIBRARY_PATH=$MUSTER_GPU_LIBRARIES "$bundle/bin/muster" --version >/dev/null 2>&1 ||
      stop 1 "muster does not start here with LibTorch in $torch (it wants $version): $first"
  fi
  # Not exec: the unpacked bundle is removed afterwards.
  "$python" "$bundle/gpu_check.py" --bundle "$bundle" --scratch "$scratch" "${options[@]}"
}

case ${1:-} in
  bundle) shift && bundle "$@" ;;
  run) shift && run "$@" ;;
  *)
    sed -n '3,/^# shellcheck/{/^# shellcheck/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
