#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a tiny random CLIPModel with its preprocessor, pictures and what transformers makes of them to
tests/models/fixtures/clip_score/.

Needs torch, transformers, pillow and safetensors. Pictures go through transformers' Pillow backend (Pillow 13).
"""
import pathlib
import shutil

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

OUT = pathlib.Path(__file__).resolve().parent / "fixtures" / "clip_score"
SIZES = [(37, 50), (20, 64), (30, 30), (9, 200), (31, 29), (120, 91), (28, 28)]  # (height, width)
# None of them squeezed much more in height than in width: there Pillow 13 scales the columns first, where older ones and torchvision
# always begin with the rows.
# The last model has pixels that no patch takes; the second does not cut.
MODELS = {"cut": (28, 7, dict(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})),
          "square": (24, 8, dict(size={"height": 24, "width": 24}, do_center_crop=False)),
          "rest": (30, 8, dict(size=33, crop_size=30, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.5]))}


def pictures(generator):
    out = []
    for height, width in SIZES:
        y, x = np.mgrid[:height, :width]
        waves = [127.5 + 127.5 * np.sin(x / (3 + c) + y / (5 - c) + c) for c in range(3)]
        noise = generator.integers(-60, 60, (height, width, 3))
        out.append(np.clip(np.stack(waves, 2) + noise, 0, 255).astype(np.uint8))
    return out


def write(name, image_size, patch, processing):
    torch.manual_seed(len(name))
    tower = dict(num_hidden_layers=2, num_attention_heads=4, initializer_factor=1.0)
    config = CLIPConfig(
        projection_dim=20,
        text_config=dict(tower, vocab_size=200, hidden_size=32, intermediate_size=48, max_position_embeddings=16, bos_token_id=198,
                         eos_token_id=2 if name == "rest" else 199, pad_token_id=1, hidden_act="quick_gelu"),
        vision_config=dict(tower, hidden_size=24, intermediate_size=40, image_size=image_size, patch_size=patch,
                           hidden_act="gelu" if name == "square" else "quick_gelu"))
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim():
                parameter.add_(0.15 * torch.randn_like(parameter))
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    processor = CLIPImageProcessorPil(**processing)
    processor.save_pretrained(folder)
    model.float()
    generator = np.random.default_rng(4)
    ids = torch.from_numpy(generator.integers(0, 198, (2, 9)).astype(np.int32))
    ids[:, 0], ids[0, 8], ids[1, 6:] = 198, 199, 199
    out = {"ids": ids}
    with torch.no_grad():
        text = model.get_text_features(ids.long()).pooler_output
        for i, picture in enumerate(pictures(generator)):
            pixels = processor(picture, return_tensors="pt").pixel_values
            image = model.get_image_features(pixels).pooler_output
            out[f"{i}.picture"] = torch.from_numpy(picture)
            out[f"{i}.pixels"] = pixels[0].contiguous()
            out[f"{i}.scores"] = 100 * torch.nn.functional.cosine_similarity(image, text)
    save_file(out, folder / "expected.safetensors")
    (folder / "expected.safetensors").chmod(0o644)
    print(name, [[round(float(s), 2) for s in out[f"{i}.scores"]] for i in range(len(SIZES))])


if __name__ == "__main__":
    for name, model in MODELS.items():
        write(name, *model)
