#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the classifier of the system tests: a tiny BERT with random weights and nine classes in a hierarchy, and the logits
that transformers gives the first documents of the demo sample.

    python tests/phases/generate_classifier.py

Needs what generate_fixtures.py needs. Written to fixtures/tiny_classifier: the model's folder, classes.txt, hierarchy.txt and
expected.safetensors (logits [64, 9] in fp32).
"""
import gzip
import math
import pathlib
import shutil

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
FOLDER = HERE / "fixtures" / "tiny_classifier"
SAMPLE = HERE.parent.parent / "configs" / "demo" / "debian_2000.tsv.gz"
MAX_LENGTH = 64
DOCUMENTS = 64
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Names that a CSV has to quote are among them.
CLASSES = ["software", "games", "documents", "editors", "servers", "puzzles, boards", "strategy", "web servers", "\"the\" editor"]
EDGES = [(0, 3), (0, 4), (1, 5), (1, 6), (0, 6), (4, 7), (3, 8), (2, 8)]  # strategy and "the" editor have two parents


def sample_texts():
    with gzip.open(SAMPLE, "rt", encoding="utf-8", newline="\n") as lines:
        return [line.rstrip("\n").split("\t")[1] for line in lines][1:]


def save_tokenizer(texts):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=500, limit_alphabet=60, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_LENGTH, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        unk_token="[UNK]", mask_token="[MASK]")
    fast.save_pretrained(FOLDER)
    return fast


def randomize(model, seed):
    """Weights of a size at which every part of the model matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in sorted(model.named_parameters()):
        noise = torch.randn(value.shape, generator=generator)
        if "norm" in name.lower():
            value.data = noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)
        elif "embedding" in name:
            value.data = noise
        else:
            value.data = noise * (0.1 if value.dim() == 1 else 1.5 / math.sqrt(value.shape[-1]))


def logits_of(model, tokenizer, texts):
    with torch.no_grad():
        return torch.stack([model(torch.tensor([tokenizer(text, truncation=True)["input_ids"]])).logits[0] for text in texts])


def spread(model, logits):
    """Documents get different labels: each class has logits around -0.5, and as many of them above 0."""
    model.classifier.weight.data *= 1.5 / logits.std(0).unsqueeze(1)
    model.classifier.bias.data = (model.classifier.bias.data - logits.mean(0)) * 1.5 / logits.std(0) - 0.5


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    texts = sample_texts()
    tokenizer = save_tokenizer(texts)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=MAX_LENGTH, problem_type="multi_label_classification",
        id2label=dict(enumerate(CLASSES)), label2id={name: i for i, name in enumerate(CLASSES)})
    model = transformers.BertForSequenceClassification(config).eval()
    randomize(model, 20261)
    spread(model, logits_of(model, tokenizer, texts[:DOCUMENTS]))
    model.save_pretrained(FOLDER)
    (FOLDER / "classes.txt").write_text("".join(f"{i}\t{name}\n" for i, name in enumerate(CLASSES)))
    (FOLDER / "hierarchy.txt").write_text("".join(f"{a}\t{b}\n" for a, b in EDGES))
    logits = logits_of(model, tokenizer, texts[:DOCUMENTS])
    save_file({"logits": logits}, FOLDER / "expected.safetensors")
    for path in FOLDER.iterdir():
        path.chmod(0o644)
    print(sum(path.stat().st_size for path in FOLDER.iterdir()) // 1000, "kB; best classes",
          logits.argmax(1).bincount(minlength=len(CLASSES)).tolist(), "logits", logits.min().item(), logits.max().item())


if __name__ == "__main__":
    main()
