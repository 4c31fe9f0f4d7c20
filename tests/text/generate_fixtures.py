#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/text/fixtures with the reference library (tokenizers 0.23; transformers 5.23 for CLIP's folders).

    python tests/text/generate_fixtures.py [--models FOLDER] [--all-characters] [--only-clip] [--out FOLDER]

Everything is seeded; the vocabularies are trained on configs/demo/debian_2000.tsv.gz. --models also digests the ids of that
sample for the real models in FOLDER. --all-characters sweeps the whole of Unicode and not the blocks where something happens.
The trainers break ties differently from run to run, so every run makes other vocabularies; --only-clip leaves the others alone.
"""
import argparse
import gzip
import hashlib
import json
import pathlib
import random
import struct

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
BLOCK = 4096
MODELS = ["all-MiniLM-L6-v2", "all-mpnet-base-v2"]
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def digest(ids):
    """What the tests compare: SHA-256 over the ids as little-endian 32-bit numbers."""
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()


def debian_texts():
    with gzip.open(ROOT / "configs/demo/debian_2000.tsv.gz", "rt", encoding="utf-8", newline="\n") as lines:
        rows = [line.rstrip("\n").split("\t") for line in lines]
    return [text for _, text in rows[1:]]


def sweep_text(c):
    """One character alone, between letters, with marks to be ordered behind it, doubled."""
    return f"A{c}\u0316\u0301\u05b01{c} {c}{c}"


# --- texts -----------------------------------------------------------------------------------------------------------


def character_pools():
    def span(first, last):
        return [chr(c) for c in range(first, last + 1)]

    return {
        "ascii": span(0x20, 0x7E),
        "control": span(0x00, 0x1F) + span(0x7F, 0xA0) + ["\ufffd", "\ufeff", "\u00ad"],
        "space": list(" \t\n\r\u0085\u00a0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000\u180e\u200b"),
        "latin": span(0xC0, 0x24F) + span(0x1E00, 0x1EFF),
        "greek": span(0x370, 0x3FF) + span(0x1F00, 0x1FFF) + ["\u03a3", "\u03c2"],
        "cyrillic": span(0x400, 0x52F),
        "marks": span(0x300, 0x36F) + span(0x591, 0x5C7) + span(0x64B, 0x65F) + span(0x1AB0, 0x1ACE) + span(0x20D0, 0x20F0)
        + ["\u093c", "\u094d", "\u0e38", "\u0f71", "\u0f72", "\u3099", "\u302a", "\U0001d165", "\u1885", "\ua9bd", "\u0898"],
        "indic": span(0x900, 0x9FF) + span(0xB80, 0xBFF) + span(0xC00, 0xC7F),
        "thai": span(0xE00, 0xE5B),
        "hangul": span(0x1100, 0x11FF) + span(0xAC00, 0xAC60) + span(0xD788, 0xD7A3) + span(0x3131, 0x318E),
        "kana": span(0x3041, 0x30FF) + span(0xFF01, 0xFF9F),
        "chinese": span(0x4E00, 0x4E40) + span(0x9FE0, 0x9FFF) + span(0x3400, 0x3410) + span(0xF900, 0xFA20)
        + ["\U00020000", "\U0002a6dd", "\U0002a700", "\U0002b820", "\U0002f800", "\U0002fa1d", "\U0002ebf0"],
        "punctuation": span(0x2010, 0x205E) + span(0x3001, 0x3030) + span(0xA1, 0xBF) + span(0x2E40, 0x2E5D)
        + ["\u061d", "\u166d", "\u1b7d", "\U000111c9", "\U00011a9a"],
        "digits": span(0x660, 0x669) + span(0x966, 0x96F) + span(0x2150, 0x2189) + span(0x2460, 0x2473)
        + span(0x1D7CE, 0x1D7FF) + ["\u4e09", "\u00b2", "\U00010d40", "\U00011de0"],
        "compatibility": span(0xFB00, 0xFB06) + span(0x2100, 0x214F) + span(0x3300, 0x3340) + span(0xFDF0, 0xFDFC)
        + ["\ufdfa", "\u0130", "\u1e9e", "\u00df", "\u0149", "\u2126", "\u212b", "\u0344", "\u32ff"],
        "emoji": list("😀👍🏽👩🧑🚀🇩🇪❤🏳🌈") + ["\u200d", "\ufe0f", "\u20e3"],
        "young": ["\u1c89", "\ua7cb", "\ua7dc", "\U00010d50", "\U00016ea0", "\U000105c0", "\u0897", "\U0001e5d0"],
        "odd": ["\ue000", "\uf8ff", "\U000f0000", "\U0010fffd", "\ufdd0", "\uffff", "\U0001fffe", "\u0378", "\U000e0001"],
    }


SNIPPETS = [
    "the", " the ", "don't", "I'll've", "we're he's it'd I'm", "'S 'T 'RE", "``quoted''", "C++20", "e-mail", "3.14159", "1,000,000",
    "x" * 99, "y" * 100, "z" * 101, "\u00e4" * 100, "a\u0308" * 60, "https://example.org/?q=a&b=c#d", "  ", "   ", "\n\n", " \t ",
    "[MASK]", "[mask]", "[SEP]", "<mask>", " <mask> ", "</s>", "<s>", "<unk>", "[UNK]", "co-vid", "COVID", "covid", "Covid19",
    "xylo", "XYLO phone", "xylophone", "_xylo_", "\u00c9TUDE", "e\u0301tude", "##ing", "\u0120the", "\u2581the", "a<b>c", "<b>", "<b><bb>",
    "<bb>>", "\u00e9" * 4, "\u00e9" * 5, "a\u00e9a", "gl\u00fcck", "GLU\u0308CK", "sigma \u03a3\u03a3 \u03a3", "\u1100\u1161\u11a8", "fi\ufb01", "na\u00efve caf\u00e9", "\u4f60\u597d\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f",
]


def nasty_texts():
    rng = random.Random(20261121)
    pools = character_pools()
    names = sorted(pools)
    texts = ["", " ", "\x00", "a", "\u0301", "\u0301a"] + SNIPPETS
    texts += ["a" + "".join(rng.choice(pools["marks"]) for _ in range(n)) for n in (17, 40, 200)]  # to be ordered, not only swapped
    while len(texts) < 1000:
        parts = []
        for _ in range(rng.randint(1, 7)):
            if rng.random() < 0.35:
                parts.append(rng.choice(SNIPPETS))
            else:
                pool = pools[rng.choice(names)]
                parts.append("".join(rng.choice(pool) for _ in range(rng.randint(1, 6))))
            if rng.random() < 0.4:
                parts.append(rng.choice([" ", "  ", "-", ".", "\u0301", "\u3000", "'"]))
        texts.append("".join(parts))
    return texts


# --- tokenizers ------------------------------------------------------------------------------------------------------


def byte_probe(normalizer, *steps):
    """Every byte of the normalized text is a token and every word starts with a space: the ids show all there is to see."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    out = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    if normalizer is not None:
        out.normalizer = normalizer
    out.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)])
    return out


def bert_normalizer(clean=True, chinese=True, strip=None, lower=True):
    return normalizers.BertNormalizer(clean_text=clean, handle_chinese_chars=chinese, strip_accents=strip, lowercase=lower)


def split(pattern, behavior, invert=False):
    return pre_tokenizers.Split(pattern, behavior, invert)


def probes():
    from tokenizers import Regex

    n, p = normalizers, pre_tokenizers
    return {
        "probe_bert_uncased": byte_probe(bert_normalizer(), p.BertPreTokenizer()),
        "probe_bert_cased": byte_probe(bert_normalizer(lower=False), p.BertPreTokenizer()),
        "probe_bert_lower_accents": byte_probe(bert_normalizer(strip=False), p.BertPreTokenizer()),
        "probe_bert_strip_only": byte_probe(bert_normalizer(clean=False, chinese=False, strip=True, lower=False), p.BertPreTokenizer()),
        "probe_nfc_words": byte_probe(n.NFC(), p.Whitespace()),
        "probe_nfd_digits": byte_probe(n.NFD(), p.Digits(individual_digits=True)),
        "probe_nfkd_digit_runs": byte_probe(n.NFKD(), p.Digits(individual_digits=False)),
        "probe_nfkc_spaces": byte_probe(n.NFKC(), p.WhitespaceSplit()),
        "probe_strip_accents": byte_probe(n.Sequence([n.NFD(), n.StripAccents(), n.Lowercase()]), p.Punctuation()),
        "probe_gpt2": byte_probe(None, split(Regex(GPT2_PATTERN), "isolated")),
    }


def plain_probes():
    """Too alike for a sweep over all characters; the nasty texts are enough."""
    n, p = normalizers, pre_tokenizers
    edits = n.Sequence([n.Strip(left=True, right=True), n.Replace("a", "\u00c4a"), n.Replace("  ", "_"), n.Prepend("<\u00b7")])
    return {
        "probe_edits": byte_probe(edits, p.WhitespaceSplit()),
        "probe_strip_left": byte_probe(n.Strip(left=True, right=False)),
        "probe_strip_right": byte_probe(n.Strip(left=False, right=True)),
        "probe_punctuation_removed": byte_probe(None, p.Punctuation("removed")),
        "probe_punctuation_previous": byte_probe(None, p.Punctuation("merged_with_previous")),
        "probe_punctuation_next": byte_probe(None, p.Punctuation("merged_with_next")),
        "probe_punctuation_contiguous": byte_probe(None, p.Punctuation("contiguous")),
        "probe_split_literal": byte_probe(None, split(" ", "merged_with_next"), split("th", "isolated")),
        "probe_split_invert": byte_probe(None, split("the", "removed", True)),
        "probe_split_invert_next": byte_probe(None, split(" ", "merged_with_next", True), split("-", "merged_with_previous", True)),
    }


def bert_template(tokenizer):
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")])


def trained_word_piece(texts, normalizer, prefix="##", max_chars=100, pre_tokenizer=None):
    out = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=max_chars, continuing_subword_prefix=prefix))
    out.normalizer = normalizer
    out.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=1500, special_tokens=BERT_SPECIALS, show_progress=False, limit_alphabet=400, continuing_subword_prefix=prefix)
    out.train_from_iterator(texts, trainer)
    out.post_processor = bert_template(out)
    return out


def trained_byte_pair(texts, specials):
    out = Tokenizer(models.BPE())
    out.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=specials, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    out.train_from_iterator(texts, trainer)
    return out


def roberta(texts):
    out = trained_byte_pair(texts, ["<s>", "<pad>", "</s>", "<unk>"])
    out.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    out.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return out


def with_added_tokens(texts):
    out = trained_word_piece(texts, bert_normalizer())
    out.post_processor = processors.BertProcessing(("[SEP]", out.token_to_id("[SEP]")), ("[CLS]", out.token_to_id("[CLS]")))
    out.add_tokens([
        AddedToken("COVID", normalized=True), AddedToken("Covid19", normalized=False), AddedToken("co-vid", normalized=True),
        AddedToken("xylo", normalized=True, single_word=True), AddedToken("<b>", normalized=False, rstrip=True),
        AddedToken("<bb>", normalized=False, lstrip=True, rstrip=True), AddedToken("<b><bb>", normalized=False),
        AddedToken("\u00c9TUDE", normalized=True), AddedToken("\u4f60\u597d", normalized=False),
        AddedToken("the", normalized=True, lstrip=True, single_word=True),
    ])
    return out


def characters_with_suffix(texts):
    """A byte-pair model in the manner of CLIP: unknown characters, end of word suffix."""
    out = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>", fuse_unk=True))
    out.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    out.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>"], show_progress=False, limit_alphabet=60, end_of_word_suffix="</w>")
    out.train_from_iterator(texts, trainer)
    return out


def tokenizers(texts):
    small = texts[:600]
    prefixed = Tokenizer(models.BPE(vocab={"<unk>": 0, "a": 1, "b": 2, "@@a": 3, "@@b": 4, "ab": 5, "@@ab": 6, "aab": 7},
                                    merges=[("a", "@@b"), ("@@a", "@@b"), ("a", "@@ab")], unk_token="<unk>", continuing_subword_prefix="@@"))
    prefixed.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    accents = Tokenizer(models.WordPiece(vocab={"[UNK]": 0, "\u00e9": 1, "##\u00e9": 2, "a": 3, "##a": 4}, unk_token="[UNK]", max_input_chars_per_word=4))
    accents.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    gpt2 = trained_byte_pair(small, ["<|endoftext|>"])
    gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    chained = trained_byte_pair(small, ["<s>", "</s>"])
    chained.normalizer = normalizers.NFC()
    chained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    chained.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single="<s> $A </s> </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 1)])])
    return {
        "bert_uncased": trained_word_piece(small, bert_normalizer()),
        "bert_cased": trained_word_piece(small, bert_normalizer(lower=False)),
        "bert_accents": trained_word_piece(small, bert_normalizer(strip=False)),
        "word_piece_short_words": trained_word_piece(small, normalizers.NFKC(), prefix="@@", max_chars=8, pre_tokenizer=pre_tokenizers.Whitespace()),
        "word_piece_four_accents": accents,
        "roberta": roberta(small),
        "roberta_old": roberta(small),
        "gpt2_prefix_space": gpt2,
        "bpe_ignore_merges": chained,
        "bpe_suffix_unknown": characters_with_suffix(small),
        "bpe_prefix_unknown": prefixed,
        "added_tokens": with_added_tokens(small),
    }


def edited_json(name, content):
    """What the library reads but no longer writes."""
    model = content["model"]
    if name == "roberta_old":  # merges as strings, no type, as in files of 2020
        model["merges"] = ["#version: 0.2"] + [" ".join(pair) for pair in model["merges"]]
        del model["type"]
    if name == "bpe_ignore_merges":
        model["ignore_merges"] = True
    content["truncation"] = {"direction": "Right", "max_length": 7, "strategy": "LongestFirst", "stride": 0}
    return content


def bert_folder(out, texts, lower):
    """A folder without tokenizer.json: vocab.txt and tokenizer_config.json."""
    tokenizer = trained_word_piece(texts[:600], bert_normalizer(lower=lower))
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda row: row[1])
    (out / "vocab.txt").write_text("".join(token + "\n" for token, _ in vocabulary), encoding="utf-8")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower, "strip_accents": None, "tokenize_chinese_chars": True,
              "sep_token": "[SEP]", "cls_token": {"__type": "AddedToken", "content": "[CLS]", "special": True}, "model_max_length": 512}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    tokenizer.add_special_tokens([t for t in BERT_SPECIALS if t in dict(vocabulary)])
    return tokenizer


def clip_vocabulary(texts):
    """CLIP's own order: bytes, bytes at a word's end, merges, two special tokens."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence([split(" ", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1000, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False))
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    tokens = alphabet + [c + "</w>" for c in alphabet] + ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


def clip_texts():
    """What the nasty texts of the others do not have: CLIP's own tokens, white space, contractions, digits."""
    texts = ["<|startoftext|>", "<|endoftext|>", "a<|endoftext|>b", "<|EndOfText|>!", "!<|STARTOFTEXT|>!!", "<|endoftext|><|endoftext|>", "<|endoftex", "<|startoftext|>the<|endoftext|>",
             "a photo of a cat!", "!", "!!", " ! ", "wow!the", "xylo XYLO xYlO", "<cat-toy> a<cat-toy>b <CAT-TOY>", "the The THE", "a\u00a0b\u3000c\u2028d", "a \t\n\x0b\x0c\r b", "\x1c\x1f\u0085a",
             "it's IT'S it\u2019s 's'S''s s's", "'tis y'all'd've", "don't I'll we're he'd I'm they've", "1234567890 3.14159 \u0661\u0662 \u00bd\u2460 x2", "caf\u00e9 cafe\u0301 CAFE\u0301 \u00c5ngstr\u00f6m \u212b",
             "\u0130stanbul I\u0307 \u1e9e \u00df \u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03a3 \u03a3", "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202egnp\u202c", "\U0001f600\U0001f44d\U0001f3fd \U0001f469\u200d\U0001f680", "\u4f60\u597d\u4e16\u754c 1girl", "&amp; &lt;b&gt; &#39;",
             "\ufb01ne \u017fat", "a_b-c/d\\e", "masterpiece, (best quality:1.2), [cat|dog]", "a" * 300, "9" * 100, "?!" * 60, "\u00e9" * 80, "\x00\x01\x7f", "\ufeffa", "\u200ba", "\ufffd"]
    return texts


def clip_token(content, normalized=True):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}


def clip_settings():
    """The files beside vocab.json and merges.txt, as published folders have them: SD 1.5, SD 2 and SDXL's second, and newer ones."""
    begin, end = "<|startoftext|>", "<|endoftext|>"
    old = {"bos_token": {"__type": "AddedToken", **clip_token(begin)}, "eos_token": {"__type": "AddedToken", **clip_token(end)},
           "unk_token": {"__type": "AddedToken", **clip_token(end)}, "pad_token": end, "do_lower_case": True, "errors": "replace",
           "add_prefix_space": False, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    names = {"bos_token": clip_token(begin), "eos_token": clip_token(end), "unk_token": clip_token(end), "pad_token": end}
    new = {"bos_token": begin, "eos_token": end, "unk_token": end, "pad_token": "!", "tokenizer_class": "CLIPTokenizer",
           "additional_special_tokens": ["<cat-toy>"]}
    decoder = {"0": clip_token("!", False), "{begin}": clip_token(begin), "{end}": clip_token(end, False), "{next}": clip_token("XYLO")}
    return {
        "clip_vocabulary": {"tokenizer_config.json": old, "special_tokens_map.json": names},
        "clip_vocabulary_pad": {"tokenizer_config.json": dict(old, pad_token="!"), "special_tokens_map.json": dict(names, pad_token="!")},
        "clip_vocabulary_decoder": {"tokenizer_config.json": dict(new, added_tokens_decoder=decoder), "special_tokens_map.json": names},
        "clip_vocabulary_added": {"tokenizer_config.json": new, "added_tokens.json": {"the": None, "<cat-toy>": None}},
        "clip_vocabulary_bare": {},
    }


def clip_folders(out, texts):
    """Folders of a CLIPTokenizer: without tokenizer.json, and the tokenizer.json that transformers 4 and 5 save."""
    from transformers import CLIPTokenizer

    vocabulary, merges = clip_vocabulary(texts)
    made = {}
    for name, files in clip_settings().items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "vocab.json", vocabulary)
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(pair) + "\n" for pair in merges), encoding="utf-8")
        ids = {"begin": vocabulary["<|startoftext|>"], "end": vocabulary["<|endoftext|>"], "next": len(vocabulary)}
        for file, content in files.items():
            if "added_tokens_decoder" in content:
                content["added_tokens_decoder"] = {key.format(**ids): token for key, token in content["added_tokens_decoder"].items()}
            if file == "added_tokens.json":
                content = {"the": vocabulary.get("the", len(vocabulary)), "<cat-toy>": len(vocabulary) + ("the" not in vocabulary)}
            write_json(folder / file, content)
        loaded = CLIPTokenizer.from_pretrained(folder)
        made[name] = loaded.backend_tokenizer
        made[name].no_truncation()
        write_json(folder / "ids.json", {"begin": loaded.bos_token_id, "end": loaded.eos_token_id, "pad": loaded.pad_token_id})
    content = json.loads(made["clip_vocabulary_pad"].to_str())
    old = json.loads(json.dumps(content).replace("<\\\\|startoftext\\\\|>|<\\\\|endoftext\\\\|>|", ""))
    assert old != content
    for name, saved in {"clip_json": content, "clip_json_4": old}.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(saved, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
        write_json(folder / "tokenizer_config.json", {"pad_token": "!", "tokenizer_class": "CLIPTokenizer"})
        made[name] = Tokenizer.from_file(str(folder / "tokenizer.json"))
        write_json(folder / "ids.json", {"begin": vocabulary["<|startoftext|>"], "end": vocabulary["<|endoftext|>"], "pad": 0})
    return made


# --- writing ---------------------------------------------------------------------------------------------------------


def sweep(tokenizer, all_characters):
    blocks = range(0, 0x110000, BLOCK) if all_characters else [*range(0, 0x20000, BLOCK), 0x2E000, 0x2F000, 0x30000, 0xE0000, 0x10F000]
    out = {}
    for first in blocks:
        ids = []
        characters = [c for c in range(first, first + BLOCK) if not 0xD800 <= c < 0xE000]
        for encoding in tokenizer.encode_batch_fast([sweep_text(chr(c)) for c in characters]):
            ids += [len(encoding.ids), *encoding.ids]
        out[f"{first:06X}"] = digest(ids)[:16]
    return out


def sample_digest(tokenizer, texts):
    return digest([i for encoding in tokenizer.encode_batch_fast(texts) for i in [len(encoding.ids), *encoding.ids]])


def real_model(folder):
    out = Tokenizer.from_file(str(folder / "tokenizer.json"))
    out.no_truncation()
    out.no_padding()
    return out


def write_json(path, content):
    path.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=pathlib.Path)
    parser.add_argument("--all-characters", action="store_true")
    parser.add_argument("--only-clip", action="store_true")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "fixtures")
    args = parser.parse_args()

    debian, nasty = debian_texts(), nasty_texts()
    made = {} if args.only_clip else {**probes(), **plain_probes(), **tokenizers(debian)}
    for name, tokenizer in made.items():
        content = edited_json(name, json.loads(tokenizer.to_str()))
        folder = args.out / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
        made[name] = Tokenizer.from_file(str(folder / "tokenizer.json"))
        made[name].no_truncation()
    if not args.only_clip:
        made["bert_vocabulary"] = bert_folder(args.out / "bert_vocabulary", debian, lower=True)
        made["bert_vocabulary_cased"] = bert_folder(args.out / "bert_vocabulary_cased", debian, lower=False)
    made.update(clip_folders(args.out, debian[:600]))

    for name, tokenizer in made.items():
        expected = {"nasty": "".join(digest(e.ids)[:8] for e in tokenizer.encode_batch_fast(nasty))}
        if name in probes() or name == "clip_vocabulary":
            expected["sweep"] = sweep(tokenizer, args.all_characters)
        elif not name.startswith("probe_"):
            expected["sample"] = sample_digest(tokenizer, debian)
        if name.startswith("clip_"):
            expected["clip"] = "".join(digest(e.ids)[:8] for e in tokenizer.encode_batch_fast(clip_texts()))
        write_json(args.out / name / "expected.json", expected)
    write_json(args.out / "nasty.json", nasty)
    write_json(args.out / "clip.json", clip_texts())
    if args.models:
        write_json(args.out / "real_models.json", {name: sample_digest(real_model(args.models / name), debian) for name in MODELS})


if __name__ == "__main__":
    main()
