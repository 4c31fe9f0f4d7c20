#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a bundle with benchmarks/gpu.sh and runs it where the libraries it must bring are gone: in a mount namespace of its own they
# are covered, and LibTorch lies at another place than where muster was built. Without a GPU every part that needs one must be
# skipped, and its rehearsal on the CPU must pass.
#
#   tests/benchmarks/gpu_bundle_test.sh BUILD_DIR
# shellcheck disable=SC1091,SC2154  # scripts/common.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/../../scripts/common.sh"

build_dir=$(cd "$1" && pwd)
libtorch=$(find_libtorch)

namespace=(unshare --mount)
if (($(id -u) != 0)); then namespace+=(--user --map-root-user); fi
if [[ -z ${MUSTER_BARE:-} ]]; then
  if ! "${namespace[@]}" mount -t tmpfs none /mnt 2>/dev/null; then
    say "skipped: mount namespaces are not allowed here"
    exit 77
  fi
  scratch=$(mktemp -d)
  trap 'rm -rf --one-file-system "$scratch"' EXIT
  "$repo_root/benchmarks/gpu.sh" bundle --build-dir "$build_dir" --model none "$scratch/gpu-bundle.tar.gz"
  mkdir "$scratch/elsewhere"
  # Not exec: the folder is removed afterwards.
  MUSTER_BARE=$scratch "${namespace[@]}" "$0" "$build_dir"
  exit
fi
scratch=$MUSTER_BARE

# ---- in the namespace -------------------------------------------------------------------------------------------------------

cover() {
  local path
  for path in "$@"; do
    if [[ -d $path ]]; then mount -t tmpfs none "$path"; elif [[ -e $path ]]; then mount --bind /dev/null "$(realpath "$path")"; fi
  done
}

mount --bind "$(dirname "$libtorch")" "$scratch/elsewhere"
libraries=$(ldd "$build_dir/muster" | awk '$3 ~ /lib(mpi|open-|hdf5|yaml-cpp|fmt|icu|hwloc|event)/ { print $3 }')
plugins=$(ompi_info --path pkglibdir --parsable | awk -F: 'NR == 1 { print $NF }')
# shellcheck disable=SC2046,SC2086  # one path a word
cover $libraries $(ldconfig -p | awk '/libpmix/ { print $NF }') "$plugins" "$(command -v mpirun)" "$(command -v orted)"
cover "$(realpath "$(dirname "$libtorch")")" "$build_dir"
export LIBTORCH=$scratch/elsewhere/${libtorch##*/}
unset LD_LIBRARY_PATH
cd "$scratch"
tar xf gpu-bundle.tar.gz

expect() {
  local wanted=$1 said
  if ! said=$(grep -E "$wanted" <<<"$output"); then fail 1 "the check does not say '$wanted' but: $output"; fi
  say "$said"
}

output=$(gpu-bundle/gpu.sh run --output plain) && code=0 || code=$?
expect '^PASS program '
if grep -q 'GPUs: none' <<<"$output"; then
  for part in parity nccl abort speed invariance two_ranks peer; do expect "^SKIP $part .*muster info sees no GPU"; done
  ((code == 77)) || fail 1 "without a GPU the exit code is 77, not $code"
fi

output=$(gpu-bundle/gpu.sh run "$scratch/gpu-bundle.tar.gz" --rehearse --only parity,speed,invariance,nccl --output rehearsed) ||
  fail 1 "the rehearsal failed: $output"
for part in parity speed invariance; do expect "^PASS $part "; done
grep -q '"rehearsal": true' rehearsed/gpu-check.json
