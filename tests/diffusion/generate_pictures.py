#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes pictures with diffusers from the tiny pipelines of generate_pipelines.py, writes them to fixtures/pictures/.

Needs torch, transformers and diffusers. Computed in fp32 from the stored fp16 weights. Initial noise and the noise that
stochastic samplers add is the counter-based one that the project documents, computed here by itself.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from diffusers import (DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler,
                       EulerDiscreteScheduler, PNDMScheduler, UniPCMultistepScheduler)
from diffusers.schedulers import scheduling_dpmsolver_multistep, scheduling_euler_ancestral_discrete
from diffusers.utils import logging
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent / "fixtures"
SAMPLERS = {
    "": None,
    "ddim": (DDIMScheduler, {}),
    "pndm": (PNDMScheduler, dict(skip_prk_steps=True)),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_karras": (EulerDiscreteScheduler, dict(use_karras_sigmas=True)),
    "euler_a": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=True)),
    "dpmpp_2m_sde": (DPMSolverMultistepScheduler, dict(algorithm_type="sde-dpmsolver++")),
    "unipc": (UniPCMultistepScheduler, {}),
}
LONG = " ".join(["the quick brown fox jumps over the lazy dog's back and it isn't 1234 567 times"] * 5)
BASE = dict(sampler="", steps=4, width=24, height=16, seed=7, guidance=5.0, guidance_rescale=0.0, prompt="a cat on the mat",
            negative_prompt="")


def philox(counter, key):
    """Philox4x32-10 over arrays."""
    c, (k0, k1) = [np.asarray(x, dtype=np.uint64) for x in counter], key
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def noise(seed, stream, shape):
    blocks = np.arange((int(np.prod(shape)) + 3) // 4, dtype=np.uint64)
    one = np.ones_like(blocks)
    bits = philox([blocks, one * np.uint64(stream), one * np.uint64(0x6E6F6973), one * np.uint64(0)],
                  (seed & 0xFFFFFFFF, seed >> 32))
    pairs = []
    for first, second in ((0, 1), (2, 3)):
        radius = np.sqrt(-2 * np.log((bits[first] + 0.5) * 2.0**-32))
        angle = 2 * np.pi * bits[second] * 2.0**-32
        pairs += [radius * np.cos(angle), radius * np.sin(angle)]
    values = np.stack(pairs, 1).reshape(-1)[:int(np.prod(shape))]
    return torch.from_numpy(values.astype(np.float32)).reshape(1, *shape)


def cases():
    turn = 0
    for sampler in SAMPLERS:
        for steps in (2, 3, 10, 30):
            turn += 1
            yield dict(BASE, sampler=sampler, steps=steps, seed=turn, guidance=(1.0, 5.0)[turn % 2],
                       negative_prompt=("", "a dog")[turn // 2 % 2])
    yield dict(BASE, guidance=1.0)
    yield dict(BASE, guidance_rescale=0.7, guidance=9.0, negative_prompt="a red umbrella")
    yield dict(BASE, sampler="dpmpp_2m", guidance_rescale=0.3)
    yield dict(BASE, width=36, height=24, sampler="euler_a")
    yield dict(BASE, width=64, height=96, sampler="unipc")
    yield dict(BASE, prompt="", negative_prompt="oil painting")
    yield dict(BASE, prompt=LONG, negative_prompt="A FISH; in the rain")
    yield dict(BASE, seed=(5 << 32) + 3)


def make(pipe, own, case):
    chosen = SAMPLERS[case["sampler"]]
    pipe.scheduler = chosen[0].from_config(own.config, **chosen[1]) if chosen else type(own).from_config(
        own.config, steps_offset=own.config.steps_offset)
    if not chosen and "clip_sample" in own.config:
        pipe.scheduler.register_to_config(clip_sample=own.config.clip_sample)
    factor = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
    shape = (pipe.unet.config.in_channels, case["height"] // factor, case["width"] // factor)
    stream = iter(range(1, 1000))
    drawn = lambda *a, **k: noise(case["seed"], next(stream), shape)
    for module in (scheduling_euler_ancestral_discrete, scheduling_dpmsolver_multistep):
        module.randn_tensor = drawn
    latents = pipe(prompt=case["prompt"], negative_prompt=case["negative_prompt"] or None, width=case["width"],
                   height=case["height"], num_inference_steps=case["steps"], guidance_scale=case["guidance"],
                   guidance_rescale=case["guidance_rescale"], latents=noise(case["seed"], 0, shape),
                   output_type="latent").images
    with torch.no_grad():
        image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
    picture = (pipe.image_processor.postprocess(image, output_type="np") * 255).round().astype("uint8")
    return latents[0].contiguous(), torch.from_numpy(picture[0]).contiguous()


def main():
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    out = HERE / "pictures"
    out.mkdir(parents=True, exist_ok=True)
    listed = list(cases())
    for name in sys.argv[1:] or ["sd15", "sd2", "sdxl"]:
        pipe = DiffusionPipeline.from_pretrained(HERE / name, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        pipe.check_inputs = lambda *a, **k: None  # asks for multiples of 8 also where the VAE's factor is 2
        own, tensors = pipe.scheduler, {}
        for i, case in enumerate(listed):
            tensors[f"latents.{i}"], tensors[f"picture.{i}"] = make(pipe, own, case)
            assert torch.isfinite(tensors[f"latents.{i}"]).all(), (name, case)
        save_file(tensors, out / f"{name}.safetensors")
    (out / "cases.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in listed) + "\n]\n")
    print(len(listed), "cases")


if __name__ == "__main__":
    main()
