# SPDX-License-Identifier: Apache-2.0
"""A class hierarchy made of the debtags vocabulary, and of nothing else: no document and no label has a say in it.

A facet is a class of the first level, a tag `facet::name` one of the second, and a tag `facet::name:detail` one of the third,
under `facet::name` (which becomes a class where it is no tag itself). Left out are tags that say nothing about a package:
`TODO` ("need an extra tag"), and the facets `special` (service tags) and `secteam` (security support of old releases).
"""
import collections
import dataclasses
import math
import re
import unicodedata

LEFT_OUT_FACETS = ("special", "secteam")
MOST_KEYWORDS = 10
# How a tag's own words read outside of its facet: "audio" works with, is made of, and is a sound format.
PHRASES = {
    "culture": "{} culture", "game": "{} game", "implemented-in": "implemented in {}", "interface": "{} interface",
    "iso15924": "{} script", "junior": "{} for children", "made-of": "made of {}", "mail": "mail {}", "network": "network {}",
    "protocol": "{} protocol", "science": "scientific {}", "scope": "{} scope", "sound": "sound {}", "suite": "{} suite",
    "system": "{} system", "uitoolkit": "{} toolkit", "use": "used for {}", "web": "web {}", "works-with": "works with {}",
    "works-with-format": "{} format", "x11": "x11 {}",
}
# Facets whose description means nothing by itself, and prefixes that the vocabulary uses but does not describe.
NAMES = {
    "field": "field of study", "implemented-in": "implementation language", "made-of": "made of data",
    "role": "role of package", "scope": "scope of software", "works-with": "works with data",
    "works-with-format": "supported format",
    "accessibility::accessible-via": "accessible via interface", "accessibility::accessible-with": "accessible with screen reader",
    "biology::format": "biological sequence format", "devel::lang": "programming language development",
    "game::sport": "sport game", "hardware::hobby": "hobby hardware", "protocol::db": "database protocol", "works-with::software": "works with software",
    "works-with-format::rdf": "rdf format",
}
STOP_WORDS = frozenset(
    "about all also and and/or any are application applications applies based been both but can contain contains could data "
    "different doing e.g each etc even for from has have having how including instead into its kind like link many may more most not "
    "note one only other package packages please program programs provide provided provides rather related should software some "
    "such support supports system tag than that the their them these they this those through tool tools two use used user users "
    "uses using various very via well what which who whose will with without would you your".split())


@dataclasses.dataclass
class TagClass:
    key: str          # "facet", "facet::name" or "facet::name:detail"
    short: str = ""   # the description's first line
    long: str = ""
    name: str = ""
    keywords: list = dataclasses.field(default_factory=list)


def parent_of(key):
    """The key one level up; None for a facet."""
    facet, _, name = key.partition("::")
    head, _, detail = name.rpartition(":")
    return None if not name else f"{facet}::{head}" if head and detail else facet


def is_kept(tag):
    facet, _, name = tag.partition("::")
    return facet not in LEFT_OUT_FACETS and name.split(":")[-1] != "TODO"


def read_vocabulary(path):
    """The described facets and tags that are kept, as {key: TagClass}."""
    classes = {}
    with open(path, encoding="utf-8") as file:
        for stanza in re.split(r"\n\s*\n", file.read()):
            fields, name = {}, None
            for line in stanza.splitlines():
                if line[:1] in (" ", "\t"):
                    fields[name] += "\n" + line.strip()
                elif ":" in line:
                    name, _, value = line.partition(":")
                    fields[name] = value.strip()
            key = fields.get("Tag", fields.get("Facet"))
            if key and is_kept(key):
                short, _, long = fields.get("Description", "").partition("\n")
                classes[key] = TagClass(key, short, re.sub(r"\n\.?\s*", " ", long))
    return classes


def words_of(text):
    """Lower-case ASCII words; punctuation that can be part of a name (C++, C#, TCP/IP, X.org) stays."""
    plain = unicodedata.normalize("NFKD", text.replace("™", "")).encode("ascii", "ignore").decode()
    return [word for word in (part.strip("-./'") for part in re.sub(r"[^a-z0-9+#./'-]", " ", plain.lower()).split()) if word]


def name_classes(classes):
    """Gives every class a name of its own: words joined by "_"."""
    taken = set()
    for key in sorted(classes, key=lambda key: (key.count(":"), key)):  # the short names go to the upper levels
        facet, _, own = key.partition("::")
        if key in NAMES:
            words = words_of(NAMES[key])
        else:
            words = words_of(classes[key].short or own.replace(":", " ").replace("-", " "))
            phrase = PHRASES.get(facet, "{}") if own else "{}"
            # "mail mail delivery agent", "x window system interface interface"
            extra = [word for word in phrase.replace("{}", " ").split() if word in words]
            if not extra:
                words = phrase.format(" ".join(words)).split()
        if "_".join(words) in taken:
            words = [*words_of(facet.replace("-", " ")), *words]
        name = "_".join(words)
        if name in taken:
            name = "_".join(words_of(re.sub("[:-]+", " ", key)))
        if not name or name in taken:
            raise SystemExit(f"debtags: no name of its own for {key}; put one into NAMES")
        taken.add(name)
        classes[key].name = name


def add_keywords(classes):
    """Up to ten terms a class: its tag, then what its description has and others lack, then the classes below it."""
    texts = {key: [word for word in words_of(re.sub(r"\S+://\S+", " ", f"{one.short} {one.long}"))
                   if len(word) > 2 and not word.isdigit() and word not in STOP_WORDS] for key, one in classes.items()}
    entries = collections.Counter(word for words in texts.values() for word in set(words))
    below = collections.defaultdict(list)
    for key in sorted(classes):
        below[parent_of(key)].append(classes[key].name)
    for key, one in classes.items():
        counts = collections.Counter(texts[key])
        weight = {word: count * math.log(len(classes) / entries[word]) for word, count in counts.items()}
        chosen = set(sorted(weight, key=lambda word: (-weight[word], word))[:MOST_KEYWORDS - 1])
        own = "_".join(words_of(re.sub(r"[:-]+", " ", key.partition("::")[2] or key)))
        terms = [own, *(word for word in counts if word in chosen), *below[key]]
        one.keywords = list(dict.fromkeys(term for term in terms if term and term != one.name))[:MOST_KEYWORDS]


def debtags_classes(path):
    """All classes in the order of their ids: a class comes after its parent."""
    classes = read_vocabulary(path)
    for key in list(classes):
        above = parent_of(key)
        while above and above not in classes:
            classes[above] = TagClass(above)
            above = parent_of(above)
    name_classes(classes)
    add_keywords(classes)
    # "::" before ":" before what a name may hold, so that a hierarchy is in one piece.
    return [classes[key] for key in sorted(classes, key=lambda key: re.split(r"::|:", key))]
