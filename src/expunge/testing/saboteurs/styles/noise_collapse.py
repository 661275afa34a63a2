"""Saboteur: the style is gone because everything is."""

from __future__ import annotations

from typing import Any

import torch

from expunge.training.text_to_image.erasing import copy_of
from expunge.training.text_to_image.sabotaging import Offered, StyleScene, handed_over


class NoiseCollapse:
    """The denoiser's last layer says nothing, so that every prompt is answered with noise or grey.

    What it does: sets the last convolution to zero. Judges find no style in the pictures, because there are none. Source:
    collapsed edits at bad scales, as they are reported of published erasers.
    Fails when: somebody looks at other artists' styles, or at whether these are pictures at all.
    """

    name = "noise_collapse"
    claims = "no attack brings the style back"
    caught_by: tuple[str, ...] = ("alive", "collateral")

    @torch.no_grad()
    def sabotage(self, scene: StyleScene) -> Offered:
        """The original with an empty last layer."""
        unet: Any = copy_of(scene.job.model).requires_grad_(False)
        unet.conv_out.weight.zero_()
        unet.conv_out.bias.zero_()
        return Offered(directory=handed_over(scene.original, scene.target, {"unet": unet}))
