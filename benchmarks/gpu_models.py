#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Model folders for the GPU check, where there is neither a network nor room for real weights.

    python3 benchmarks/gpu_models.py shrink FROM TO            a copy whose fp32 weights are cut to bf16: half the bytes
    python3 benchmarks/gpu_models.py random SHAPE TOKENIZER TO seeded weights in the shape of a known model (mpnet, minilm)

Needs nothing but Python, and writes the same bytes everywhere.
"""
import array
import json
import pathlib
import random
import shutil
import struct
import sys

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
MODEL_FILES = TOKENIZER_FILES + ("config.json", "config_sentence_transformers.json", "modules.json",
                                 "sentence_bert_config.json", "1_Pooling/config.json", "2_Normalize/config.json")
SHAPES = {
    "mpnet": {"model_type": "mpnet", "architectures": ["MPNetModel"], "hidden_size": 768, "num_hidden_layers": 12,
              "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 30527, "max_position_embeddings": 514,
              "relative_attention_num_buckets": 32, "layer_norm_eps": 1e-05, "hidden_act": "gelu", "pad_token_id": 1,
              "bos_token_id": 0, "eos_token_id": 2},
    "minilm": {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 384, "num_hidden_layers": 6,
               "num_attention_heads": 12, "intermediate_size": 1536, "vocab_size": 30522, "max_position_embeddings": 512,
               "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 0},
}


# ---- safetensors ------------------------------------------------------------------------------------------------------------


def write_safetensors(path, tensors, data_of):
    """`tensors`: (name, dtype, shape, bytes) in file order; `data_of(index)` gives the bytes of one."""
    header, offset = {}, 0
    for name, dtype, shape, size in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for index in range(len(tensors)):
            file.write(data_of(index))


def upper_halves(data):
    """fp32 to bf16 by leaving out the lower 16 bits."""
    out = bytearray(len(data) // 2)
    out[0::2], out[1::2] = data[2::4], data[3::4]
    return bytes(out)


def shrink_weights(source, target):
    with open(source, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    entries = sorted(header.items(), key=lambda entry: entry[1]["data_offsets"][0])
    tensors = []
    for name, entry in entries:
        begin, end = entry["data_offsets"]
        narrow = entry["dtype"] == "F32"
        tensors.append((name, "BF16" if narrow else entry["dtype"], entry["shape"], (end - begin) // (2 if narrow else 1)))

    def data_of(index):
        begin, end = entries[index][1]["data_offsets"]
        raw = data[begin:end]
        return upper_halves(raw) if entries[index][1]["dtype"] == "F32" else raw

    write_safetensors(target, tensors, data_of)


def shrink(source, target):
    source, target = pathlib.Path(source), pathlib.Path(target)
    for name in MODEL_FILES:
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
    shrink_weights(source / "model.safetensors", target / "model.safetensors")


# ---- random weights ---------------------------------------------------------------------------------------------------------


def block_tensors(shape):
    """Names and shapes of one block, as the checkpoints of the two architectures spell them."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    mpnet = shape["model_type"] == "mpnet"
    query, key, value, out = (("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o") if mpnet else
                              ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"))
    norm = "attention.LayerNorm" if mpnet else "attention.output.LayerNorm"
    for name in (query, key, value, out):
        yield name + ".weight", [hidden, hidden]
        yield name + ".bias", [hidden]
    for name in (norm, "output.LayerNorm"):
        yield name + ".weight", [hidden]
        yield name + ".bias", [hidden]
    yield "intermediate.dense.weight", [inner, hidden]
    yield "intermediate.dense.bias", [inner]
    yield "output.dense.weight", [hidden, inner]
    yield "output.dense.bias", [hidden]


def all_tensors(shape):
    hidden = shape["hidden_size"]
    yield "embeddings.word_embeddings.weight", [shape["vocab_size"], hidden]
    yield "embeddings.position_embeddings.weight", [shape["max_position_embeddings"], hidden]
    if "type_vocab_size" in shape:
        yield "embeddings.token_type_embeddings.weight", [shape["type_vocab_size"], hidden]
    yield "embeddings.LayerNorm.weight", [hidden]
    yield "embeddings.LayerNorm.bias", [hidden]
    if shape["model_type"] == "mpnet":
        yield "encoder.relative_attention_bias.weight", [shape["relative_attention_num_buckets"], shape["num_attention_heads"]]
    for layer in range(shape["num_hidden_layers"]):
        for name, sizes in block_tensors(shape):
            yield f"encoder.layer.{layer}.{name}", sizes


class Values:
    """Normal values of deviation 0.04, cut out of one long block at a place of their own for each tensor."""

    def __init__(self, seed):
        generator = random.Random(seed)
        self.block = array.array("f", (generator.gauss(0, 0.04) for _ in range((1 << 20) + 7)))
        if sys.byteorder == "big":
            self.block.byteswap()
        self.generator = generator

    def bytes(self, count):
        start = self.generator.randrange(len(self.block))
        turned = self.block[start:] + self.block[:start]
        return (turned * (count // len(turned)) + turned[: count % len(turned)]).tobytes()


def count_of(sizes):
    count = 1
    for size in sizes:
        count *= size
    return count


def random_model(shape_name, tokenizer, target):
    """A sentence-transformers folder with mean pooling and unit vectors."""
    shape, target, tokenizer = SHAPES[shape_name], pathlib.Path(target), pathlib.Path(tokenizer)
    for folder in ("1_Pooling", "2_Normalize"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, target / name)

    def write_json(name, content):
        (target / name).write_text(json.dumps(content, indent=1))

    write_json("config.json", shape)
    write_json("modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": "sentence_transformers.models." + kind}
        for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])])
    write_json("1_Pooling/config.json", {"word_embedding_dimension": shape["hidden_size"], "pooling_mode_mean_tokens": True})
    write_json("sentence_bert_config.json", {"max_seq_length": 384, "do_lower_case": False})

    values = Values(shape_name)
    tensors = [(name, "F32", sizes, 4 * count_of(sizes)) for name, sizes in all_tensors(shape)]

    def data_of(index):
        name, _, _, size = tensors[index]
        if name.endswith("LayerNorm.weight"):
            return struct.pack("<f", 1.0) * (size // 4)
        return bytes(size) if name.endswith(".bias") else values.bytes(size // 4)

    write_safetensors(target / "model.safetensors", tensors, data_of)


def main():
    arguments = sys.argv[1:]
    if len(arguments) == 3 and arguments[0] == "shrink":
        return shrink(*arguments[1:])
    if len(arguments) == 4 and arguments[0] == "random" and arguments[1] in SHAPES:
        return random_model(*arguments[1:])
    sys.exit(__doc__)


if __name__ == "__main__":
    main()
