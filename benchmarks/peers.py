#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Documents per second of muster beside its peers: same documents, same cores, one after the other.

    python3 benchmarks/peers.py --model models/all-mpnet-base-v2 --input docs.tsv --count 1000

Needs a Python with torch, transformers, sentence-transformers and openvino; muster itself needs none of them. A peer reads the
texts, tokenizes, embeds and normalizes them, all timed, after its model is loaded and warm; it is tried with every batch size and
thread layout listed below and its best figure counts. muster's figure is what its last line says: from the first document taken to the
results on disk, likewise without loading; the whole process, from its start to the closed HDF5 file, is listed beside it. Each
peer runs in a process of its own. Prints a table and, with --json, writes the figures.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time

BATCH_SIZES = (4, 8, 16, 32, 64)


def read_documents(path, count):
    rows = [line.rstrip("\n").split("\t", 1) for line in open(path, encoding="utf-8")]
    step = max(1, len(rows) // count)  # spread over the file, so that the sample has its mix of lengths
    return rows[::step][:count]


def sentence_transformers_rate(arguments, texts, dtype):
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(arguments.cores)
    model = SentenceTransformer(arguments.model, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
    runs = {}
    for batch in BATCH_SIZES:
        model.encode(texts[: 2 * batch], batch_size=batch, normalize_embeddings=True)
        start = time.perf_counter()
        vectors = model.encode(texts, batch_size=batch, normalize_embeddings=True)
        runs[f"batch {batch}"] = len(texts) / (time.perf_counter() - start)
    return runs, vectors


def openvino_model(arguments):
    import openvino as ov
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        """The encoder, its mean over real tokens and the norm in one graph."""

        def __init__(self):
            super().__init__()
            try:
                self.encoder = AutoModel.from_pretrained(arguments.model, attn_implementation="sdpa").eval()
            except ValueError:  # MPNet, for one, has only the plain one
                self.encoder = AutoModel.from_pretrained(arguments.model, attn_implementation="eager").eval()

        def forward(self, input_ids, attention_mask):
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(mean, dim=1)

    example = torch.ones((2, 7), dtype=torch.int64)
    with torch.no_grad():
        model = ov.convert_model(Pooled(), example_input={"input_ids": example, "attention_mask": example})
    model.reshape({port.any_name: ov.PartialShape([-1, -1]) for port in model.inputs})
    return model


def openvino_rate(arguments, texts, dtype):
    import numpy
    import openvino as ov
    from transformers import AutoTokenizer

    precision = {"bfloat16": "bf16", "float32": "f32"}[dtype]
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    limit = json.load(open(os.path.join(arguments.model, "sentence_bert_config.json")))["max_seq_length"]
    model = openvino_model(arguments)
    vectors = None

    def embed(queue, documents, batch):
        nonlocal vectors
        ids = tokenizer(documents, truncation=True, max_length=limit)["input_ids"]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        vectors = [None] * len(ids)

        def keep(request, members):
            for row, member in zip(request.get_output_tensor(0).data.copy(), members):
                vectors[member] = row

        queue.set_callback(keep)
        for start in range(0, len(order), batch):
            members = order[start : start + batch]
            width = len(ids[members[0]])
            tokens = numpy.full((len(members), width), tokenizer.pad_token_id, dtype=numpy.int64)
            mask = numpy.zeros((len(members), width), dtype=numpy.int64)
            for row, member in enumerate(members):
                tokens[row, : len(ids[member])] = ids[member]
                mask[row, : len(ids[member])] = 1
            queue.start_async({0: tokens, 1: mask}, members)
        queue.wait_all()

    runs = {}
    for streams in sorted({1, arguments.cores}):
        compiled = ov.Core().compile_model(model, "CPU", {
            "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": arguments.cores})
        queue = ov.AsyncInferQueue(compiled, streams)
        for batch in BATCH_SIZES:
            embed(queue, texts[: 2 * batch * streams], batch)
            start = time.perf_counter()
            embed(queue, texts, batch)
            runs[f"batch {batch}, {streams} streams"] = len(texts) / (time.perf_counter() - start)
    return runs, vectors


def muster_rate(arguments, documents, dtype):
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "docs.tsv")
        with open(source, "w", encoding="utf-8") as file:
            file.writelines(f"{key}\t{text}\n" for key, text in documents)
        runs, whole = {}, {}
        for ranks, workers in sorted({(1, arguments.cores), (arguments.cores, 1)}):
            out = os.path.join(folder, f"out{ranks}")
            start = time.perf_counter()
            ended = subprocess.run(
                [arguments.muster, "encode", "-m", arguments.model, "-i", source, "-o", out, "-n", str(ranks),
                 "--workers", str(workers), "--dtype", dtype, "--map-points", "0"],
                check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            setting = f"{ranks} ranks x {workers} workers"
            whole[setting] = len(documents) / (time.perf_counter() - start)
            runs[setting] = float(re.search(r"([0-9.]+) documents/s", ended.stdout).group(1))
        for setting, rate in whole.items():
            print(f"    muster/{dtype}, {setting}: {runs[setting]:.1f} docs/s computing, {rate:.1f} with start and end", flush=True)
        return runs, embeddings(out)


def embeddings(out):
    import h5py

    with h5py.File(os.path.join(out, "embeddings.h5")) as file:
        return file["embeddings"][:]


def worst_cosine(vectors, reference):
    import numpy

    vectors, reference = (numpy.asarray(v, dtype=numpy.float64) for v in (vectors, reference))
    product = (vectors * reference).sum(1) / (numpy.linalg.norm(vectors, axis=1) * numpy.linalg.norm(reference, axis=1))
    return float(product.min())


PEERS = {
    "muster": muster_rate,
    "openvino": openvino_rate,
    "sentence-transformers": sentence_transformers_rate,
}


def measure_one(arguments):
    """In a process of its own: one peer, one dtype; leaves its figures and vectors in files."""
    import numpy

    documents = read_documents(arguments.input, arguments.count)
    peer, dtype = arguments.only.split("/")
    given = documents if peer == "muster" else [text for _, text in documents]
    runs, vectors = PEERS[peer](arguments, given, dtype)
    numpy.save(arguments.result + ".npy", numpy.asarray(vectors, dtype=numpy.float32))
    json.dump(runs, open(arguments.result + ".json", "w"))


def machine():
    name = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True, help="TSV of id and text")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--muster", default=str(pathlib.Path(__file__).parent.parent / "build" / "muster"))
    parser.add_argument("--peers", default="muster/bf16,muster/int8,openvino/bfloat16,sentence-transformers/bfloat16,muster/fp32",
                        help="comma-separated peer/dtype (default: %(default)s)")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        return measure_one(arguments)

    import numpy

    figures = {"machine": machine(), "model": os.path.basename(arguments.model.rstrip("/")), "documents": arguments.count, "peers": {}}
    with tempfile.TemporaryDirectory() as folder:
        reference = None
        for name in arguments.peers.split(","):
            result = os.path.join(folder, "result")
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", name, "--result", result], check=True)
            runs = json.load(open(result + ".json"))
            vectors = numpy.load(result + ".npy")
            best = max(runs, key=runs.get)
            reference = vectors if reference is None else reference
            figures["peers"][name] = {"docs_per_second": runs[best], "best_setting": best, "all": runs,
                                      "worst_cosine_to_first": worst_cosine(vectors, reference)}
            print(f"{name:32s} {runs[best]:8.1f} docs/s   {best}", flush=True)
    first = next(iter(figures["peers"].values()))["docs_per_second"]
    for name, peer in list(figures["peers"].items())[1:]:
        print(f"first is {first / peer['docs_per_second']:.2f}x {name}; worst cosine between them {peer['worst_cosine_to_first']:.6f}")
    if arguments.json:
        json.dump(figures, open(arguments.json, "w"), indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
