#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian package descriptions as documents: real English text with a real length skew.

  debian_corpus.py corpus --lists DIR -o FILE     every package of the apt lists in DIR: id <TAB> text
  debian_corpus.py sample --lists DIR -o FILE     the frozen sample of configs/demo (and its id -> section table)
  debian_corpus.py debtags --lists DIR --vocabulary FILE -o FOLDER
                                                  a task of hierarchical multi-label classification in the Amazon_products layout

A file name that ends in .gz is written compressed, without a time stamp, so equal lists give equal bytes.

The task: classes are facets and tags of the debtags vocabulary (scripts/debtags_classes.py), documents are the descriptions,
true labels the packages' tags and all classes above them. Tagged packages in the order of the hash of their source package
are dealt to test, then to train, so that packages of one source, whose descriptions share paragraphs, are on one side; then
train is filled up with packages that have no tag. True labels are in gold/ alone: gold/test_doc2labels.txt for scoring,
gold/train_doc2labels.txt (of the tagged part) to compare with supervised training. packages.tsv says which package an id is.
"""
import argparse
import collections
import gzip
import hashlib
import io
import os
import pathlib
import subprocess
import sys

import debtags_classes

APT_HELPER = "/usr/lib/apt/apt-helper"  # reads every compression apt stores lists in


def stanzas(path):
    """Yields each stanza of an apt list as {field: value}; continuation lines keep their line breaks."""
    process = subprocess.Popen([APT_HELPER, "cat-file", str(path)], stdout=subprocess.PIPE)
    fields, name = {}, None
    for line in io.TextIOWrapper(process.stdout, encoding="utf-8"):
        line = line.rstrip("\n")
        if not line:
            if fields:
                yield fields
            fields, name = {}, None
        elif line[0] in " \t":
            fields[name] += "\n" + line
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    if fields:
        yield fields
    if process.wait() != 0:
        raise SystemExit(f"debian_corpus: {APT_HELPER} could not read {path}")


def suite_order(path):
    """The release first, then its updates: a package keeps the description it was released with."""
    return ("-security" in path.name or "-updates" in path.name, path.name)


def one_line(description):
    """'short\\n long\\n .\\n long' as one line; a line with a lone full stop is Debian's paragraph break."""
    short, _, rest = description.partition("\n")
    words = [word for line in rest.split("\n") if line.strip() != "." for word in line.split()]
    text = " ".join([" ".join(short.split()).rstrip(".") + "."] + words) if words else " ".join(short.split())
    return text.replace("\0", "")


Document = collections.namedtuple("Document", "section text source tags")


def read_documents(lists):
    """All packages that have an English description, as {name: Document}."""
    folder = pathlib.Path(lists)
    package_files = sorted(folder.glob("*Packages*"), key=suite_order)
    text_files = sorted(folder.glob("*Translation-en*"), key=suite_order)
    if not package_files or not text_files:
        raise SystemExit(f"debian_corpus: {folder} has no Packages or no Translation-en lists; scripts/fetch_corpus.sh fetches them")
    texts = {}
    for path in text_files:
        for fields in stanzas(path):
            if "Description-en" in fields:
                texts.setdefault((fields["Package"], fields["Description-md5"]), fields["Description-en"])
    documents = {}
    for path in package_files:
        for fields in stanzas(path):
            description = texts.get((fields["Package"], fields.get("Description-md5")))
            if description and fields["Package"] not in documents:
                tags = [tag.strip() for tag in fields.get("Tag", "").split(",") if tag.strip()]
                source = (fields.get("Source") or fields["Package"]).split()[0]
                documents[fields["Package"]] = Document(fields.get("Section", "unknown"), one_line(description), source, tags)
    return documents


def write_table(path, header, rows):
    write_lines(path, ["\t".join(row) for row in [header, *rows]], len(rows))


def write_lines(path, lines, rows):
    data = "".join(line + "\n" for line in lines).encode("utf-8")
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.write_bytes(gzip.compress(data, compresslevel=9, mtime=0) if target.suffix == ".gz" else data)
    partial.rename(target)
    print(f"{target}: {rows} rows, {target.stat().st_size} bytes, sha256 of the text {hashlib.sha256(data).hexdigest()}",
          file=sys.stderr)


def choose_sample(documents, count, longest):
    """The longest documents, so that truncation and skew can be seen, then the first in the order of the names' hashes."""
    by_length = sorted(documents, key=lambda name: (-len(documents[name].text), name))
    by_hash = sorted(documents, key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen = set(by_length[:longest])
    for name in by_hash:
        if len(chosen) >= count:
            break
        chosen.add(name)
    return [name for name in by_hash if name in chosen]


def hashed(name):
    return hashlib.sha256(name.encode()).digest()


def labels_of(document, by_key):
    """The keys of a document's classes, closed upwards; tags that the vocabulary lacks have none."""
    keys = set()
    for key in document.tags:
        while key in by_key and key not in keys:
            keys.add(key)
            key = debtags_classes.parent_of(key)
    return keys


def narrow_classes(classes, labels, facets, most):
    """The classes of some facets that most documents have; a class never comes without the one above it."""
    counts = collections.Counter(key for keys in labels.values() for key in keys)
    chosen = [one for one in classes if one.key.partition("::")[0] in facets]
    chosen = {one.key for one in sorted(chosen, key=lambda one: -counts[one.key])[:most]}
    return [one for one in classes if one.key in chosen]


def write_task(options, documents):
    """The files of the layout. Nothing random: ids are places in the order of the packages' hashes."""
    classes = debtags_classes.debtags_classes(options.vocabulary)
    by_key = {one.key: one for one in classes}
    labels = {name: labels_of(document, by_key) for name, document in documents.items()}
    if options.facets:
        classes = narrow_classes(classes, labels, options.facets.split(","), options.most_classes)
        kept = {one.key for one in classes}
        labels = {name: keys & kept for name, keys in labels.items()}
    ids = {one.key: number for number, one in enumerate(classes)}

    # Another hash than that of the ids: most sources are named like one of their packages.
    order = sorted(documents, key=lambda name: (hashed(f"source {documents[name].source}"), hashed(name)))
    tagged, bare = [name for name in order if labels[name]], [name for name in order if not labels[name]]
    test = tagged[:options.test]
    train = tagged[options.test:options.test + options.train_tagged]
    train += bare[:options.train - len(train)]
    if len(test) < options.test or len(train) < options.train:
        raise SystemExit(f"debian_corpus: {len(tagged)} tagged and {len(bare)} other packages are too few for {options.test} test and "
                         f"{options.train} train documents; ask for fewer with --test, --train and --train-tagged")
    test, train = sorted(test, key=hashed), sorted(train, key=hashed)

    folder, end = pathlib.Path(options.output), ".gz" if options.gzip else ""
    write_lines(folder / "classes.txt", [f"{ids[one.key]}\t{one.name}" for one in classes], len(classes))
    edges = [(ids[debtags_classes.parent_of(one.key)], ids[one.key]) for one in classes if debtags_classes.parent_of(one.key)]
    write_lines(folder / "class_hierarchy.txt", [f"{parent}\t{child}" for parent, child in edges], len(edges))
    write_lines(folder / "class_related_keywords.txt", [f"{one.name}:{','.join(one.keywords)}" for one in classes], len(classes))
    for split, names in (("train", train), ("test", test)):
        write_lines(folder / f"{split}/{split}_corpus.txt{end}",
                    [f"{row}\t{documents[name].text}" for row, name in enumerate(names)], len(names))
        # From the top down, as the published label files are.
        rows = [(row, sorted((key.count(":"), ids[key]) for key in labels[name])) for row, name in enumerate(names) if labels[name]]
        write_lines(folder / f"gold/{split}_doc2labels.txt{end}",
                    [f"{row}\t{','.join(str(number) for _, number in found)}" for row, found in rows], len(rows))
    write_table(folder / f"packages.tsv{end}", ("split", "id", "package"),
                [(split, str(row), name) for split, names in (("train", train), ("test", test)) for row, name in enumerate(names)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["corpus", "sample", "debtags"])
    parser.add_argument("--lists", default="/var/lib/apt/lists", help="folder of apt lists (default %(default)s)")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--sections", help="also write id <TAB> section to this file")
    parser.add_argument("--count", type=int, default=2000, help="documents of the sample (default %(default)s)")
    parser.add_argument("--longest", type=int, default=5, help="of them the longest of all (default %(default)s)")
    parser.add_argument("--vocabulary", help="debtags: the vocabulary, /usr/share/debtags/vocabulary of package debtags")
    parser.add_argument("--test", type=int, default=19658, help="debtags: test documents, all of them tagged (default %(default)s)")
    parser.add_argument("--train", type=int, default=29487, help="debtags: train documents (default %(default)s)")
    parser.add_argument("--train-tagged", type=int, default=10137, help="debtags: of them at most tagged (default %(default)s)")
    parser.add_argument("--facets", help="debtags: only classes of these facets, a,b,c")
    parser.add_argument("--most-classes", type=int, help="debtags: of them only the most frequent")
    parser.add_argument("--gzip", action="store_true", help="debtags: compress documents and gold labels")
    options = parser.parse_args()

    if options.command == "debtags" and not options.vocabulary:
        parser.error("debtags needs --vocabulary")
    documents = read_documents(options.lists)
    if options.command == "debtags":
        write_task(options, documents)
        return
    names = sorted(documents)
    if options.command == "sample":
        names = choose_sample(documents, options.count, options.longest)
    write_table(options.output, ("id", "text"), [(name, documents[name].text) for name in names])
    if options.sections:
        write_table(options.sections, ("id", "section"), [(name, documents[name].section) for name in names])


if __name__ == "__main__":
    main()
