#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the fixtures of training: what torch makes of a classifier's logits, loss and every gradient.

    python tests/models/generate_gradients.py [NAME ...]         # all, or these

Needs what generate_fixtures.py needs, and its fixtures and those of generate_classifiers.py, whose folders are the models.
A fixture is fixtures/gradients/NAME.safetensors: ids and lengths of the texts, `targets` and `logits` [texts, classes], `loss` (the
mean of BCEWithLogits), `gradient:PARAMETER` named as transformers does, and `weight:PARAMETER` of heads that the folder lacks. Its
metadata names folder, head, pooling and classes.
"""
import argparse
import json

import numpy
import torch
import transformers
from safetensors.torch import load_file, save_file

from generate_fixtures import FIXTURES, TEXTS

CLASSES = 5
# A padding token's embedding has no gradient in transformers, as nothing but padding should have it.
PLAIN_TEXTS = [text for text in TEXTS if "<pad>" not in text]
# name -> folder, head, pooling, whether the head is new
VARIANTS = {
    "bert": ("classifiers/bert", "linear", "first", False),
    "bert_bilinear": ("classifiers/bilinear_first", "bilinear", "first", False),
    "bert_gelu_new_mean": ("bert_gelu_new", "linear", "mean", True),
    "camembert": ("camembert_cls", "linear", "first", True),
    "distilbert": ("classifiers/distilbert", "linear", "first", False),
    "distilbert_mean": ("classifiers/linear_mean", "linear", "mean", False),
    "mpnet": ("classifiers/mpnet", "linear", "first", False),
    "mpnet_bilinear_mean": ("classifiers/bilinear_mean", "bilinear", "mean", False),
    "roberta": ("classifiers/roberta", "linear", "first", False),
    "roberta_relu_mean": ("roberta_lm_head", "linear", "mean", True),
    "xlm_roberta": ("xlm_roberta_sqrt", "linear", "first", True),
}


def new_weight(shape, generator):
    return torch.randn(shape, generator=generator) / shape[-1] ** 0.5


class OwnHead(torch.nn.Module):
    """An encoder with a head of muster's own behind it."""

    def __init__(self, folder, head, pooling, classes, generator):
        super().__init__()
        self.encoder = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
        self.head, self.pooling = head, pooling
        path, hidden = folder / "classifier.safetensors", self.encoder.config.hidden_size
        if path.exists():
            tensors = load_file(path)
        else:
            tensors = {"classifier.weight": new_weight((classes, hidden), generator), "classifier.bias": new_weight((classes,), generator)}
        self.tensors = {name: value.requires_grad_() for name, value in tensors.items()}

    def logits(self, ids):
        out = self.encoder(torch.tensor([ids]))
        d = out.last_hidden_state[0].mean(0) if self.pooling == "mean" else out.pooler_output[0]
        if self.head == "linear":
            return self.tensors["classifier.weight"] @ d + self.tensors["classifier.bias"]
        return (d @ self.tensors["bilinear.weight"]) @ self.tensors["class_embeddings.weight"].T

    def parameters_by_name(self):
        return {**dict(self.encoder.named_parameters()), **self.tensors}


class TransformersHead(torch.nn.Module):
    def __init__(self, folder, classes, is_new, generator):
        super().__init__()
        more = dict(num_labels=classes) if is_new else {}
        self.model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **more)
        if is_new:
            for name, value in self.model.named_parameters():
                if name.startswith("classifier."):
                    value.data = new_weight(value.shape, generator)

    def logits(self, ids):
        return self.model(torch.tensor([ids])).logits[0]

    def parameters_by_name(self):
        return dict(self.model.named_parameters())


def classes_of(folder):
    own = folder / "classifier.json"
    if own.exists():
        return json.loads(own.read_text())["classes"]
    return len(json.loads((folder / "config.json").read_text()).get("id2label", range(CLASSES)))


def build(name):
    relative, head, pooling, is_new = VARIANTS[name]
    folder = FIXTURES / relative
    classes = CLASSES if is_new else classes_of(folder)
    generator = torch.Generator().manual_seed(sum(name.encode()))
    is_own = head == "bilinear" or pooling == "mean"
    model = OwnHead(folder, head, pooling, classes, generator) if is_own else TransformersHead(folder, classes, is_new, generator)
    model.eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    ids = [tokenizer(text, truncation=True, max_length=48)["input_ids"] for text in PLAIN_TEXTS]
    logits = torch.stack([model.logits(text) for text in ids])
    targets = (torch.rand(logits.shape, generator=generator) < 0.3).float()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    loss.backward()
    out = {"ids": torch.tensor([i for text in ids for i in text], dtype=torch.int32),
           "lengths": torch.tensor([len(text) for text in ids], dtype=torch.int32),
           "targets": targets, "logits": logits.detach(), "loss": loss.detach().reshape(1)}
    for key, value in model.parameters_by_name().items():
        if value.grad is not None:  # a pooler that nothing uses has none
            out[f"gradient:{key}"] = value.grad.contiguous()
        if is_new and key.startswith("classifier."):
            out[f"weight:{key}"] = value.detach().contiguous()
    path = FIXTURES / "gradients" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_file(out, path, metadata={"folder": relative, "head": head, "pooling": pooling, "classes": str(classes)})
    print(f"{name}: {path.stat().st_size / 1000:.0f} kB, loss {loss.item():.4f}")
    assert path.stat().st_size <= 300_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    torch.set_num_threads(1)
    for name in parser.parse_args().names or VARIANTS:
        build(name)


if __name__ == "__main__":
    main()
