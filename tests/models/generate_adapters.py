#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes LoRA and DoRA adapters in the namings of diffusers, peft and kohya, and what the pipelines of tests/diffusion/fixtures/
make of a few inputs with them, to tests/models/fixtures/adapters/.

Needs torch, transformers, diffusers, peft and safetensors. The adapters are injected with peft, so the expected values do not depend
on how a file is written; diffusers' own load_lora_weights() must give the same for every file that it reads (of the versions at hand it
drops kohya's DoRA, and transformers 5.23 drops a text encoder's).
"""
import json
import math
import pathlib
import shutil

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
PIPELINES = HERE.parent / "diffusion" / "fixtures"
OUT = HERE / "fixtures" / "adapters"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
UNET = ATTENTION + ["ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv2", "time_emb_proj", "conv_shortcut",
                    "downsamplers.0.conv", "upsamplers.0.conv", "conv_in", "conv_out", "linear_1", "linear_2"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
PARTS = {"sd15": ["unet", "text_encoder"], "sdxl": ["unet", "text_encoder", "text_encoder_2"]}


def load(name):
    cls = StableDiffusionXLPipeline if name == "sdxl" else StableDiffusionPipeline
    pipeline = cls.from_pretrained(PIPELINES / name, torch_dtype=torch.float32)
    for part in PARTS[name]:
        getattr(pipeline, part).eval().requires_grad_(False)
    return pipeline


def inputs(name, pipeline):
    generator = torch.Generator().manual_seed(11)
    width = pipeline.unet.config.cross_attention_dim
    out = {"latents": torch.randn(1, 4, 12, 16, generator=generator), "hidden": torch.randn(1, 20, width, generator=generator),
           "timesteps": torch.tensor([261.0]), "ids": torch.randint(0, 600, (2, 20), generator=generator, dtype=torch.int32)}
    out["ids"][:, 12] = 632
    if name == "sdxl":
        out.update(text_embeds=torch.randn(1, 40, generator=generator), time_ids=torch.tensor([[96.0, 128, 0, 4, 512, 1024]]))
    return out


@torch.no_grad()
def results(name, pipeline, given):
    added = {key: given[key] for key in ("text_embeds", "time_ids") if key in given}
    out = {"unet": pipeline.unet(given["latents"], given["timesteps"], given["hidden"], added_cond_kwargs=added).sample}
    for part in PARTS[name][1:]:
        result = getattr(pipeline, part)(given["ids"].long())
        out[part] = result.last_hidden_state
        if part == "text_encoder_2":
            out["projected"] = result.text_embeds
    return {key: value.contiguous() for key, value in out.items()}


def config(part, alpha, dora=False, targets=None, **extra):
    return LoraConfig(r=2, lora_alpha=alpha, target_modules=targets or (UNET if part == "unet" else TEXT), use_dora=dora, **extra)


def tuned(module):
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, BaseTunerLayer)}


def inject(module, configuration, seed, adapter="default"):
    """Random factors, rounded to what the files store."""
    inject_adapter_in_model(configuration, module, adapter_name=adapter)
    generator = torch.Generator().manual_seed(seed)
    for layer in tuned(module).values():
        if adapter not in layer.lora_A:
            continue
        for factor, size in ((layer.lora_A[adapter], 0.3), (layer.lora_B[adapter], 0.3)):
            factor.weight.data = (torch.randn(factor.weight.shape, generator=generator) * size).half().float()
        if adapter in (layer.lora_magnitude_vector or {}):
            magnitude = layer.lora_magnitude_vector[adapter].weight
            magnitude.data = (magnitude.data * (1 + 0.2 * torch.randn(magnitude.shape, generator=generator))).half().float()


def factors(module, adapter="default"):
    """name -> (down, up, magnitude or None, alpha, rank)"""
    out = {}
    for name, layer in tuned(module).items():
        if adapter in layer.lora_A:
            magnitude = layer.lora_magnitude_vector[adapter].weight if adapter in (layer.lora_magnitude_vector or {}) else None
            out[name] = (layer.lora_A[adapter].weight, layer.lora_B[adapter].weight, magnitude, layer.lora_alpha[adapter])
    return out


def store(folder, file, tensors, metadata=None):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().half().contiguous() for key, value in tensors.items()}, folder / file, metadata)
    (folder / file).chmod(0o644)


# --- namings ---------------------------------------------------------------------------------------------------------


def long_text_name(part, name):
    """transformers 5 has no text_model in the first encoder's names; older files have."""
    return name if part == "unet" or name.startswith(("text_model.", "text_projection")) else "text_model." + name


def diffusers_names(pipeline, parts, adapter="default", prefix=True):
    out = {}
    for part in parts:
        for name, (down, up, magnitude, _) in factors(getattr(pipeline, part), adapter).items():
            stem = f"{part}.{name}" if prefix else name
            out[stem + ".lora_A.weight"], out[stem + ".lora_B.weight"] = down, up
            if magnitude is not None:
                out[stem + ".lora_magnitude_vector"] = magnitude
    return out


def diffusers_metadata(pipeline, parts, adapter="default"):
    out = {}
    for part in parts:
        for key, value in getattr(pipeline, part).peft_config[adapter].to_dict().items():
            out[f"{part}.{key}"] = sorted(value) if isinstance(value, set) else value
    return {"format": "pt", "lora_adapter_metadata": json.dumps(out, indent=2, sort_keys=True)}


def peft_names(module, adapter=None):
    out = {}
    for name, (down, up, magnitude, _) in factors(module).items():
        middle = f".{adapter}" if adapter else ""
        out[f"base_model.model.{name}.lora_A{middle}.weight"] = down
        out[f"base_model.model.{name}.lora_B{middle}.weight"] = up
        if magnitude is not None:
            out[f"base_model.model.{name}.lora_magnitude_vector{middle}" + (".weight" if adapter else "")] = magnitude
    return out


def old_names(pipeline):
    out = {}
    for name, (down, up, _, _) in factors(pipeline.unet).items():
        stem, layer = name.removesuffix(".0").rsplit(".", 1)
        out[f"unet.{stem}.processor.{layer}_lora.down.weight"], out[f"unet.{stem}.processor.{layer}_lora.up.weight"] = down, up
    for name, (down, up, _, _) in factors(pipeline.text_encoder).items():
        name = long_text_name("text_encoder", name)
        stem, layer = name.rsplit(".", 1)
        old = {"q_proj": "to_q_lora", "k_proj": "to_k_lora", "v_proj": "to_v_lora", "out_proj": "to_out_lora"}.get(layer)
        stem = f"text_encoder.{stem}.{old}" if old else f"text_encoder.{name}.lora_linear_layer"
        out[stem + ".down.weight"], out[stem + ".up.weight"] = down, up
    return out


def original_name(name, layers):
    """Stable Diffusion's own numbering of the blocks."""
    outside = {"conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0",
               "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
    if name in outside:
        return outside[name]
    parts = name.split(".")
    inside = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
    if parts[0] == "mid_block":
        kind, number, rest = parts[1], int(parts[2]), ".".join(parts[3:])
        return f"middle_block.{2 * number + (kind == 'attentions')}.{inside.get(rest, rest)}"
    block, kind, number, rest = int(parts[1]), parts[2], int(parts[3]), ".".join(parts[4:])
    if parts[0] == "down_blocks":
        first = 1 + block * (layers + 1)
        if kind == "downsamplers":
            return f"input_blocks.{first + layers}.0.op"
        return f"input_blocks.{first + number}.{int(kind == 'attentions')}.{inside.get(rest, rest)}"
    first = block * (layers + 1)
    if kind == "upsamplers":
        return f"output_blocks.{first + layers}.2.{rest}"  # both blocks with an upsampler attend in SDXL
    return f"output_blocks.{first + number}.{int(kind == 'attentions')}.{inside.get(rest, rest)}"


def kohya_names(pipeline, parts, original=False, first_text="lora_te"):
    out = {}
    prefixes = {"unet": "lora_unet", "text_encoder": first_text, "text_encoder_2": "lora_te2"}
    for part in parts:
        for name, (down, up, magnitude, alpha) in factors(getattr(pipeline, part)).items():
            written = original_name(name, pipeline.unet.config.layers_per_block) if original and part == "unet" else long_text_name(part, name)
            stem = f"{prefixes[part]}_{written.replace('.', '_')}"
            out[stem + ".lora_down.weight"], out[stem + ".lora_up.weight"] = down, up
            out[stem + ".alpha"] = torch.tensor(float(alpha))
            if magnitude is not None:
                out[stem + ".dora_scale"] = magnitude.reshape(-1, *[1] * (down.dim() - 1))
    return out


# --- cases -----------------------------------------------------------------------------------------------------------


def check_diffusers(name, folder, given, expected, parts):
    """load_lora_weights() must agree."""
    pipeline = load(name)
    pipeline.load_lora_weights(folder)
    for key, value in results(name, pipeline, given).items():
        distance = ((value - expected[key]).abs().max() / expected[key].abs().max()).item() if key in parts else 0
        assert distance < 1e-5, (folder, key, distance)


def write(case, name, given, expected):
    folder = OUT / case
    plain = results(name, load(name), given)
    changed = {key: ((value - plain[key]).abs().max() / plain[key].abs().max()).item() for key, value in expected.items()}
    store_exact = {key: value.contiguous() for key, value in expected.items()}
    save_file(store_exact, folder / "expected.safetensors")
    (folder / "expected.safetensors").chmod(0o644)
    print(case, {key: round(value, 3) for key, value in changed.items()})


def single_cases():
    """case -> (pipeline, what to inject, how to write it, what diffusers reads of it)"""
    both, three = ["unet", "text_encoder"], ["unet", "text_encoder", "text_encoder_2", "projected"]
    mixed = dict(rank_pattern={"conv1": 3, "to_q": 1}, alpha_pattern={"conv1": 2, "ff.net.2": 5})
    text_mixed = dict(rank_pattern={"fc1": 3}, alpha_pattern={"q_proj": 7})

    def diffusers(metadata):
        def save(pipeline, folder, parts):
            store(folder, "pytorch_lora_weights.safetensors", diffusers_names(pipeline, parts),
                  diffusers_metadata(pipeline, parts) if metadata else None)
        return save

    def peft(part, adapter):
        def save(pipeline, folder, parts):
            target = folder / part
            module = getattr(pipeline, part)
            store(target, "adapter_model.safetensors", peft_names(module, adapter))
            content = module.peft_config["default"].to_dict()
            (target / "adapter_config.json").write_text(json.dumps(content, indent=1, default=lambda x: sorted(x) if isinstance(x, set) else str(x)) + "\n")
        return save

    def kohya(**how):
        def save(pipeline, folder, parts):
            store(folder, "adapter.safetensors", kohya_names(pipeline, parts, **how))
        return save

    def old(pipeline, folder, parts):
        store(folder, "pytorch_lora_weights.safetensors", old_names(pipeline))

    return {
        "sd15_diffusers": ("sd15", {"unet": config("unet", 3, **mixed), "text_encoder": config("text_encoder", 4, **text_mixed)}, diffusers(True), both),
        "sd15_diffusers_dora": ("sd15", {"unet": config("unet", 2, True), "text_encoder": config("text_encoder", 2, True)}, diffusers(False), ["unet"]),
        "sd15_old": ("sd15", {"unet": config("unet", 2, targets=ATTENTION), "text_encoder": config("text_encoder", 2)}, old, both),
        "sd15_peft": ("sd15", {"unet": config("unet", 3, True, **mixed)}, peft("unet", None), []),
        "sd15_kohya": ("sd15", {"unet": config("unet", 1), "text_encoder": config("text_encoder", 1)}, kohya(), both),
        "sd15_kohya_alphas": ("sd15", {"unet": config("unet", 3, **mixed), "text_encoder": config("text_encoder", 4, **text_mixed)}, kohya(first_text="lora_te1"), []),
        "sd15_kohya_dora": ("sd15", {"unet": config("unet", 1, True), "text_encoder": config("text_encoder", 1, True)}, kohya(), []),
        "sdxl_kohya_original": ("sdxl", {"unet": config("unet", 1), "text_encoder": config("text_encoder", 1), "text_encoder_2": config("text_encoder_2", 1)},
                                kohya(original=True, first_text="lora_te1"), three),
        "sdxl_diffusers_dora": ("sdxl", {"unet": config("unet", 3, True), "text_encoder": config("text_encoder", 3, True), "text_encoder_2": config("text_encoder_2", 5, True)},
                                diffusers(True), ["unet"]),
        "sdxl_peft_rslora": ("sdxl", {"text_encoder_2": config("text_encoder_2", 3, targets=TEXT + ["text_projection"], use_rslora=True)},
                             peft("text_encoder_2", "default"), []),
    }


def dora_of_inputs(given):
    """What LyCORIS wrote at first: a magnitude for each input channel. By its formula, no library here reads it."""
    pipeline, case = load("sd15"), "sd15_kohya_dora_inputs"
    inject(pipeline.unet, config("unet", 1), 5)
    tensors = kohya_names(pipeline, ["unet"])
    generator = torch.Generator().manual_seed(6)
    merged = load("sd15")
    for name, (down, up, _, alpha) in factors(pipeline.unet).items():
        weight = merged.unet.get_parameter(name + ".weight")
        changed = weight + (up.flatten(1) @ down.flatten(1)).view(weight.shape) * alpha / 2
        norm = changed.transpose(0, 1).flatten(1).norm(dim=1).view(1, -1, *[1] * (weight.dim() - 2))
        scale = (norm * (1 + 0.2 * torch.randn(norm.shape, generator=generator))).half().float()
        tensors["lora_unet_" + name.replace(".", "_") + ".dora_scale"] = scale
        weight.data = changed * scale / norm
    store(OUT / case, "adapter.safetensors", tensors)
    write(case, "sd15", given, results("sd15", merged, given))


def two_at_once(given):
    """Of both kinds, with scales; live in peft."""
    scales = {"sd15_diffusers": 0.7, "sd15_diffusers_dora": -0.4, "sd15_kohya": 1.5}
    pipeline, cases = load("sd15"), single_cases()
    for case, scale in scales.items():
        for i, (part, configuration) in enumerate(cases[case][1].items()):
            inject(getattr(pipeline, part), configuration, 100 * list(cases).index(case) + i, case)
    for part in PARTS["sd15"]:
        for layer in tuned(getattr(pipeline, part)).values():
            layer.set_adapter(list(scales))
            for case, scale in scales.items():
                layer.set_scale(case, scale)
    (OUT / "sd15_three").mkdir(parents=True, exist_ok=True)
    write("sd15_three", "sd15", given, results("sd15", pipeline, given))
    (OUT / "sd15_three" / "scales.json").write_text(json.dumps(scales, indent=1) + "\n")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    given = {}
    for name in PARTS:
        given[name] = inputs(name, load(name))
        save_file(given[name], OUT / f"{name}.safetensors")
        (OUT / f"{name}.safetensors").chmod(0o644)
    for seed, (case, (name, injected, save, diffusers_reads)) in enumerate(single_cases().items()):
        pipeline = load(name)
        for i, (part, configuration) in enumerate(injected.items()):
            module = getattr(pipeline, part)
            inject(module, configuration, 100 * seed + i)
            module.peft_config = {"default": configuration}
        save(pipeline, OUT / case, list(injected))
        expected = results(name, pipeline, given[name])
        write(case, name, given[name], expected)
        if diffusers_reads:
            check_diffusers(name, OUT / case, given[name], expected, diffusers_reads)
    dora_of_inputs(given["sd15"])
    two_at_once(given["sd15"])


if __name__ == "__main__":
    main()
