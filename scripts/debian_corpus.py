#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Debian package descriptions as documents: real English text with a real length skew.

  debian_corpus.py corpus --lists DIR -o FILE     every package of the apt lists in DIR: id <TAB> text
  debian_corpus.py sample --lists DIR -o FILE     the frozen sample of configs/demo (and its id -> section table)

A file name that ends in .gz is written compressed, without a time stamp, so equal lists give equal bytes.
"""
import argparse
import gzip
import hashlib
import io
import os
import pathlib
import subprocess
import sys

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


def read_documents(lists):
    """All packages that have an English description, as {name: (section, text)}."""
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
                documents[fields["Package"]] = (fields.get("Section", "unknown"), one_line(description))
    return documents


def write_table(path, header, rows):
    data = "".join("\t".join(row) + "\n" for row in [header, *rows]).encode("utf-8")
    target = pathlib.Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.write_bytes(gzip.compress(data, compresslevel=9, mtime=0) if target.suffix == ".gz" else data)
    partial.rename(target)
    print(f"{target}: {len(rows)} rows, {target.stat().st_size} bytes, sha256 of the text {hashlib.sha256(data).hexdigest()}",
          file=sys.stderr)


def choose_sample(documents, count, longest):
    """The longest documents, so that truncation and skew can be seen, then the first in the order of the names' hashes."""
    by_length = sorted(documents, key=lambda name: (-len(documents[name][1]), name))
    by_hash = sorted(documents, key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen = set(by_length[:longest])
    for name in by_hash:
        if len(chosen) >= count:
            break
        chosen.add(name)
    return [name for name in by_hash if name in chosen]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["corpus", "sample"])
    parser.add_argument("--lists", default="/var/lib/apt/lists", help="folder of apt lists (default %(default)s)")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--sections", help="also write id <TAB> section to this file")
    parser.add_argument("--count", type=int, default=2000, help="documents of the sample (default %(default)s)")
    parser.add_argument("--longest", type=int, default=5, help="of them the longest of all (default %(default)s)")
    options = parser.parse_args()

    documents = read_documents(options.lists)
    names = sorted(documents)
    if options.command == "sample":
        names = choose_sample(documents, options.count, options.longest)
    write_table(options.output, ("id", "text"), [(name, documents[name][1]) for name in names])
    if options.sections:
        write_table(options.sections, ("id", "section"), [(name, documents[name][0]) for name in names])


if __name__ == "__main__":
    main()
