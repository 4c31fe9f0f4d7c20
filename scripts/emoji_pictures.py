#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Small captioned pictures for training a text-to-image model: emoji of a font, with the names and words of a CLDR file.

  emoji_pictures.py --font NotoColorEmoji.ttf --annotations en.xml --output FOLDER [--size 64]

Writes FOLDER/pictures/<code point>.png (RGB on white) and FOLDER/captions.csv: file, name, keywords; and a table of each group
alone, animals.csv for example. Keywords are separated by " | " and begin with the name. Animals, plants, food and the sky are taken, single code points only: no flags, people,
skin tones, signs. Equal files and one version of Pillow give equal bytes.
"""
import argparse
import csv
import pathlib
import shutil
import sys
import xml.etree.ElementTree

from PIL import Image, ImageDraw, ImageFont

BITMAP_SIZE = 109  # of the font's one strike: 136 x 128 pixels a glyph
GROUPS = [
    ("animals", "1f400-1f43c 1f43f 1f54a 1f577 1f638-1f640 1f648-1f64a 1f980-1f99f 1f9a1-1f9ad 1fab0-1fab3"),
    ("plants", "2618 1f331-1f335 1f337-1f344 1f490 1f4ae 1f940 1fab4 1fab7 1f384"),
    ("food", "2615 1f32d-1f330 1f336 1f345-1f364 1f366-1f37f 1f950-1f96f 1f9c0-1f9cb 1fad0-1fad9 1f382"),
    ("sky", "2600 2601 2604 26c4 26c5 26c8 2744 1f300 1f308 1f30a-1f30e 1f311-1f320 1f324-1f32a 1f525 1f4a7 1fa90"),
]
# What looks like a thing and carries its word, but is another: an ear of corn is no ear.
DROPPED_WORDS = {"zodiac", "Pisces", "Leo", "Taurus", "Aries", "Cancer", "Scorpio", "Capricorn", "Scorpius", "Scorpion"}


def code_points():
    """Yields (group, character) in the order of the code points of each group."""
    for group, ranges in GROUPS:
        for part in ranges.split():
            first, _, last = part.partition("-")
            for code in range(int(first, 16), int(last or first, 16) + 1):
                yield group, chr(code)


def read_annotations(path):
    """{character: (name, [keyword, ...])}; the variation selector of a few is left out."""
    names, words = {}, {}
    for annotation in xml.etree.ElementTree.parse(path).iter("annotation"):
        character = annotation.get("cp").replace("\ufe0f", "")
        if annotation.get("type") == "tts":
            names[character] = annotation.text.strip()
        else:
            words[character] = [word.strip() for word in annotation.text.split("|")]
    return {character: (name, words.get(character, [])) for character, name in names.items()}


def keywords(name, words):
    """The name, then what else it is called, once each."""
    out = [name]
    for word in words:
        if word not in DROPPED_WORDS and word.lower() not in (known.lower() for known in out):
            out.append(word)
    return out


def render(font, character, size):
    """The glyph on a white square; None when the font has none."""
    left, top, right, bottom = font.getbbox(character)
    if right <= left or bottom <= top:
        return None
    glyph = Image.new("RGBA", (right - left, bottom - top), (255, 255, 255, 0))
    ImageDraw.Draw(glyph).text((-left, -top), character, font=font, embedded_color=True)
    if glyph.getbbox() is None:
        return None
    edge = max(glyph.size)
    square = Image.new("RGBA", (edge, edge), "white")
    square.alpha_composite(glyph, ((edge - glyph.width) // 2, (edge - glyph.height) // 2))
    return square.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)


def write_table(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("file", "name", "keywords"))
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--font", required=True, help="a font with CBDT bitmaps: NotoColorEmoji.ttf")
    parser.add_argument("--annotations", required=True, help="CLDR: common/annotations/en.xml")
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument("--size", type=int, default=64, help="pixels a side [64]")
    arguments = parser.parse_args()
    try:
        font = ImageFont.truetype(arguments.font, BITMAP_SIZE, layout_engine=ImageFont.Layout.BASIC)
        annotations = read_annotations(arguments.annotations)
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        sys.exit(f"emoji_pictures.py: {error}")
    folder = pathlib.Path(arguments.output)
    shutil.rmtree(folder / "pictures", ignore_errors=True)
    (folder / "pictures").mkdir(parents=True)
    groups = {group: [] for group, _ in GROUPS}
    for group, character in code_points():
        name, words = annotations.get(character, (None, []))
        picture = name and render(font, character, arguments.size)
        if not picture:
            continue  # newer than this font or these names
        file = f"pictures/{ord(character):x}.png"
        picture.save(folder / file, optimize=True)
        groups[group].append((file, name, " | ".join(keywords(name, words))))
    rows = [row for group in groups.values() for row in group]
    if not rows:
        sys.exit(f"emoji_pictures.py: {arguments.font} has no picture of any name in {arguments.annotations}")
    for group, its_rows in groups.items():
        write_table(folder / f"{group}.csv", its_rows)
    write_table(folder / "captions.csv", rows)  # last: with it the set is whole
    print(f"{len(rows)} pictures of {arguments.size} x {arguments.size} in {folder}", file=sys.stderr)


if __name__ == "__main__":
    main()
