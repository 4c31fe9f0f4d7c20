#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Writes data/debian.tsv.gz: the English descriptions of all packages of this Debian release, about 64,000 real documents
# (8 MB). Uses package lists of its own in the cache folder, so it needs no root and leaves the system's lists alone.
#
#   scripts/fetch_corpus.sh [--refresh]
#
# The lists change with point releases; the frozen sample in configs/demo does not.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

target=$repo_root/data/debian.tsv.gz
if [[ -e $target && ${1:-} != --refresh ]]; then
  say "data/debian.tsv.gz is there (--refresh makes it anew)"
  exit 0
fi
command -v apt-get >/dev/null || fail 2 "apt-get is not here: the corpus is made of Debian's package lists"
make_cache_dir
need_free_mb 200 "$(cache_dir)" "fetching the package lists"
apt_dir=$(cache_dir)/apt
mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial"
# The sandbox user could not write to the cache folder of root.
apt-get -qq -o Dir::State::Lists="$apt_dir/lists" -o Dir::Cache="$apt_dir/cache" -o APT::Sandbox::User="$(id -un)" \
  -o Acquire::Languages=en update >&2 ||
  fail 3 "apt-get could not fetch the package lists (its message is above); behind a proxy set http_proxy"
"$repo_root/scripts/debian_corpus.py" corpus --lists "$apt_dir/lists" --output "$target" \
  --sections "$repo_root/data/debian_sections.tsv.gz"
