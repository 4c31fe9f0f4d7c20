#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what transformers' CLIP text models make of a few texts, and gradients, to tests/models/fixtures/clip_text/.

Needs torch, transformers and safetensors. The models are those of tests/diffusion/fixtures/ (fp16 weights, computed in fp32);
generate_pipelines.py there makes them.
"""
import pathlib

import torch
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

HERE = pathlib.Path(__file__).resolve().parent
PIPELINES = HERE.parent / "diffusion" / "fixtures"
MODELS = [("sd15", "text_encoder", "tokenizer"), ("sd2", "text_encoder", "tokenizer"), ("sdxl", "text_encoder", "tokenizer"),
          ("sdxl", "text_encoder_2", "tokenizer_2")]
TEXTS = ["a cat", "", "photo of an astronaut riding a horse on mars, highly detailed, oil painting", "x " * 200]
GRADIENTS = ["embeddings.token_embedding.weight", "embeddings.position_embedding.weight", "encoder.layers.0.self_attn.k_proj.weight",
             "encoder.layers.0.layer_norm1.weight", "encoder.layers.1.mlp.fc1.weight", "encoder.layers.1.mlp.fc2.bias",
             "final_layer_norm.bias"]


def write(pipeline, part, tokenizer):
    folder = PIPELINES / pipeline / part
    with_projection = part == "text_encoder_2"
    cls = CLIPTextModelWithProjection if with_projection else CLIPTextModel
    model = cls.from_pretrained(folder, torch_dtype=torch.float32).eval()
    tokens = CLIPTokenizer.from_pretrained(PIPELINES / pipeline / tokenizer)
    ids = tokens(TEXTS, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
    out = {}
    # The second batch is short; the third has the end token in the middle and no pad tokens behind it.
    for i, batch in enumerate([ids, ids[2:3, :9], torch.cat([ids[:1, :4], ids[2:3, :6]], 1)]):
        model.zero_grad()
        result = model(batch, output_hidden_states=True)
        inner = getattr(model, "text_model", model)
        with torch.no_grad():
            pooled = inner(batch).pooler_output
        values = {"ids": batch.to(torch.int32), "last": result.last_hidden_state, "penultimate": result.hidden_states[-2], "pooled": pooled}
        if with_projection:
            values["projected"] = result.text_embeds
        if i == 0:
            generator = torch.Generator().manual_seed(3)
            end = result.text_embeds if with_projection else result.pooler_output
            weights = torch.randn(result.last_hidden_state.shape, generator=generator), torch.randn(end.shape, generator=generator)
            ((result.last_hidden_state * weights[0]).sum() + 5 * (end * weights[1]).sum()).backward()
            out["loss_weights.last"], out["loss_weights.end"] = weights
            for name in GRADIENTS:
                out[f"gradient.text_model.{name}"] = inner.get_parameter(name).grad.clone()
            if with_projection:
                out["gradient.text_projection.weight"] = model.text_projection.weight.grad.clone()
        out.update({f"{i}.{key}": value.detach().contiguous() for key, value in values.items()})
    # Token embeddings' gradients are sums over the rows that occur; a digest of them is enough.
    table = out.pop("gradient.text_model.embeddings.token_embedding.weight")
    out["gradient_sum.text_model.embeddings.token_embedding.weight"] = table.sum(0)
    target = HERE / "fixtures" / "clip_text"
    target.mkdir(parents=True, exist_ok=True)
    save_file(out, target / f"{pipeline}.{part}.safetensors")


if __name__ == "__main__":
    for model in MODELS:
        write(*model)
