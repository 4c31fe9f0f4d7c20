#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to embeddings: installs what is missing, builds, encodes 2,000 real documents with a real model on 2 ranks,
# and shows what came out: a search, and a report with a map of the embeddings. Run it again and it starts where it stopped; a
# finished demo only shows its result.
#
#   scripts/demo.sh [flags for `muster encode`, for example --fresh]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$repo_root"

scripts/bootstrap.sh
scripts/build.sh default --target muster
scripts/fetch_models.sh all-MiniLM-L6-v2

# Prints the command as one would type it, then runs it.
show() {
  local word line='$'
  for word in "$@"; do
    if [[ $word == *' '* ]]; then word="\"$word\""; fi
    line+=" $word"
  done
  printf '\n%s\n' "$line"
  "$@"
}

finished=no
if [[ -e out/demo/manifest.json && " $* " != *" --fresh "* ]]; then finished=yes; fi
show build/muster encode -m models/all-MiniLM-L6-v2 -i configs/demo/debian_2000.tsv.gz -o out/demo -n 2 \
  --labels configs/demo/debian_2000_sections.tsv.gz "$@"
if [[ $finished == yes ]]; then
  grep ' encode: ' out/demo/logs/rank_00000.log | tail -n 1 || true
fi
show build/muster search out/demo "a text editor"
if [[ ! -e out/demo/report.html ]]; then show build/muster report out/demo; fi
printf '\nThe result is out/demo/embeddings.h5; scripts/demo.sh --fresh computes it anew.\n'
printf 'The report, with a map of the embeddings: %s/out/demo/report.html\n' "$repo_root"
if [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]] && command -v xdg-open >/dev/null; then
  xdg-open out/demo/report.html >/dev/null 2>&1 || true  # a desktop without a browser is no failure
fi
