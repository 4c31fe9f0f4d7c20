#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The nearest training picture of every picture that a model drew, so that one sees what it knows and what it repeats.

  nearest_pictures.py out/pets/images --captions data/emoji/captions.csv [--at-least 8]

Distance is the root mean squared difference of pixels, 0 to 255. A picture counts when the label, the last word of its prompt
("A cat"), is a word of the nearest one's captions. With --at-least N the exit code is 1 when a prompt has fewer than N.
Prompts are read from the PNGs' texts. Needs Pillow.
"""
import argparse
import csv
import json
import pathlib
import re
import sys

from PIL import Image, ImageChops, ImageStat


def words(text):
    return set(re.findall(r"[a-z]+", text.lower()))


def prompt_of(picture):
    """As `muster sample` and the sample pictures of `muster train` write it; "" when there is none."""
    if "muster" in picture.info:
        return json.loads(picture.info["muster"])["prompt"]
    return picture.info.get("prompt", "")


def distance(a, b):
    squares = ImageStat.Stat(ImageChops.difference(a, b)).sum2
    return (sum(squares) / (3 * a.width * a.height)) ** 0.5


def read_training(captions):
    """[(file, name, words, picture)]"""
    folder = pathlib.Path(captions).parent
    with open(captions, encoding="utf-8", newline="") as rows:
        return [(row["file"], row["name"], words(row["keywords"]), Image.open(folder / row["file"]).convert("RGB"))
                for row in csv.DictReader(rows)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", help="folder of PNGs")
    parser.add_argument("--captions", default="data/emoji/captions.csv")
    parser.add_argument("--at-least", type=int, default=0)
    arguments = parser.parse_args()
    training = read_training(arguments.captions)
    if not training:
        sys.exit(f"nearest_pictures.py: {arguments.captions} lists no picture")
    size = training[0][3].size
    counts = {}
    for path in sorted(pathlib.Path(arguments.pictures).rglob("*.png")):
        picture = Image.open(path)
        prompt = prompt_of(picture)
        if not prompt:
            continue
        drawn = picture.convert("RGB").resize(size)
        far, file, name, known = min(
            (distance(drawn, other), file, name, known) for file, name, known, other in training)
        label = re.findall(r"[a-z]+", prompt.lower())[-1:]
        hit = bool(label) and label[0] in known
        good, all_of_it = counts.get(prompt, (0, 0))
        counts[prompt] = (good + hit, all_of_it + 1)
        print(f"{path.name}\t{prompt}\t{name}\t{file}\t{far:.1f}\t{'yes' if hit else 'no'}")
    for prompt, (good, all_of_it) in counts.items():
        print(f"{prompt}: {good} of {all_of_it} are nearest to a picture that carries the label")
    if not counts or any(good < arguments.at_least for good, _ in counts.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
