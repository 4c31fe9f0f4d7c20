#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/debian_corpus.py debtags on package lists and a vocabulary of a few lines: classes from the vocabulary alone, true labels
closed upwards and in gold/ alone, packages of one source on one side, equal bytes from equal lists."""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "scripts" / "debian_corpus.py"
VOCABULARY = """Facet: works-with
Description: Works with
 What it handles.

Tag: works-with::audio
Description: Audio

Tag: works-with::image:raster
Description: Raster Image
 Images made of dots, such as photos.

Tag: works-with::TODO
Description: Need an extra tag

Facet: made-of
Description: Made Of

Tag: made-of::audio
Description: Audio

Facet: special
Description: Service tags

Tag: special::unreviewed
Description: Needs review
"""
# package, source, tags; made-of::unknown is not in the vocabulary
PACKAGES = [(f"tagged{i}", f"source{i // 3}", "works-with::audio") for i in range(30)] + [
    ("photo", "photo", "works-with::image:raster, made-of::unknown, special::unreviewed, works-with::TODO"),
    ("song", "song", "made-of::audio,\n works-with::audio"),
] + [(f"bare{i}", f"bare{i}", tags) for i, tags in enumerate(["", "special::unreviewed", "made-of::unknown"] * 5)]


def write_lists(folder):
    """What apt stores: a Packages list and the descriptions beside it."""
    packages, texts = [], []
    for name, source, tags in PACKAGES:
        digest = hashlib.md5(name.encode()).hexdigest()
        source_line = f"Source: {source} (1.0)\n" if source != name else ""
        tag_line = f"Tag: {tags}\n" if tags else ""
        packages.append(f"Package: {name}\n{source_line}{tag_line}Description-md5: {digest}\n")
        texts.append(f"Package: {name}\nDescription-md5: {digest}\nDescription-en: about {name}\n Some words.\n .\n More.\n")
    (folder / "x_Packages").write_text("\n".join(packages))
    (folder / "x_Translation-en").write_text("\n".join(texts))
    (folder / "vocabulary").write_text(VOCABULARY)


@unittest.skipUnless(os.access("/usr/lib/apt/apt-helper", os.X_OK), "apt's lists are read by /usr/lib/apt/apt-helper, which is not here")
class DebtagsCorpus(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        write_lists(self.folder)

    def make(self, *more, name="task"):
        task = self.folder / name
        command = [sys.executable, "-B", SCRIPT, "debtags", "--lists", self.folder, "--vocabulary", self.folder / "vocabulary", "-o", task]
        self.result = subprocess.run([*command, *more], stderr=subprocess.PIPE, text=True)
        return task

    def rows(self, path):
        return [line.split("\t") for line in path.read_text().splitlines()]

    def make_usual(self, **names):
        return self.make("--test", "20", "--train", "20", "--train-tagged", "8", **names)

    def test_classes_come_from_the_vocabulary(self):
        task = self.make_usual()
        self.assertEqual(self.rows(task / "classes.txt"), [
            ["0", "made_of_data"], ["1", "made_of_audio"], ["2", "works_with_data"], ["3", "works_with_audio"],
            ["4", "works_with_image"], ["5", "works_with_raster_image"]])
        self.assertEqual(self.rows(task / "class_hierarchy.txt"), [["0", "1"], ["2", "3"], ["2", "4"], ["4", "5"]])
        keywords = dict(line.split(":") for line in (task / "class_related_keywords.txt").read_text().splitlines())
        self.assertEqual(list(keywords), [name for _, name in self.rows(task / "classes.txt")])
        self.assertIn("photos", keywords["works_with_raster_image"].split(","))
        self.assertIn("works_with_audio", keywords["works_with_data"].split(","))

    def test_labels_are_closed_and_apart(self):
        task = self.make_usual()
        packages = {(split, row): package for split, row, package in self.rows(task / "packages.tsv")[1:]}
        expected = {"photo": "2,4,5", "song": "0,2,1,3"}
        for split, tagged in (("test", 20), ("train", 8)):
            documents = self.rows(task / split / f"{split}_corpus.txt")
            self.assertEqual([row for row, _ in documents], [str(number) for number in range(20)])
            for row, text in documents:
                self.assertEqual(text, f"about {packages[split, row]}. Some words. More.")
            gold = self.rows(task / "gold" / f"{split}_doc2labels.txt")
            self.assertEqual(len(gold), tagged)
            for row, labels in gold:
                self.assertEqual(labels, expected.get(packages[split, row], "2,3"))
        self.assertTrue(all(package.startswith("bare") == (("train", row) not in {("train", row) for row, _ in gold})
                            for (split, row), package in packages.items() if split == "train"))

    def test_a_source_is_on_one_side(self):
        task = self.make_usual()
        source = {name: source for name, source, _ in PACKAGES}
        sides = {"train": set(), "test": set()}
        for split, _, package in self.rows(task / "packages.tsv")[1:]:
            sides[split].add(source[package])
        # The one that the border cuts through may be on both.
        self.assertLessEqual(len(sides["train"] & sides["test"]), 1)

    def test_equal_lists_give_equal_bytes(self):
        first, second = self.make_usual(name="first"), self.make_usual(name="second")
        files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
        self.assertEqual(len(files), 8)
        for file in files:
            self.assertEqual((first / file).read_bytes(), (second / file).read_bytes(), file)

    def test_a_narrow_task(self):
        task = self.make("--facets", "works-with", "--most-classes", "2", "--test", "5", "--train", "5", "--train-tagged", "5")
        self.assertEqual(self.rows(task / "classes.txt"), [["0", "works_with_data"], ["1", "works_with_audio"]])
        self.assertEqual(self.rows(task / "class_hierarchy.txt"), [["0", "1"]])

    def test_too_few_packages(self):
        self.make("--test", "40")
        self.assertNotEqual(self.result.returncode, 0)
        self.assertIn("32 tagged and 15 other packages are too few for 40 test", self.result.stderr)


if __name__ == "__main__":
    unittest.main()
