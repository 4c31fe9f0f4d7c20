#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes of the package lists of this Debian release
#   data/debian.tsv.gz   the English descriptions of all packages, about 64,000 real documents (8 MB)
#   data/debtags/        a task of hierarchical multi-label classification on 49,145 of them, in the Amazon_products
#                        layout: 646 classes, gold labels in gold/ (23 MB; scripts/debian_corpus.py says how it is made)
# Uses package lists of its own in the cache folder, so it needs no root and leaves the system's lists alone.
#
#   scripts/fetch_corpus.sh [--refresh]
#
# The lists change with point releases; the frozen samples in configs/demo do not.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

corpus=$repo_root/data/debian.tsv.gz
task=$repo_root/data/debtags
missing=()
for target in "$corpus" "$task/packages.tsv"; do  # the last file of a task
  if [[ -e $target && ${1:-} != --refresh ]]; then
    say "${target#"$repo_root"/} is there (--refresh makes it anew)"
  else
    missing+=("$target")
  fi
done
((${#missing[@]} > 0)) || exit 0

command -v apt-get >/dev/null || fail 2 "apt-get is not here: the corpus is made of Debian's package lists"
make_cache_dir
need_free_mb 200 "$(cache_dir)" "fetching the package lists"
apt_dir=$(cache_dir)/apt
mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial" "$apt_dir/debtags"
# The sandbox user could not write to the cache folder of root.
own_apt=(apt-get -qq -o Dir::State::Lists="$apt_dir/lists" -o Dir::Cache="$apt_dir/cache" -o APT::Sandbox::User="$(id -un)"
  -o Acquire::Languages=en)
"${own_apt[@]}" update >&2 ||
  fail 3 "apt-get could not fetch the package lists (its message is above); behind a proxy set http_proxy"

for target in "${missing[@]}"; do
  if [[ $target == "$corpus" ]]; then
    "$repo_root/scripts/debian_corpus.py" corpus --lists "$apt_dir/lists" --output "$corpus" \
      --sections "$repo_root/data/debian_sections.tsv.gz"
    continue
  fi
  # The vocabulary of the tags is a file of package debtags, which need not be installed.
  rm -f "$apt_dir"/debtags/*.deb
  { (cd "$apt_dir/debtags" && "${own_apt[@]}" download debtags) >&2 &&
    dpkg-deb -x "$apt_dir"/debtags/debtags_*.deb "$apt_dir/debtags"; } ||
    fail 3 "apt-get could not fetch the package debtags, which holds the classes (its message is above)"
  "$repo_root/scripts/debian_corpus.py" debtags --lists "$apt_dir/lists" \
    --vocabulary "$apt_dir/debtags/usr/share/debtags/vocabulary" --output "$task"
done
