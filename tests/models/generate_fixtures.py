#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the parity fixtures: tiny random text encoders in the on-disk format of sentence-transformers, and what the
reference makes of a few texts.

    python tests/models/generate_fixtures.py [NAME ...]            # all, or these
    python tests/models/generate_fixtures.py --real NAME FOLDER    # expectations for a real model in FOLDER

Needs torch, transformers 5.23, sentence-transformers 6.2, safetensors. A fixture is fixtures/NAME: the model's folder and in it
expected.safetensors: ids and lengths of the texts, embeddings [texts, dimensions], prompt_tokens, and the hidden states of text
TRACED after every layer; its metadata holds the texts as JSON.
"""
import argparse
import json
import math
import pathlib
import shutil
import tempfile

import numpy
import torch
import transformers
from safetensors.numpy import save_file
from safetensors.torch import load_file, save_file as save_torch_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
TRACED = 1  # the text whose hidden states are kept
TEXTS = [
    "",
    "the cat sat on a mat",
    "a",
    "fast text search tool, written in c.",
    "<pad> in the middle <pad> of a text",
    "zebra quiz, jumping over the lazy dog and the cat! " * 3,
    "the " * 400,
    "one two three",
    "two one three",
]
REAL_TEXTS = [
    "",
    "a text editor",
    "Muster runs documents through a model on every rank.",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "Real-time strategy game of ancient warfare, free and open-source. " * 40,
]
ALL_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
BERT = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "unk": "[UNK]", "order": ["pad", "unk", "cls", "sep"]}
ROBERTA = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "order": ["cls", "pad", "sep", "unk"]}


def save_tokenizer(folder, special, max_length):
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["the", "cat", "dog", "text", "one", "two", "three", "##ing", "search", "and"]
    pieces = [special[key] for key in special["order"]] + list(letters + ".,!?") + ["##" + c for c in letters] + words
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=special["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special['cls']} $A {special['sep']}",
        special_tokens=[(special[key], vocab[special[key]]) for key in ("cls", "sep")])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_length,
        cls_token=special["cls"], sep_token=special["sep"], pad_token=special["pad"], unk_token=special["unk"])
    fast.save_pretrained(folder)
    return len(vocab)


def randomize(model, seed):
    """Weights of a size at which every part of the model matters (the usual initial ones leave attention nearly flat)."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(model.named_parameters()):
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name.lower():
            value.data = noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        elif "embedding" in name or "relative" in name:
            value.data = noise
        else:
            value.data = noise * (0.1 if value.dim() == 1 else 1.5 / math.sqrt(value.shape[-1]))


def config_of(kind, vocab, hidden, heads, layers, intermediate, positions, **more):
    sizes = dict(hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=intermediate)
    if kind == "distilbert":
        sizes = dict(dim=hidden, n_heads=heads, n_layers=layers, hidden_dim=intermediate)
    return transformers.AutoConfig.for_model(kind, vocab_size=vocab, max_position_embeddings=positions, **sizes, **more)


def build_transformer(folder, seed, kind="bert", hidden=40, heads=5, layers=2, intermediate=72, positions=96,
                      max_length=64, dtype=torch.float32, shard="5GB", head=None, **more):
    special = BERT if kind in ("bert", "distilbert") else ROBERTA
    vocab = save_tokenizer(folder, special, max_length)
    config = config_of(kind, vocab, hidden, heads, layers, intermediate, positions, **more)
    model = (head or transformers.AutoModel).from_config(config)
    randomize(model, seed)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)


def rewrite_json(path, change):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(change(content), indent=2) + "\n")


def make_legacy(folder):
    """The layout of sentence-transformers 2 around a checkpoint that once came from TensorFlow."""
    def short_types(entries):
        return [{**e, "type": "sentence_transformers.models." + e["type"].rsplit(".", 1)[1]} for e in entries]

    def old_keys(config):
        keys = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")
        return {"word_embedding_dimension": config["embedding_dimension"],
                **{"pooling_mode_" + key: key.split("_tok")[0] == config["pooling_mode"] for key in keys}}

    rewrite_json(folder / "modules.json", short_types)
    rewrite_json(folder / "1_Pooling" / "config.json", old_keys)
    rewrite_json(folder / "sentence_bert_config.json", lambda _: {"max_seq_length": 24, "do_lower_case": False})
    path = folder / "model.safetensors"
    renamed = {"bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
               for name, value in load_file(path).items() if not name.startswith("pooler.")}
    renamed["cls.predictions.bias"] = torch.zeros(7)
    renamed["bert.embeddings.position_ids"] = torch.arange(96).unsqueeze(0)
    save_torch_file(renamed, path, metadata={"format": "pt"})


def make_bare(folder):
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json"):
        (folder / name).unlink()
    for name in ("1_Pooling", "2_Normalize"):
        shutil.rmtree(folder / name, ignore_errors=True)


def seeded(module, seed):
    randomize(module, seed)
    return module


# name -> (the transformer, the pooling, the modules behind it, what else is done to the folder)
VARIANTS = {
    "bert_mean": (dict(), dict(), lambda: [Normalize()], None),
    "bert_legacy": (dict(hidden=32, heads=4), dict(pooling_mode="cls"), lambda: [Normalize()], make_legacy),
    "bert_all_poolings": (dict(hidden=24, heads=2, layers=1), dict(pooling_mode=ALL_MODES), lambda: [], None),
    "bert_dense": (dict(hidden=40, heads=2), dict(pooling_mode=("cls", "mean")), lambda: [
        seeded(Dense(80, 24), 1), seeded(LayerNorm(24), 2), seeded(Dense(24, 24, bias=False, use_residual=True,
            activation_function=torch.nn.GELU()), 3), Normalize(), seeded(Dense(24, 18, use_residual=True,
            activation_function=torch.nn.Identity()), 4)], None),
    "bert_head33_fp16": (dict(hidden=66, heads=2, layers=1, dtype=torch.float16), dict(pooling_mode="max"), lambda: [], None),
    "bert_bf16_shards": (dict(hidden=48, heads=3, dtype=torch.bfloat16, shard="40KB"), dict(pooling_mode="weightedmean"),
                         lambda: [Normalize()], None),
    "bert_prompt": (dict(hidden=32, heads=2, layers=1), dict(pooling_mode=("mean", "weightedmean", "cls", "max"),
                    include_prompt=False), lambda: [Normalize()], None),
    "bert_gelu_new": (dict(hidden=16, heads=1, layers=3, hidden_act="gelu_new"), dict(), lambda: [], None),
    "bert_silu": (dict(hidden=20, heads=1, layers=1, hidden_act="silu"), dict(), lambda: [], None),
    "mpnet_mean": (dict(kind="mpnet", hidden=36, heads=4, positions=206, max_length=200), dict(), lambda: [Normalize()], None),
    "distilbert_bare": (dict(kind="distilbert", positions=64, max_length=64), dict(), lambda: [], make_bare),
    "roberta_last": (dict(kind="roberta", hidden=66, heads=3, layers=1, positions=66, max_length=60, type_vocab_size=1),
                     dict(pooling_mode="lasttoken"), lambda: [Normalize()], None),
    "roberta_lm_head": (dict(kind="roberta", hidden=30, heads=5, layers=1, hidden_act="relu",
                             head=transformers.AutoModelForMaskedLM), dict(), lambda: [Normalize()], None),
    "xlm_roberta_sqrt": (dict(kind="xlm-roberta", hidden=24, heads=3, layers=1), dict(pooling_mode="mean_sqrt_len_tokens"),
                         lambda: [], None),
    "camembert_cls": (dict(kind="camembert", hidden=24, heads=3, layers=1), dict(pooling_mode="cls"), lambda: [], None),
}
PROMPT = "search text: "


def expectations(model, texts, prompt=None):
    """One text at a time, so that the reference pads nothing."""
    tokenizer, transformer = model.tokenizer, model[0]
    ids = [tokenizer((prompt or "") + text, truncation=True, max_length=transformer.max_seq_length)["input_ids"] for text in texts]
    embeddings = numpy.stack([model.encode(text, prompt=prompt) for text in texts])
    with torch.no_grad():
        states = transformer.auto_model(torch.tensor([ids[TRACED]]), output_hidden_states=True).hidden_states
    prompt_tokens = transformer._get_prompt_length(prompt) if prompt else 0
    out = {"ids": numpy.concatenate([numpy.array(i, dtype=numpy.int32) for i in ids]),
           "lengths": numpy.array([len(i) for i in ids], dtype=numpy.int32),
           "prompt_tokens": numpy.array([prompt_tokens], dtype=numpy.int32),
           "embeddings": embeddings.astype(numpy.float32),
           "embeddings_of_traced": states[0][0].numpy()}
    out.update({f"layer.{i}": state[0].numpy() for i, state in enumerate(states[1:])})
    return out


def reference(folder):
    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})


def build(name):
    transformer, pooling, behind, change = VARIANTS[name]
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as bare:
        build_transformer(pathlib.Path(bare), seed=sum(name.encode()), **transformer)
        first = Transformer(bare, model_kwargs={"dtype": transformer.get("dtype", torch.float32)})
        pool = Pooling(first.get_embedding_dimension(), **pooling)
        prompts = {"search": PROMPT} if pooling.get("include_prompt") is False else None
        model = SentenceTransformer(modules=[first, pool, *behind()], device="cpu", prompts=prompts)
        model.save_pretrained(str(folder), create_model_card=False)
        # As it was stored: loading and saving again loses heads and shards.
        for path in folder.glob("*.safetensors*"):
            path.unlink()
        for path in pathlib.Path(bare).glob("*.safetensors*"):
            shutil.copy(path, folder)
    if change:
        change(folder)
    source = reference(folder)
    prompt = PROMPT if pooling.get("include_prompt") is False else None
    save_file(expectations(source, TEXTS, prompt), folder / "expected.safetensors",
              metadata={"texts": json.dumps(TEXTS), "prompt": prompt or ""})
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name}: largest file {largest / 1000:.0f} kB")
    assert largest <= 300_000


def build_real(name, folder):
    kept = ("ids", "lengths", "prompt_tokens", "embeddings")
    found = {key: value for key, value in expectations(reference(folder), REAL_TEXTS).items() if key in kept}
    (FIXTURES / "real").mkdir(exist_ok=True)
    save_file(found, FIXTURES / "real" / f"{name}.safetensors", metadata={"texts": json.dumps(REAL_TEXTS), "prompt": ""})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--real", nargs=2, metavar=("NAME", "FOLDER"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.real:
        return build_real(*arguments.real)
    for name in arguments.names or VARIANTS:
        build(name)


if __name__ == "__main__":
    main()
