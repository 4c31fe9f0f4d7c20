#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What diffusers' AutoencoderKL makes of a few pictures and latents: fixtures/autoencoders/NAME.safetensors.

    python tests/models/generate_autoencoders.py

Needs torch, diffusers and safetensors, and the pipelines of tests/diffusion/generate_pipelines.py, whose VAEs are the models;
`bare` is a model of its own, without attention and quantization convolutions, in fixtures/autoencoders/bare/vae. A fixture holds
`pictures.SIZE` and their `moments.SIZE` (mean and log variance), `latents.SIZE` and their `decoded.SIZE`; `latents.tiled` and
`decoded.tiled` (tiles of TILE latent pixels); the loss sum(moments * moment_weights) + sum(decoded * picture_weights) of the first
pictures and latents as `gradient:PARAMETER` for some parameters. All in fp32.
"""
import pathlib

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
PIPELINES = HERE.parent / "diffusion" / "fixtures"
OUT = HERE / "fixtures" / "autoencoders"
# By the pixels of a latent pixel's side: count, height and width of latents; the last tiles are a few pixels wide.
SIZES = {2: {"even": (3, 8, 12), "odd": (2, 9, 13), "one": (1, 3, 2)}, 4: {"even": (2, 4, 6), "odd": (2, 5, 7), "one": (1, 1, 2)}}
TILED = {2: (2, 13, 21), 4: (1, 7, 11)}
TILE = {2: 8, 4: 4}
GRADIENTS = ["encoder.conv_in.weight", "encoder.down_blocks.0.downsamplers.0.conv.weight", "encoder.conv_norm_out.bias",
             "decoder.conv_in.bias", "decoder.mid_block.attentions.0.to_q.weight", "decoder.mid_block.attentions.0.group_norm.weight",
             "decoder.up_blocks.1.resnets.0.conv_shortcut.weight", "decoder.up_blocks.0.resnets.0.norm1.weight",
             "decoder.conv_out.weight", "quant_conv.weight", "post_quant_conv.weight"]


def bare_model():
    torch.manual_seed(9)
    model = AutoencoderKL(
        in_channels=4, out_channels=2, down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[6, 6, 12], layers_per_block=2, latent_channels=5, norm_num_groups=3, sample_size=[24, 32],
        mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, force_upcast=False)
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.data.add_(0.1 * torch.randn_like(weight))
    model.half().save_pretrained(OUT / "bare" / "vae")
    return OUT / "bare" / "vae"


def expectations(model):
    factor = 2 ** (len(model.config.block_out_channels) - 1)
    generator = torch.Generator().manual_seed(7)
    random = lambda *shape: torch.randn(shape, generator=generator)
    out = {}
    with torch.no_grad():
        for name, (count, height, width) in SIZES[factor].items():
            extra = 1 if name == "odd" else 0  # a picture that no halving divides
            pictures = random(count, model.config.in_channels, height * factor + extra, width * factor + extra).clamp(-1, 1)
            latents = random(count, model.config.latent_channels, height, width)
            posterior = model.encode(pictures).latent_dist
            out[f"pictures.{name}"], out[f"latents.{name}"] = pictures, latents
            out[f"moments.{name}"] = torch.cat([posterior.mean, posterior.logvar], dim=1)
            out[f"decoded.{name}"] = model.decode(latents).sample
        model.enable_tiling()
        model.tile_latent_min_size, model.tile_sample_min_size = TILE[factor], TILE[factor] * factor
        count, height, width = TILED[factor]
        out["latents.tiled"] = random(count, model.config.latent_channels, height, width)
        out["decoded.tiled"] = model.decode(out["latents.tiled"]).sample
        model.disable_tiling()
    posterior = model.encode(out["pictures.even"]).latent_dist
    moments, decoded = torch.cat([posterior.mean, posterior.logvar], dim=1), model.decode(out["latents.even"]).sample
    out["moment_weights"], out["picture_weights"] = random(*moments.shape), random(*decoded.shape)
    ((moments * out["moment_weights"]).sum() + (decoded * out["picture_weights"]).sum()).backward()
    for name, weight in model.named_parameters():
        if name in GRADIENTS:
            out[f"gradient:{name}"] = weight.grad
    return {name: value.detach().contiguous() for name, value in out.items()}


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    for name, folder in [("sd15", PIPELINES / "sd15" / "vae"), ("sd2", PIPELINES / "sd2" / "vae"),
                         ("sdxl", PIPELINES / "sdxl" / "vae"), ("bare", bare_model())]:
        path = OUT / f"{name}.safetensors"
        save_file(expectations(AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
        assert path.stat().st_size <= 300_000


if __name__ == "__main__":
    main()
