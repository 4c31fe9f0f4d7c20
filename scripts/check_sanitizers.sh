#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the rooms without LibTorch, MPI and HDF5 included, and the runner with a toy phase, under AddressSanitizer and
# UndefinedBehaviorSanitizer in build/asan, and runs their tests. What was never freed counts. A test labelled `full`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$repo_root"

scripts/build.sh asan --target sanitized_tests
# Left out: tests with a stopwatch, and those of random bytes, which the fuzz targets do better.
export GTEST_FILTER='-*Quickly*:*Fast:*Cheap:*RandomBytes*'
# Half of these wait for ranks most of the time, so twice as many as there are cores run side by side.
exec ctest --test-dir build/asan --parallel "$((2 * $(build_jobs)))" --output-on-failure \
  -R '^(core|config|formats|text|plan|taxonomy|device|report|comm|comm_2_ranks|io|fuzz_corpora|runner_alone)$'
