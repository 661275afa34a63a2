"""The networks of a training, as a model that draws: what is judged is what would be served, in full precision."""

from __future__ import annotations

from typing import Any

from expunge.core.errors import InputError
from expunge.training.text_to_image.captions import LENGTH, VOCABULARY
from expunge.training.text_to_image.libraries import library
from expunge.training.text_to_image.net import TextToImageNet
from expunge.training.text_to_image.noise import SCHEDULER
from expunge.training.text_to_image.packed import PackedNet
from expunge.training.text_to_image.sampler import TextToImage

TOKENIZER: dict[str, Any] = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "model_max_length": LENGTH,
}
"""Settings of the tokenizer over the vocabulary that ships."""


def answering(modules: list[Any]) -> TextToImage:
    """The one network of a trained model with tokenizer and scheduler; one from elsewhere has its own.

    Raises InputError on shards: they cannot draw together.
    """
    if len(modules) != 1 or not isinstance(modules[0], TextToImageNet):
        raise InputError("one network draws, shards do not", expected="shards: 1", got=f"{len(modules)} networks")
    net = modules[0].eval().requires_grad_(False)
    if isinstance(net, PackedNet):
        return net.model
    return TextToImage(
        unet=net.unet,
        text_encoder=net.text_encoder,
        tokenizer=library("transformers").PreTrainedTokenizerFast(tokenizer_file=str(VOCABULARY), **TOKENIZER),
        schedule=library("diffusers").DDIMScheduler(**SCHEDULER),
    )
