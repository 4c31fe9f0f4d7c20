#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to pictures, embeddings and a classifier: installs what is missing, builds, draws four pets with the small model that
# comes with muster, encodes 2,000 real documents with a real model on 2 ranks, and shows what came out: a search, and a report with a
# map of the embeddings. Then it makes a classifier out of class names and documents without labels. Run it again and it starts where
# it stopped; a finished demo only shows its result.
#
#   scripts/demo.sh [flags for `muster encode`, for example --fresh]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$repo_root"

scripts/bootstrap.sh
scripts/build.sh default --target muster

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

# show_job FOLDER PHASE FLAGS...: a finished job says only that it is, so the line of its log that says what came of it follows.
show_job() {
  local folder=$1 finished=no
  shift
  if [[ -e $folder/manifest.json && $fresh == no ]]; then finished=yes; fi
  show build/muster "$@" -o "$folder"
  if [[ $finished == yes ]]; then
    grep " $1: " "$folder/logs/rank_00000.log" | tail -n 1 || true
  fi
}

# The model is in the repository: nothing to fetch.
demo_pets() {
  local again=()
  if [[ $fresh == yes ]]; then again=(--fresh); fi
  show_job out/pets sample -n 2 --model configs/models/tiny-emoji --prompts "A cat" "A dog" "A bird" "A fish" "${again[@]}"
  printf 'The pets: %s/out/pets/contact_sheet.png\n' "$repo_root"
}

demo_encode() {
  scripts/fetch_models.sh all-MiniLM-L6-v2
  show_job out/demo encode -m models/all-MiniLM-L6-v2 -i configs/demo/debian_2000.tsv.gz -n 2 \
    --labels configs/demo/debian_2000_sections.tsv.gz "$@"
  show build/muster search out/demo "a text editor"
  if [[ ! -e out/demo/report.html ]]; then show build/muster report out/demo; fi
}

# 40 classes of which only names and keywords are known: encode, pseudo-labels, training, labels for the test documents, scores.
demo_pipeline() {
  local again=()
  if [[ $fresh == yes ]]; then again=(--fresh); fi
  show build/muster teleclass configs/teleclass/debtags_small.yaml -n 2 -o out/demo_teleclass "${again[@]}"
  show head -n 4 out/demo_teleclass/submission.csv
}

fresh=no
if [[ " $* " == *" --fresh "* ]]; then fresh=yes; fi
demo_pets
demo_encode "$@"
demo_pipeline
printf '\nThe results are out/pets/contact_sheet.png, out/demo/embeddings.h5 and out/demo_teleclass/submission.csv; scripts/demo.sh --fresh computes them anew.\n'
printf 'The reports, with a map of the embeddings and with scores: %s/out/{demo,demo_teleclass}/report.html\n' "$repo_root"
if [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]] && command -v xdg-open >/dev/null; then
  xdg-open out/demo/report.html >/dev/null 2>&1 || true  # a desktop without a browser is no failure
fi
