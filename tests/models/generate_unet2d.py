#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what diffusers' UNet2DConditionModel makes of a few inputs, and its gradients, to tests/models/fixtures/unet2d/.

Needs torch, diffusers and safetensors. The models are the tiny pipelines of tests/diffusion/fixtures/ (fp16 weights, computed in
fp32); generate_pipelines.py there makes them.
"""
import pathlib

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
PIPELINES = HERE.parent / "diffusion" / "fixtures"
# (samples, height, width, tokens, timesteps): odd sizes, fractional timesteps, a prompt of one and of more chunks
CASES = [(2, 16, 16, 77, [999, 1]), (3, 8, 12, 5, [500, 20, 981]), (1, 9, 13, 77, [261.5]), (2, 5, 7, 1, [0, 749]),
         (1, 16, 24, 154, [41])]
GRADIENTS = ["conv_in.weight", "time_embedding.linear_1.weight", "down_blocks.1.resnets.0.conv1.weight",
             "down_blocks.1.resnets.0.time_emb_proj.bias", "mid_block.attentions.0.norm.weight",
             "mid_block.attentions.0.proj_in.weight", "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight",
             "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
             "mid_block.attentions.0.transformer_blocks.0.norm2.bias",
             "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight", "up_blocks.0.upsamplers.0.conv.weight",
             "up_blocks.1.resnets.0.conv_shortcut.weight", "conv_norm_out.weight", "conv_out.bias"]
ADDED_GRADIENTS = ["add_embedding.linear_1.weight", "add_embedding.linear_2.bias"]


def write(name):
    unet = UNet2DConditionModel.from_pretrained(PIPELINES / name / "unet", torch_dtype=torch.float32)
    config, generator, out = unet.config, torch.Generator().manual_seed(7), {}
    for i, (n, height, width, tokens, timesteps) in enumerate(CASES):
        latents = torch.randn(n, config.in_channels, height, width, generator=generator)
        hidden = torch.randn(n, tokens, config.cross_attention_dim, generator=generator)
        added = {}
        if config.addition_embed_type == "text_time":
            projection = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            added = {"text_embeds": torch.randn(n, projection, generator=generator),
                     "time_ids": torch.tensor([[8.0 * height, 8.0 * width, 0, 4, 512, 1024]] * n)}
        unet.zero_grad()
        steps = torch.tensor(timesteps, dtype=torch.float32)
        result = unet(latents, steps, hidden, added_cond_kwargs=added).sample
        values = dict(added, latents=latents, timesteps=steps, hidden=hidden, expected=result)
        if i == 0:
            values["loss_weights"] = torch.randn(result.shape, generator=generator)
            (result * values["loss_weights"]).sum().backward()
            parameters = dict(unet.named_parameters())
            for parameter in GRADIENTS + (ADDED_GRADIENTS if added else []):
                out[f"gradient.{parameter}"] = parameters[parameter].grad.clone()
        out.update({f"{i}.{key}": value.detach().contiguous() for key, value in values.items()})
    folder = HERE / "fixtures" / "unet2d"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(out, folder / f"{name}.safetensors")


if __name__ == "__main__":
    for name in ("sd15", "sd2", "sdxl"):
        write(name)
