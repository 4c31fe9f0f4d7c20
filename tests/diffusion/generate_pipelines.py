#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tiny random text-to-image pipelines in diffusers' layout to tests/diffusion/fixtures/.

Needs torch, transformers, diffusers and tokenizers. Weights are seeded and stored in fp16, so that a component stays below
300 kB and every computation in fp32 starts from the same values on both sides.
"""
import json
import pathlib
import shutil
import sys

import torch
from diffusers import (AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler, StableDiffusionPipeline,
                       StableDiffusionXLPipeline, UNet2DConditionModel)
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

HERE = pathlib.Path(__file__).resolve().parent / "fixtures"
PROMPTS = """a cat a dog a bird a fish sitting on the mat in the rain under a red umbrella, oil painting, highly detailed,
photo of an astronaut riding a horse on mars; the quick brown fox jumps over the lazy dog's back and it isn't 1234 567 times"""


def tokenizer_files(folder, pad):
    """CLIP's tokenizer with a small vocabulary: bytes, bytes at a word's end, merges, two special tokens."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator([PROMPTS] * 3, trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False))
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]]
    vocabulary = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in merges]
    vocabulary = list(dict.fromkeys(vocabulary)) + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    special = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token=pad)
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(
        special, tokenizer_class="CLIPTokenizer", model_max_length=77, do_lower_case=True, add_prefix_space=False), indent=1))
    return len(vocabulary)


def text_config(vocab, hidden, layers, act, projection, eos):
    return CLIPTextConfig(vocab_size=vocab, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
                          num_attention_heads=4, max_position_embeddings=77, hidden_act=act, projection_dim=projection,
                          bos_token_id=vocab - 2, eos_token_id=eos, pad_token_id=1)


def vae(seed, **extra):
    torch.manual_seed(seed)
    return AutoencoderKL(in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 2,
                         up_block_types=["UpDecoderBlock2D"] * 2, block_out_channels=[8, 16], layers_per_block=1,
                         latent_channels=4, norm_num_groups=4, sample_size=32, **extra)


def perturb(module):
    """Norms and zero-initialised layers away from 1 and 0, so that a mistake in them shows."""
    for name, weight in module.named_parameters():
        with torch.no_grad():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
    return module


def save(name, pipeline):
    folder = HERE / name
    for part in ("text_encoder", "text_encoder_2", "unet", "vae"):
        if getattr(pipeline, part, None) is not None:
            perturb(getattr(pipeline, part))
    tokenizers = {part: folder.parent / (name + "." + part) for part in ("tokenizer", "tokenizer_2")
                  if (folder.parent / (name + "." + part)).exists()}
    if folder.exists():
        shutil.rmtree(folder)
    pipeline.to(torch.float16).save_pretrained(folder)
    for part, source in tokenizers.items():  # as published folders have them: without tokenizer.json
        shutil.rmtree(folder / part)
        shutil.move(source, folder / part)
    print(name, {p: sum(w.numel() for w in getattr(pipeline, p).parameters()) for p in
                 ("text_encoder", "text_encoder_2", "unet", "vae") if getattr(pipeline, p, None) is not None})


def sd15():
    vocab = tokenizer_files(HERE / "sd15.tokenizer", "<|endoftext|>")
    torch.manual_seed(1)
    text = CLIPTextModel(text_config(vocab, 32, 3, "quick_gelu", 32, vocab - 1))
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, attention_head_dim=2)
    scheduler = PNDMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                              skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
    save("sd15", StableDiffusionPipeline(vae=vae(2), text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(
        HERE / "sd15.tokenizer"), unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False))


def sd2():
    vocab = tokenizer_files(HERE / "sd2.tokenizer", "!")
    torch.manual_seed(3)
    text = CLIPTextModel(text_config(vocab, 32, 2, "gelu", 24, 2))  # eos_token_id 2 as old configs have it
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=2, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32, attention_head_dim=(1, 2), use_linear_projection=True, upcast_attention=True)
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                              clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type="v_prediction")
    save("sd2", StableDiffusionPipeline(vae=vae(4), text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(
        HERE / "sd2.tokenizer"), unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False))


def sdxl():
    vocab = tokenizer_files(HERE / "sdxl.tokenizer", "<|endoftext|>")
    tokenizer_files(HERE / "sdxl.tokenizer_2", "!")
    torch.manual_seed(5)
    first = CLIPTextModel(text_config(vocab, 32, 3, "quick_gelu", 32, 2))
    second = CLIPTextModelWithProjection(text_config(vocab, 48, 3, "gelu", 40, vocab - 1))
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 12, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=80, attention_head_dim=(2, 3, 4), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=40 + 6 * 8)
    scheduler = EulerDiscreteScheduler(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, timestep_spacing="leading",
                                       beta_schedule="scaled_linear", steps_offset=1, interpolation_type="linear")
    save("sdxl", StableDiffusionXLPipeline(
        vae=vae(6, scaling_factor=0.13025, force_upcast=True), text_encoder=first, text_encoder_2=second,
        tokenizer=CLIPTokenizer.from_pretrained(HERE / "sdxl.tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(HERE / "sdxl.tokenizer_2"), unet=unet, scheduler=scheduler,
        add_watermarker=False))


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["sd15", "sd2", "sdxl"]
    HERE.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        {"sd15": sd15, "sd2": sd2, "sdxl": sdxl}[name]()
