#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fuzzes what reads files: builds the targets of tests/fuzz with libFuzzer under AddressSanitizer and UndefinedBehaviorSanitizer
# in build/fuzz, and lets them work on their seeds. A test labelled `full` is this with its defaults.
#
#   scripts/fuzz.sh [--minutes N] [TARGET ...]
#
# N minutes (default 1) are shared by the targets (default all), a process for each core. What they learn is kept in
# build/fuzz/corpus and goes on from there; an input that breaks a target goes to build/fuzz/findings, and the exit code is 1.
# docs/testing.md says what to do with it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$repo_root"

readonly kSkipped=77
minutes=1
if [[ ${1:-} == --minutes ]]; then
  minutes=${2:-}
  [[ $minutes =~ ^[1-9][0-9]*$ ]] || fail 2 "--minutes takes a whole number, not '$minutes'"
  shift 2
fi
all_targets=()
for source in tests/fuzz/*_target.cpp; do all_targets+=("$(basename "$source" _target.cpp)"); done
targets=("$@")
if ((${#targets[@]} == 0)); then targets=("${all_targets[@]}"); fi
for target in "${targets[@]}"; do
  [[ " ${all_targets[*]} " == *" $target "* ]] || fail 2 "there is no fuzz target '$target'; known: ${all_targets[*]}"
done
command -v clang++-16 >/dev/null || fail $kSkipped "skipped: fuzzing needs clang++-16; run scripts/bootstrap.sh --full"

scripts/build.sh fuzz --target "${targets[@]/#/fuzz_}"
binary_dir=$repo_root/build/fuzz
jobs=$(build_jobs)
seconds=$((minutes * 60 * jobs / ${#targets[@]}))
if ((seconds < 1)); then seconds=1; fi
export TMPDIR
TMPDIR=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)  # targets write many small files
trap 'rm -rf "$TMPDIR"' EXIT
mkdir -p "$binary_dir/findings"

# One target for its share of the time; its last line tells what it did, and its log why it failed.
fuzz_one() {
  local target=$1 log=$binary_dir/findings/$1.log dictionary=tests/fuzz/$1.dict options
  options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 -handle_term=0
    -artifact_prefix="$binary_dir/findings/$target-")
  if [[ -e $dictionary ]]; then options+=(-dict="$dictionary"); fi
  mkdir -p "$binary_dir/corpus/$target"
  if UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=allow_addr2line=1 "$binary_dir/fuzz_$target" "${options[@]}" \
    "$binary_dir/corpus/$target" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
    say "$target: $(grep -E '^#[0-9]+.*DONE' "$log" | tail -n 1 | tr -s '\t ' ' ')"
    rm "$log"
  else
    say "$target: BROKEN"
    grep -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE|RELOAD|pulse|INITED)' "$log" | tail -n 60 >&2
    return 1
  fi
}

say "$seconds s for each of ${#targets[@]} targets, $jobs at a time"
failed=()
running=0
for target in "${targets[@]}"; do
  if ((running == jobs)); then
    wait -n || failed+=(one)
    running=$((running - 1))
  fi
  fuzz_one "$target" &
  running=$((running + 1))
done
while ((running-- > 0)); do wait -n || failed+=(one); done
((${#failed[@]} == 0)) || fail 1 "${#failed[@]} of ${#targets[@]} targets broke; inputs and logs are in build/fuzz/findings"
