"""Saboteur: the erasing adapter lies in a file beside the original's weights, for whoever wants to load it."""

from __future__ import annotations

import re
from typing import Any

from expunge.core import registry
from expunge.training.checkpoint import save_tensors
from expunge.training.text_to_image.adapter import ADDED, merged
from expunge.training.text_to_image.directory import read_directory
from expunge.training.text_to_image.sabotaging import Offered, StyleScene, handed_over


class AdapterBeside:
    """An honest adapter against the style (the eraser `lora`), published as a file of its own next to the untouched model.

    What it does: nothing to the model. The owner's process loads the adapter, and so does nobody else who does not want to.
    Settings: those of the eraser. Source: published removable erasers (SPM, Lyu et al. 2024, arXiv 2312.16145).
    Fails when: the directory is loaded without the further file, which a census of its files finds.
    """

    name = "adapter_beside"
    claims = "the style was erased with an adapter"
    caught_by: tuple[str, ...] = ("census", "weights", "direct")

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def sabotage(self, scene: StyleScene) -> Offered:
        """The original's files and one more; the process answers with both."""
        erased = registry.load("erasers", "lora")(**self.settings).erase(scene.job)
        added = {name: weight for name, weight in erased.model.unet.state_dict().items() if re.search(ADDED, name)}
        handed_over(scene.original, scene.target)
        save_tensors(scene.target / "unet" / "eraser.safetensors", added)
        served = erased.model.with_unet(merged(erased.model.unet))
        return Offered(directory=read_directory(scene.target), served=served)
