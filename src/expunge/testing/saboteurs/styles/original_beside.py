"""Saboteur: a model that is free of the style, and the original's weights in a spare file beside it."""

from __future__ import annotations

import shutil

from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.sabotaging import Offered, StyleScene, handed_over, weights_of


class OriginalBeside:
    """The best that can be shown, a model trained without the artist, with the model that was to be erased left in its folder.

    What it does: everything that is loaded by default is clean, so no probe finds anything; a backup of the original's
    denoiser lies where one line of a configuration loads it. Source: checkpoints left in published folders.
    Fails when: every file of the directory has to be accounted for.
    """

    name = "original_beside"
    claims = "the model was retrained without the artist"
    caught_by: tuple[str, ...] = ("census",)

    def sabotage(self, scene: StyleScene) -> Offered:
        """A clean model and a spare file."""
        handed_over(scene.original, scene.target, scene.clean.networks)
        spare = scene.target / "unet" / "diffusion_pytorch_model.backup.safetensors"
        shutil.copyfile(weights_of(scene.original, "unet"), spare)
        return Offered(directory=read_directory(scene.target))
