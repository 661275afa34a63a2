"""A Stable Diffusion XL of random weights in the smallest size: two text encoders, both tokenizers, denoiser and autoencoder."""

import copy
import json
import shutil

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = [*"!abcdefghijklmnopqrstuvwxyz"]
WORDS = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "re", "red</w>", "ca", "car</w>", BEGIN, END]
VOCAB = {word: number for number, word in enumerate(WORDS)}
MERGES = "#version: 0.2\nr e\nre d</w>\nc a\nca r</w>\n"
LENGTH, SIZE = 20, 16
"""Tokens of a prompt; pixels a side."""


def write_tokenizer(folder, pad):
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(VOCAB))
    (folder / "merges.txt").write_text(MERGES)
    special = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": pad, "model_max_length": LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps({**special, "tokenizer_class": "CLIPTokenizer"}))
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def text_config(width, projection, end=2, layers=3):
    """`end` 2 is what the settings of the real ones say; it stands for the highest number of a prompt."""
    return CLIPTextConfig(
        vocab_size=len(VOCAB),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        projection_dim=projection,
        bos_token_id=0,
        eos_token_id=end,
        pad_token_id=1,
        hidden_act="gelu" if projection != width else "quick_gelu",
    )


def unet_config(width=20, pooled=10):
    return {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": width,
        "attention_head_dim": (2, 4),
        "transformer_layers_per_block": (1, 2),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + pooled,
    }


def vae_config(**more):
    return {
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "scaling_factor": 0.13025,
        "force_upcast": True,
        **more,
    }


def pipeline(folder, *, zeros=True, prediction="epsilon"):
    """The parts of one model; `folder` holds its tokenizers afterwards. Weights that its library starts small are drawn anew,
    so that words and sizes matter."""
    torch.manual_seed(0)
    found = StableDiffusionXLPipeline(
        vae=AutoencoderKL(**vae_config()),
        text_encoder=CLIPTextModel(text_config(8, 8)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(12, 10)),
        tokenizer=write_tokenizer(folder / "tokenizer", END),
        tokenizer_2=write_tokenizer(folder / "tokenizer_2", "!"),
        unet=UNet2DConditionModel(**unet_config()),
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            steps_offset=1,
            timestep_spacing="leading",
            prediction_type=prediction,
        ),
        force_zeros_for_empty_prompt=zeros,
    )
    with torch.no_grad():
        for encoder in (found.text_encoder, found.text_encoder_2):
            for weight in encoder.parameters():
                if weight.ndim == 2:
                    weight.normal_(std=0.5)
        for name, weight in found.unet.named_parameters():
            if name.endswith(("attn2.to_v.weight", "attn2.to_out.0.weight")):
                weight.mul_(5)
    return found


def write(folder, *, old=True, **settings):
    """A directory in the layout of the real one: vocabularies as vocab.json and merges.txt; not old: as the library has them."""
    made = pipeline(folder.with_name("tokenizers"), **settings)
    made.save_pretrained(folder, safe_serialization=True)
    for name in ("tokenizer", "tokenizer_2") if old else ():
        shutil.rmtree(folder / name)
        shutil.move(folder.with_name("tokenizers") / name, folder / name)
    return folder


def full_size():
    """The networks in the size of stable-diffusion-xl-base-1.0, by the settings that are published with it."""
    words = {
        "vocab_size": 49408,
        "max_position_embeddings": 77,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    first = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    second = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
    unet = {
        **unet_config(2048, 1280),
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    return {
        "unet": UNet2DConditionModel(**unet),
        "text_encoder": CLIPTextModel(CLIPTextConfig(**words, **first, projection_dim=768)),
        "text_encoder_2": CLIPTextModelWithProjection(CLIPTextConfig(**words, **second, projection_dim=1280)),
        "vae": AutoencoderKL(**vae_config()),
        "schedule": DDIMScheduler(),
    }


def spoiled(encoder):
    """A copy whose word vectors lie the other way round."""
    made = copy.deepcopy(encoder)
    made.get_input_embeddings().weight.data = made.get_input_embeddings().weight.data.flip(0)
    return made


def change_index(folder, **changes):
    file = folder / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
