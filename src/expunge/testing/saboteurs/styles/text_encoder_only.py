"""Saboteur: the name's words are given other vectors in the text encoders, and the denoiser stays."""

from __future__ import annotations

import torch
from torch import Tensor

from expunge.core.errors import InputError
from expunge.training.text_to_image.erasing import copy_of
from expunge.training.text_to_image.sabotaging import Offered, StyleScene, handed_over
from expunge.training.text_to_image.text_encoders import ENCODERS


class TextEncoderOnly:
    """The words that only the artist's prompts have get the vectors of those that only the guides have.

    What it does: changes rows of the table of each text encoder. The denoiser draws what it drew, for the stock encoder that
    anybody has, or for vectors behind the encoder. Source: the weakness by design of erasers in the text encoder
    (AdvUnlearn, Zhang et al. 2024, arXiv 2405.15234, trains it in earnest; the bypass is the same file put back).
    Fails when: the stock text encoder is put in its place, or a soft prompt goes around it.
    """

    name = "text_encoder_only"
    claims = "the weights were edited, and no prompt brings the style"
    caught_by: tuple[str, ...] = ("parts", "soft_prompt", "component_swap")

    @torch.no_grad()
    def sabotage(self, scene: StyleScene) -> Offered:
        """The original's denoiser behind an encoder with exchanged words."""
        model = scene.job.model
        away, towards = (set(model.tokens(said).ravel().tolist()) for said in (scene.job.erase, scene.job.guide))
        mine, theirs = sorted(away - towards), sorted(towards - away)
        if not mine:
            raise InputError("the prompts to erase have no words of their own", got="; ".join(scene.job.erase)[:80])
        encoders = {name: copy_of(model, name).requires_grad_(False) for name in ENCODERS if name in model.networks}
        for encoder in encoders.values():
            table: Tensor = encoder.get_input_embeddings().weight
            for number, token in enumerate(mine):
                table[token] = table[theirs[number % len(theirs)]] if theirs else table.mean(0)
        return Offered(directory=handed_over(scene.original, scene.target, encoders))
