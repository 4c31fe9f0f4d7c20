#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a fresh clone to embeddings and a classifier: installs what is missing, builds, encodes 2,000 real documents with a real model
# on 2 ranks, and shows what came out: a search, and a report with a map of the embeddings. Then it trains a classifier for an epoch
# and labels documents with it. Run it again and it starts where it stopped; a finished demo only shows its result.
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

demo_encode() {
  show_job out/demo encode -m models/all-MiniLM-L6-v2 -i configs/demo/debian_2000.tsv.gz -n 2 \
    --labels configs/demo/debian_2000_sections.tsv.gz "$@"
  show build/muster search out/demo "a text editor"
  if [[ ! -e out/demo/report.html ]]; then show build/muster report out/demo; fi
}

# One epoch of a new head: class embeddings that start from the names of the 40 classes.
demo_classifier() {
  local task=configs/demo/debtags_small again=()
  if [[ $fresh == yes ]]; then again=(--fresh); fi
  show_job out/demo_train train configs/train/classifier.yaml -n 2 --head bilinear --epochs 1 --lr 2e-4 --batch-per-rank 8 \
    "${again[@]}"
  show_job out/demo_infer infer -m out/demo_train/model -i $task/test/test_corpus.txt.gz --input-format tsv -n 2 \
    --label-style names "${again[@]}"
  show head -n 4 out/demo_infer/submission.csv
}

fresh=no
if [[ " $* " == *" --fresh "* ]]; then fresh=yes; fi
demo_encode "$@"
demo_classifier
printf '\nThe results are out/demo/embeddings.h5 and the classifier out/demo_train/model; scripts/demo.sh --fresh computes them anew.\n'
printf 'The report, with a map of the embeddings: %s/out/demo/report.html\n' "$repo_root"
if [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]] && command -v xdg-open >/dev/null; then
  xdg-open out/demo/report.html >/dev/null 2>&1 || true  # a desktop without a browser is no failure
fi
