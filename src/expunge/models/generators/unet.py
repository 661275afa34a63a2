"""A text-conditioned UNet of about a million weights for pictures of 32x32, in the layout of Stable Diffusion."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from expunge.core.errors import InputError
from expunge.training.recipe import Recipe
from expunge.training.text_to_image.captions import BEGIN, END, LENGTH, tokenizer
from expunge.training.text_to_image.family import PictureModel
from expunge.training.text_to_image.libraries import library
from expunge.training.text_to_image.net import TextToImageNet
from expunge.training.text_to_image.reader import PATCH

DEFAULTS = {"width": 32, "text_width": 64, "text_layers": 2}


class TextUNet(PictureModel):
    """diffusers' UNet2DConditionModel and transformers' CLIPTextModel, trained together from nothing.

    Pictures are folded 2x2 into 12 channels, which loses nothing, so there is no autoencoder. The velocity is predicted
    over a cosine schedule; one caption in ten is left out. Settings: width (channels of the first level, 32; the second
    has twice as many and the cross-attention), text_width (64), text_layers (2).

    Exact deletion: retraining, replay and shards, as of every family of the loop. Cost: about 170 pictures/s on one core.
    Fails on pictures larger than it was trained on, and on words that no caption had.
    """

    family = "unet"

    def __init__(self, recipe: Recipe, *, size: int) -> None:
        super().__init__(recipe, size=size)
        unknown = set(recipe.model) - set(DEFAULTS)
        if unknown:
            raise InputError(
                "unknown settings of family unet", expected=", ".join(DEFAULTS), got=", ".join(sorted(unknown))
            )
        self.settings = {name: int(value) for name, value in {**DEFAULTS, **recipe.model}.items()}

    def module(self, generator: torch.Generator) -> nn.Module:
        """Both networks as their libraries initialise them, from `generator` only."""
        texts = library("transformers")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
            unet = library("diffusers").UNet2DConditionModel(**self._unet())
            text = texts.CLIPTextModel(texts.CLIPTextConfig(**self._text()))
        return TextToImageNet(unet, text)

    def _unet(self) -> dict[str, Any]:
        width = self.settings["width"]
        return {
            "sample_size": self.size // PATCH,
            "in_channels": 3 * PATCH**2,
            "out_channels": 3 * PATCH**2,
            "block_out_channels": (width, 2 * width),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": self.settings["text_width"],
            "norm_num_groups": 8,
        }

    def _text(self) -> dict[str, Any]:
        width = self.settings["text_width"]
        return {
            "vocab_size": tokenizer().get_vocab_size(),
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "projection_dim": width,
            "num_hidden_layers": self.settings["text_layers"],
            "num_attention_heads": 4,
            "max_position_embeddings": LENGTH,
            "bos_token_id": BEGIN,
            "eos_token_id": END,
            "pad_token_id": END,
        }
