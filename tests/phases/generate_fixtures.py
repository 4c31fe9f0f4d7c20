#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the model of the system tests: a tiny BERT sentence encoder with random weights and a WordPiece vocabulary trained
on the demo sample, and what sentence-transformers makes of a few dozen texts in float32.

    python tests/phases/generate_fixtures.py

Needs torch, transformers 5.23, sentence-transformers 6.2, tokenizers, safetensors. Written to fixtures/tiny_encoder: the model's
folder; and to fixtures/: texts.jsonl (id, text) and expected.safetensors (embeddings, n_tokens, truncated, in that order).
"""
import gzip
import json
import math
import pathlib
import shutil

import numpy
import torch
import transformers
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE / "fixtures"
SAMPLE = HERE.parent.parent / "configs" / "demo" / "debian_2000.tsv.gz"
MAX_LENGTH = 64
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def sample_texts():
    with gzip.open(SAMPLE, "rt", encoding="utf-8", newline="\n") as lines:
        return [line.rstrip("\n").split("\t")[1] for line in lines][1:]


def train_tokenizer(texts):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=1200, limit_alphabet=80, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")])
    return tokenizer


def randomize(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(model.named_parameters()):
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name.lower():
            value.data = noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        elif "embedding" in name:
            value.data = noise
        else:
            value.data = noise * (0.1 if value.dim() == 1 else 1.5 / math.sqrt(value.shape[-1]))


def build_model(folder, texts):
    shutil.rmtree(folder, ignore_errors=True)
    transformer = folder.parent / "transformer.tmp"
    tokenizer = train_tokenizer(texts)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        unk_token="[UNK]", mask_token="[MASK]").save_pretrained(transformer)
    config = transformers.BertConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=64, num_hidden_layers=2,
                                     num_attention_heads=4, intermediate_size=96, max_position_embeddings=MAX_LENGTH)
    model = transformers.BertModel(config)
    randomize(model, 20260)
    model.to(torch.float16).save_pretrained(transformer)
    module = Transformer(str(transformer), max_seq_length=MAX_LENGTH)
    modules = [module, Pooling(module.get_embedding_dimension(), pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").half().save(str(folder), create_model_card=False)
    shutil.rmtree(transformer)
    (folder / "model.safetensors").chmod(0o644)


def parity_texts(texts):
    long_ones = [" ".join(texts[i:i + 4]) for i in range(100, 108)]
    special = [
        "", " ", "\u3000", "a", "The", "[CLS] in the text [SEP] [MASK]", "x" * 101, "x" * 100, "supercalifragilistic " * 3,
        "Crème brûlée à la carte, naïve façade, Ångström", "ÅNGSTRÖM versus ångström", "Привет, мир! Γειά σου Κόσμε",
        "日本語のテキスト と english words", "한국어 텍스트", "العربية نص", "हिन्दी पाठ", "😀 emoji 👩‍👩‍👧 family 🇩🇪",
        "tabs and\u00a0no-break\u2009spaces", "zero\u200bwidth\ufeffmarks\u00adsoft", "e\u0301 combining versus \u00e9",
        "C++ & C# -- 100% <b>html</b> &amp; $HOME/~user@example.org:8080?x=1#y", "ﬁ ligature, ½ fraction, ™ mark, Ⅷ numeral",
        "İstanbul ıslak Iğdır", "ß ẞ straße STRASSE", "\u0007bell and \u007fdelete", "the " * 400, "end",
    ]
    return special + long_ones + texts[200:228]


def main():
    texts = sample_texts()
    folder = FIXTURES / "tiny_encoder"
    build_model(folder, texts)
    chosen = parity_texts(texts)
    reference = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    reference.float()
    embeddings = numpy.stack([reference.encode([text], convert_to_numpy=True)[0] for text in chosen])
    whole = [len(reference.tokenizer(text, truncation=False)["input_ids"]) for text in chosen]
    (FIXTURES / "texts.jsonl").write_text(
        "".join(json.dumps({"id": f"t{i}", "text": text}, ensure_ascii=False) + "\n" for i, text in enumerate(chosen)))
    save_file({"embeddings": embeddings.astype(numpy.float32),
               "n_tokens": numpy.array([min(n, MAX_LENGTH) for n in whole], numpy.int32),
               "truncated": numpy.array([n > MAX_LENGTH for n in whole], numpy.uint8)}, FIXTURES / "expected.safetensors")
    (FIXTURES / "expected.safetensors").chmod(0o644)
    print(len(chosen), "texts,", sum(n > MAX_LENGTH for n in whole), "truncated,", embeddings.dtype, embeddings.shape)


main()
