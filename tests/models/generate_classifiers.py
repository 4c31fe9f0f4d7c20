#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the parity fixtures of classifiers: tiny random ...ForSequenceClassification models and encoders with heads of
muster's own (classifier.json, classifier.safetensors), and the logits that the reference makes of a few texts.

    python tests/models/generate_classifiers.py [NAME ...]         # all, or these

Needs what generate_fixtures.py needs. A fixture is fixtures/classifiers/NAME: the model's folder and in it
expected.safetensors: ids and lengths of the texts, and their logits as `embeddings` [texts, classes].
"""
import argparse
import json
import pathlib
import shutil

import numpy
import torch
import transformers
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file

from generate_fixtures import FIXTURES, TEXTS, build_transformer, randomize

FOLDER = FIXTURES / "classifiers"
HEAD = transformers.AutoModelForSequenceClassification


def labels(count):
    return dict(id2label={i: f"class {i}" for i in range(count)}, label2id={f"class {i}": i for i in range(count)})


# name -> (the transformer, the head of our own with its pooling and classes or None for transformers' own)
VARIANTS = {
    "bert": (dict(hidden=32, heads=4, head=HEAD, problem_type="multi_label_classification", **labels(7)), None),
    "bert_two_classes": (dict(hidden=16, heads=2, layers=1, head=HEAD, num_labels=2), None),
    "mpnet": (dict(kind="mpnet", hidden=24, heads=3, positions=98, head=HEAD, **labels(5)), None),
    "roberta": (dict(kind="roberta", hidden=24, heads=3, positions=66, max_length=60, type_vocab_size=1, head=HEAD,
                     problem_type="single_label_classification", **labels(33)), None),
    "distilbert": (dict(kind="distilbert", hidden=24, heads=2, positions=64, head=HEAD, **labels(4)), None),
    "bilinear_first": (dict(hidden=24, heads=3, layers=1, **labels(11)), ("bilinear", "first", 11)),
    "bilinear_mean": (dict(kind="mpnet", hidden=24, heads=3, layers=1, positions=98), ("bilinear", "mean", 6)),
    "linear_mean": (dict(kind="distilbert", hidden=20, heads=2, layers=1, positions=64, **labels(9)), ("linear", "mean", 9)),
}


def write_head(folder, seed, hidden, head, pooling, classes):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"bilinear": {"bilinear.weight": (hidden, hidden), "class_embeddings.weight": (classes, hidden)},
              "linear": {"classifier.weight": (classes, hidden), "classifier.bias": (classes,)}}[head]
    tensors = {name: torch.randn(shape, generator=generator) / hidden ** 0.5 for name, shape in shapes.items()}
    save_torch_file(tensors, folder / "classifier.safetensors")
    (folder / "classifier.json").write_text(json.dumps({"head": head, "pooling": pooling, "classes": classes}) + "\n")
    return tensors


def own_logits(model, ids, head, pooling, tensors):
    out = model(torch.tensor([ids]))
    d = out.last_hidden_state[0].mean(0) if pooling == "mean" else out.pooler_output[0]
    if head == "linear":
        return tensors["classifier.weight"] @ d + tensors["classifier.bias"]
    return (d @ tensors["bilinear.weight"]) @ tensors["class_embeddings.weight"].T


def build(name):
    transformer, own = VARIANTS[name]
    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seed = sum(name.encode())
    build_transformer(folder, seed=seed, **transformer)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text, truncation=True)["input_ids"] for text in TEXTS]
    with torch.no_grad():
        if own:
            model = transformers.AutoModel.from_pretrained(folder).eval()
            tensors = write_head(folder, seed, transformer["hidden"], *own)
            logits = [own_logits(model, i, *own[:2], tensors) for i in ids]
        else:
            model = HEAD.from_pretrained(folder).eval()
            logits = [model(torch.tensor([i])).logits[0] for i in ids]
    save_file({"ids": numpy.concatenate([numpy.array(i, dtype=numpy.int32) for i in ids]),
               "lengths": numpy.array([len(i) for i in ids], dtype=numpy.int32),
               "prompt_tokens": numpy.array([0], dtype=numpy.int32),
               "embeddings": torch.stack(logits).numpy()}, folder / "expected.safetensors",
              metadata={"texts": json.dumps(TEXTS)})
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{name}: largest file {largest / 1000:.0f} kB, logits up to {max(z.abs().max() for z in logits):.2f}")
    assert largest <= 300_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    torch.set_num_threads(1)
    for name in parser.parse_args().names or VARIANTS:
        build(name)


if __name__ == "__main__":
    main()
