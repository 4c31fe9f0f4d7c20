#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds and runs the tests.
#
#   scripts/test.sh [--full] [ctest arguments]
#
# Without --full the tests labelled `full` (long forms, Slurm, fuzzing, sanitizers, the build with CUDA hidden) are left out: 7 minutes
# on two cores instead of 25. For example: scripts/test.sh -R formats --verbose
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$repo_root"

full=no
selection=(-LE '^full$')
if [[ ${1:-} == --full ]]; then
  full=yes
  selection=()
  shift
fi
if [[ $full == yes ]]; then scripts/bootstrap.sh --full; else scripts/bootstrap.sh; fi
scripts/fetch_models.sh all-MiniLM-L6-v2
if [[ $full == yes ]]; then
  scripts/fetch_models.sh all-mpnet-base-v2
  scripts/fetch_corpus.sh || say "without the corpus the tests that read all of it are skipped, and say so"
fi
scripts/build.sh
# Tests say in tests/CMakeLists.txt how many cores they take and what they cannot share.
exec ctest --test-dir build --parallel "$(build_jobs)" --output-on-failure "${selection[@]}" "$@"
