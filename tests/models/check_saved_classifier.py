#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loads a trained classifier's folder with transformers and compares its logits.

    MUSTER_KEEP_CLASSIFIERS=DIR test_models --gtest_filter='*SavedFolder*'     # writes DIR/NAME and DIR/NAME/expected.json
    python tests/models/check_saved_classifier.py DIR/* [--expected FILE]

Needs torch, transformers 5.23, safetensors. expected.json: {"ids": [[...], ...], "logits": [[...], ...]}, texts as token ids; one
folder may have its expectations elsewhere (--expected). Exit code 1 when a folder does not load cleanly or differs.
"""
import argparse
import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import load_file

TOLERANCE = 2e-5


def load(folder):
    """A function from token ids to logits, and what transformers found missing or left over."""
    own = folder / "classifier.json"
    kind = transformers.AutoModel if own.exists() else transformers.AutoModelForSequenceClassification
    model, report = kind.from_pretrained(folder, output_loading_info=True)
    model.eval()
    assert model.dtype == torch.float32, model.dtype
    assert model.config.architectures == [type(model).__name__], model.config.architectures
    assert model.config.problem_type == "multi_label_classification"
    assert [model.config.label2id[model.config.id2label[i]] for i in range(model.config.num_labels)] == list(range(model.config.num_labels))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer("the cat")["input_ids"]
    problems = [key for key in report["missing_keys"] if not (own.exists() and key.startswith("pooler."))]
    problems += [*report["unexpected_keys"], *report["mismatched_keys"]]
    if not own.exists():
        return lambda ids: model(ids).logits[0], problems
    head, tensors = json.loads(own.read_text()), load_file(folder / "classifier.safetensors")
    assert head["classes"] == model.config.num_labels

    def logits(ids):
        out = model(ids)
        d = out.last_hidden_state[0].mean(0) if head["pooling"] == "mean" else out.pooler_output[0]
        if head["head"] == "linear":
            return tensors["classifier.weight"] @ d + tensors["classifier.bias"]
        return (d @ tensors["bilinear.weight"]) @ tensors["class_embeddings.weight"].T

    return logits, problems


def check(folder, expected_path):
    expected = json.loads(expected_path.read_text())
    logits, problems = load(folder)
    with torch.no_grad():
        found = torch.stack([logits(torch.tensor([ids])) for ids in expected["ids"]])
    difference = (found - torch.tensor(expected["logits"])).abs().max().item()
    good = not problems and difference <= TOLERANCE
    print(f"{folder.name}: logits differ by {difference:.2g} at most{'' if not problems else f', {problems}'}: {'good' if good else 'BAD'}")
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--expected", type=pathlib.Path)
    arguments = parser.parse_args()
    results = [check(folder, arguments.expected or folder / "expected.json") for folder in arguments.folders]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
