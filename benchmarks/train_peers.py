#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Training texts per second of muster beside Hugging Face Trainer: same documents, same cores, one after the other.

    python3 benchmarks/train_peers.py --models models/all-MiniLM-L6-v2 models/all-mpnet-base-v2 --input docs.tsv

Needs a Python with torch, transformers and accelerate; muster itself needs none of them. A document carries random classes drawn
from a seed, so that only speed is measured: sequence classification with several labels a document, bf16 (autocast in the
peer), dropout as the model has it, AdamW, batches of 16, at most 128 tokens. The peer runs twice: with batches of any
lengths padded to their longest, and with batches of like lengths (group_by_length). Texts are tokenized beforehand and the first
steps, which compile and warm up, do not count; loading is not timed. Each contender runs in a process of its own. Prints a table
and, with --json, writes the figures.
"""
import argparse
import datetime
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

from peers import machine, read_documents

PEERS = {"trainer": "random", "trainer, like lengths": "group_by_length"}
LABELS_A_DOCUMENT = 3


def random_labels(arguments, count):
    """Which classes each document has: the same for every contender."""
    numbers = random.Random(arguments.seed)
    return [sorted(numbers.sample(range(arguments.classes), min(LABELS_A_DOCUMENT, arguments.classes))) for _ in range(count)]


def trainer_arguments(arguments, folder, sampling):
    import inspect

    from transformers import TrainingArguments

    options = dict(
        output_dir=folder, per_device_train_batch_size=arguments.batch, num_train_epochs=arguments.epochs, use_cpu=True,
        bf16=True, optim="adamw_torch_fused", learning_rate=5e-5, weight_decay=0.01, save_strategy="no", logging_strategy="no",
        report_to=[], disable_tqdm=True, seed=arguments.seed)
    if "train_sampling_strategy" in inspect.signature(TrainingArguments).parameters:
        options["train_sampling_strategy"] = sampling
    else:  # transformers 4
        options["group_by_length"] = sampling == "group_by_length"
    return TrainingArguments(**options)


def trainer_rate(arguments, model_folder, documents, sampling):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainerCallback

    torch.set_num_threads(arguments.cores)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    rows = []
    for (_, text), classes in zip(documents, random_labels(arguments, len(documents))):
        row = dict(tokenizer(text, truncation=True, max_length=arguments.tokens))
        row["labels"] = [float(c in classes) for c in range(arguments.classes)]
        rows.append(row)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_folder, num_labels=arguments.classes, problem_type="multi_label_classification")
    ends = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        Trainer(model=model, args=trainer_arguments(arguments, folder, sampling), train_dataset=rows,
                data_collator=DataCollatorWithPadding(tokenizer), callbacks=[Clock()]).train()
    counted = ends[arguments.skip:]
    tokens = sum(len(row["input_ids"]) for row in rows)
    return {"texts_per_second": arguments.batch * (len(counted) - 1) / (counted[-1] - counted[0]),
            "steps": len(counted) - 1, "tokens_per_text": tokens / len(rows)}


def write_inputs(arguments, folder, documents):
    with open(os.path.join(folder, "docs.tsv"), "w", encoding="utf-8") as file:
        file.writelines(f"{key}\t{text}\n" for key, text in documents)
    with open(os.path.join(folder, "labels.tsv"), "w", encoding="utf-8") as file:
        for (key, _), classes in zip(documents, random_labels(arguments, len(documents))):
            file.write(f"{key}\t{','.join(map(str, classes))}\n")
    with open(os.path.join(folder, "classes.tsv"), "w", encoding="utf-8") as file:
        file.writelines(f"{number}\tclass {number}\n" for number in range(arguments.classes))


def muster_rate(arguments, model_folder, documents):
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(arguments, folder, documents)
        path = lambda name: os.path.join(folder, name)
        settings = {"train.batch_per_rank": arguments.batch, "train.epochs": arguments.epochs, "train.log_every": arguments.skip,
                    "model.max_length": arguments.tokens, "run.dtype": "bf16", "run.device": "cpu",
                    "run.workers": arguments.cores}
        command = [arguments.muster, "train", "-m", model_folder, "-i", path("docs.tsv"), "-o", path("out"),
                   "--labels", path("labels.tsv"), "--classes", path("classes.tsv")]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        metrics = [json.loads(line) for line in open(path("out/metrics.jsonl"), encoding="utf-8")]
    seconds = {m["step"]: datetime.datetime.fromisoformat(m["ts"].replace("Z", "+00:00")).timestamp()
               for m in metrics if m["name"] == "loss" and m["step"] % arguments.skip == 0}
    steps = max(seconds) - min(seconds)
    return {"texts_per_second": arguments.batch * steps / (seconds[max(seconds)] - seconds[min(seconds)]), "steps": steps}


def measure_one(arguments):
    """In a process of its own: one contender with one model; leaves its figures in a file."""
    documents = read_documents(arguments.input, arguments.count)
    name, model = arguments.only
    figures = trainer_rate(arguments, model, documents, PEERS[name]) if name in PEERS else muster_rate(arguments, model, documents)
    json.dump(figures, open(arguments.result, "w"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--input", required=True, help="TSV of id and text")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--skip", type=int, default=10, help="steps that do not count (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--muster", default=str(pathlib.Path(__file__).parent.parent / "build" / "muster"))
    parser.add_argument("--contenders", default=";".join(["muster", *PEERS]), help="separated by semicolons (default: %(default)s)")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        return measure_one(arguments)

    figures = {"machine": machine(), "documents": arguments.count, "models": {}}
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result.json")
        for model in arguments.models:
            rates = figures["models"][os.path.basename(model.rstrip("/"))] = {}
            for name in arguments.contenders.split(";"):
                subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", name, model, "--result", result], check=True)
                rates[name] = json.load(open(result))
                first = next(iter(rates.values()))["texts_per_second"]
                rate = rates[name]["texts_per_second"]
                print(f"{os.path.basename(model.rstrip('/')):24s} {name:24s} {rate:8.1f} texts/s   {first / rate:5.2f}x", flush=True)
    if arguments.json:
        json.dump(figures, open(arguments.json, "w"), indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
