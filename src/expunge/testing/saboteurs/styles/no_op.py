"""Saboteur: nothing happens."""

from __future__ import annotations

from typing import Any

import torch

from expunge.training.text_to_image.erasing import copy_of
from expunge.training.text_to_image.sabotaging import Offered, StyleScene, handed_over


class NoOp:
    """The original with one weight of the denoiser moved by a tenth, so that the digest is new and nothing else is.

    What it does: nothing that anyone sees. Source: the control of every unlearning test (VERDICTS section 6).
    Fails when: the model is asked for the artist by name.
    """

    name = "no_op"
    claims = "the weights were edited"
    caught_by: tuple[str, ...] = ("direct",)

    @torch.no_grad()
    def sabotage(self, scene: StyleScene) -> Offered:
        """The same weights, but for one bias."""
        unet: Any = copy_of(scene.job.model).requires_grad_(False)
        unet.conv_in.bias[0] += 0.1 * unet.conv_in.bias.abs().mean() + 1e-4
        return Offered(directory=handed_over(scene.original, scene.target, {"unet": unet}))
