#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes data/emoji/: a few hundred small pictures with captions, for configs/train/emoji_autoencoder.yaml and emoji.yaml.
# The pictures are those of Debian's fonts-noto-color-emoji (SIL Open Font License 1.1), the words those of its
# unicode-cldr-core (Unicode licence). Both packages are unpacked in the cache folder; nothing is installed.
#
#   scripts/emoji_pictures.sh [--refresh]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

target=$repo_root/data/emoji
if [[ -e $target/captions.csv && ${1:-} != --refresh ]]; then
  say "${target#"$repo_root"/} is there (--refresh makes it anew)"
  exit 0
fi

command -v apt-get >/dev/null || fail 2 "apt-get is not here: the pictures come from two Debian packages"
make_cache_dir
need_free_mb 700 "$(cache_dir)" "fetching and unpacking the emoji font and the CLDR names"
work=$(cache_dir)/emoji
mkdir -p "$work"

# apt's own lists are used where they know the packages; else lists of our own in the cache folder.
fetch_packages() { (cd "$work" && apt-get -qq -o APT::Sandbox::User="$(id -un)" "$@" download fonts-noto-color-emoji unicode-cldr-core >&2); }
fetch_with_own_lists() {
  local lists=$work/apt
  mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
  local options=(-o Dir::State::Lists="$lists/lists" -o Dir::Cache="$lists/cache")
  apt-get -qq -o APT::Sandbox::User="$(id -un)" "${options[@]}" update >&2 && fetch_packages "${options[@]}"
}
font=$work/root/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
annotations=$work/root/usr/share/unicode/cldr/common/annotations/en.xml
if [[ ! -e $font || ! -e $annotations ]]; then
  rm -f "$work"/*.deb
  fetch_packages 2>/dev/null || fetch_with_own_lists ||
    fail 3 "apt-get could not fetch fonts-noto-color-emoji and unicode-cldr-core (its message is above)"
  for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
  rm -f "$work"/*.deb
fi
[[ -e $font && -e $annotations ]] || fail 3 "the packages hold no $font or no $annotations"

# Pillow renders the bitmaps: the system's, or one of our own beside the packages.
python=(python3)
if ! python3 -c 'from PIL import features; assert features.check("freetype2")' 2>/dev/null; then
  if [[ ! -d $work/python/PIL ]]; then
    need_free_mb 50 "$work" "Pillow"
    run_pip install --no-deps --target "$work/python" 'pillow>=10' ||
      fail 3 "pip could not fetch Pillow (its message is above); or install python3-pil"
  fi
  python=(env PYTHONPATH="$work/python" python3)
fi
"${python[@]}" "$repo_root/scripts/emoji_pictures.py" --font "$font" --annotations "$annotations" --output "$target"
