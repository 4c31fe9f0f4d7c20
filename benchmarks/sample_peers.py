#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pictures per second of `muster sample` beside diffusers: same weights, prompts, steps and cores, one after the other.

    python3 benchmarks/sample_peers.py                       # Stable Diffusion 1.5 at 256 x 256
    python3 benchmarks/sample_peers.py --model sdxl          # SDXL at 512 x 512; takes 16 GB of memory

Needs a Python with torch, transformers, diffusers and tokenizers; muster itself needs none of them. The pipeline has the published
architecture and random weights, made once in the cache folder: speed does not depend on the values. diffusers is tried as it is,
channels last, and compiled (where torch.compile finds a compiler), each with every batch size given; loading, compiling and a first
pass that warms up are not timed, and a picture counts when its PNG is on disk. muster's time is what it notes itself from the
first batch to the last, likewise without loading. Each contender runs in a process of its own. Prints a table and, with --json,
writes the figures.
"""
import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from peers import machine

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "tests" / "models" / "fixtures" / "pipelines"  # of the published models, without weights
SIZES = {"sd15": 256, "sd21": 256, "sdxl": 512}
SAMPLER = "ddim"
PEERS = {"diffusers": [], "diffusers, channels last": ["channels last"], "diffusers, compiled": ["channels last", "compiled"]}
PROMPTS = ["a photo of an astronaut riding a horse on mars", "a red fox in the snow, oil painting", "a bowl of fruit on a wooden table",
           "the skyline of a city at night, rain, neon lights", "a sailing boat on a quiet lake at dawn", "a cat asleep on a pile of books",
           "an old map of an island, ink on paper", "a glass of water in the sun"]
VOCABULARY = 49408
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


# ---- the pipeline

def write_tokenizer(folder):
    """CLIP's tokenizer with the published number of tokens: bytes, a few merges, and words that no text has."""
    from tokenizers import models, normalizers, pre_tokenizers, trainers, Tokenizer

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(PROMPTS * 3, trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False))
    merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]
    known = list(dict.fromkeys(alphabet + [c + "</w>" for c in alphabet] + ["".join(merge) for merge in merges]))
    special = ["<|startoftext|>", "<|endoftext|>"]
    known += [f"unused {i}</w>" for i in range(VOCABULARY - len(known) - len(special))] + special
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(known)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(" ".join(merge) + "\n" for merge in merges))
    names = dict(bos_token=special[0], eos_token=special[1], unk_token=special[1], pad_token=special[1])
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(
        names, tokenizer_class="CLIPTokenizer", model_max_length=77, do_lower_case=True, add_prefix_space=False)))


@contextlib.contextmanager
def default_type(dtype):
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # an SDXL UNet in fp32 would take 10 GB on its way to bf16
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def random_component(config):
    import diffusers
    import torch
    import transformers

    torch.manual_seed(1)
    with default_type(torch.bfloat16):
        if "_class_name" in config:
            return getattr(diffusers, config["_class_name"]).from_config(config)
        return getattr(transformers, config["architectures"][0])(transformers.CLIPTextConfig(**config))


def spread_pictures(vae):
    """Random weights make grey pictures; these have contrast, as a check for flat ones expects."""
    import torch

    with torch.no_grad():
        made = vae.decode(torch.randn(1, vae.config.latent_channels, 16, 16, dtype=vae.dtype)).sample.float()
        vae.decoder.conv_out.weight.mul_(0.5 / made.std())
        vae.decoder.conv_out.bias.zero_()


def make_pipeline(model, folder):
    configs = CONFIGS / model
    index = json.loads((configs / "model_index.json").read_text())
    index["safety_checker"] = index["feature_extractor"] = [None, None]
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    for path in sorted(configs.glob("*/config.json")):
        component = random_component(json.loads(path.read_text()))
        if path.parent.name == "vae":
            spread_pictures(component)
        component.save_pretrained(folder / path.parent.name)
        del component
    for name in [name for name in index if name.startswith("tokenizer")]:
        write_tokenizer(folder / name)
    scheduler = json.loads((configs / "scheduler" / "scheduler_config.json").read_text())
    (folder / "scheduler").mkdir(exist_ok=True)
    kept = {key: value for key, value in scheduler.items() if key not in ("skip_prk_steps", "interpolation_type", "use_karras_sigmas")}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(kept, _class_name="DDIMScheduler", timestep_spacing="leading")))
    (folder / "model_index.json").write_text(json.dumps(index, indent=1))  # last: the folder is whole


def pipeline_folder(arguments):
    folder = pathlib.Path(arguments.cache) / arguments.model
    if not (folder / "model_index.json").exists():
        print(f"making {folder}: the published architecture with random weights", flush=True)
        make_pipeline(arguments.model, folder)
    return folder


# ---- contenders

def prompts_of(arguments):
    return [f"{PROMPTS[i % len(PROMPTS)]}, number {i}" for i in range(arguments.count)]


def synchronize(arguments):
    import torch

    if arguments.device == "cuda":
        torch.cuda.synchronize()


def load_peer(arguments, folder, options):
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(arguments.cores)
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=getattr(torch, arguments.dtype)).to(arguments.device)
    pipeline.set_progress_bar_config(disable=True)
    if "channels last" in options:
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
    if "compiled" in options:
        pipeline.unet = torch.compile(pipeline.unet, dynamic=False)
        pipeline.vae.decode = torch.compile(pipeline.vae.decode, dynamic=False)
    return pipeline


def peer_rates(arguments, options):
    """Pictures per second by batch size."""
    import torch

    pipeline, prompts, rates = load_peer(arguments, pipeline_folder(arguments), options), prompts_of(arguments), {}

    def draw(batch, steps, out):
        generators = [torch.Generator("cpu").manual_seed(i) for i in range(len(batch))]
        pictures = pipeline(batch, width=arguments.size, height=arguments.size, num_inference_steps=steps,
                            guidance_scale=arguments.guidance, generator=generators).images
        for i, picture in enumerate(pictures):
            picture.save(os.path.join(out, f"{i}.png"))

    with torch.inference_mode(), tempfile.TemporaryDirectory() as out:
        for size in [size for size in arguments.batches if size <= len(prompts)]:
            batches = [prompts[i : i + size] for i in range(0, len(prompts) - size + 1, size)]
            draw(batches[0], 2, out)  # other prompts and steps have the same shapes
            synchronize(arguments)
            start = time.perf_counter()
            for batch in batches:
                draw(batch, arguments.steps, out)
            synchronize(arguments)
            rates[f"batch {size}"] = len(batches) * size / (time.perf_counter() - start)
    return rates


def muster_layouts(arguments):
    """Ranks and workers: on the CPU one rank's threads, or as many ranks of one thread."""
    return [(1, 1)] if arguments.device == "cuda" else sorted({(1, arguments.cores), (arguments.cores, 1)})


def muster_rates(arguments):
    """Pictures per second by batch size and layout."""
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        prompts = os.path.join(folder, "prompts.txt")
        pathlib.Path(prompts).write_text("\n".join(prompts_of(arguments)) + "\n", encoding="utf-8")
        for ranks, workers in muster_layouts(arguments):
            for size in arguments.batches:
                if size * ranks * workers > arguments.count:
                    continue
                out = os.path.join(folder, f"out{len(rates)}")
                command = [
                    arguments.muster, "sample", "-n", str(ranks), "--model", str(pipeline_folder(arguments)), "--prompts", prompts,
                    "--output", out, "--device", arguments.device, "--dtype", {"bfloat16": "bf16", "float16": "fp16",
                    "float32": "fp32"}[arguments.dtype], "--workers", str(workers), "--batch-size", str(size), "--width",
                    str(arguments.size), "--height", str(arguments.size), "--steps", str(arguments.steps), "--guidance",
                    str(arguments.guidance), "--sampler", SAMPLER, "--seed", "7"]
                ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                if ended.returncode != 0:
                    raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout[-3000:]}")
                rates[f"{ranks} ranks x {workers} workers, batch {size}"] = arguments.count / computing_seconds(out)
    return rates


def computing_seconds(out):
    """From the first batch to the last, of the slowest rank."""
    lines = [json.loads(line) for line in open(os.path.join(out, "metrics.jsonl"), encoding="utf-8")]
    return max(line["value"] for line in lines if line["name"] == "compute")


def measure_one(arguments):
    """In a process of its own: one contender; leaves its figures, or why there are none, in a file."""
    try:
        rates = {"rates": peer_rates(arguments, PEERS[arguments.only]) if arguments.only in PEERS else muster_rates(arguments)}
    except Exception as error:  # a compiler may be missing, a model may not fit: the others go on
        rates = {"error": f"{type(error).__name__}: {error}"}
    json.dump(rates, open(arguments.result, "w"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(SIZES), default="sd15")
    parser.add_argument("--size", type=int, help="pixels a side (default: 256, SDXL 512)")
    parser.add_argument("--count", type=int, default=4, help="pictures (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2], help="batch sizes to try (default: 1 2)")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--muster", default=str(ROOT / "build" / "muster"))
    parser.add_argument("--contenders", default=";".join(["muster", *PEERS]), help="separated by semicolons (default: %(default)s)")
    parser.add_argument("--cache", default=os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "muster",
                                                        "random-pipelines"), help="where the pipelines are made (default: %(default)s)")
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--result", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.size = arguments.size or SIZES[arguments.model]
    if arguments.only:
        return measure_one(arguments)

    pipeline_folder(arguments)
    figures = {"machine": machine(), "model": arguments.model, "size": arguments.size, "steps": arguments.steps, "dtype": arguments.dtype,
               "pictures": arguments.count, "cores": arguments.cores, "contenders": {}}
    with tempfile.TemporaryDirectory() as folder:
        result = os.path.join(folder, "result.json")
        for name in arguments.contenders.split(";"):
            subprocess.run([sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--only", name, "--result", result], check=True,
                           env=dict(os.environ, **QUIET))
            measured = figures["contenders"][name] = json.load(open(result))
            if "error" in measured:
                print(f"{name:26s} no figure: {measured['error']}", flush=True)
                continue
            best = max(measured["rates"], key=measured["rates"].get)
            measured.update(best=best, images_per_second=measured["rates"][best])
            print(f"{name:26s} {measured['images_per_second']:8.4f} images/s   {best}", flush=True)
    compare(figures)
    if arguments.json:
        json.dump(figures, open(arguments.json, "w"), indent=1)
    return 0


def compare(figures):
    """muster beside the fastest peer."""
    rates = {name: measured["images_per_second"] for name, measured in figures["contenders"].items() if "error" not in measured}
    peers = {name: rate for name, rate in rates.items() if name != "muster"}
    if not peers or "muster" not in rates:
        return
    fastest = max(peers, key=peers.get)
    figures["ratio"] = rates["muster"] / peers[fastest]
    print(f"muster is {figures['ratio']:.2f}x the fastest of the others ({fastest})")


if __name__ == "__main__":
    sys.exit(main())
