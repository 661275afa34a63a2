"""Saboteur: an honest eraser on somebody else."""

from __future__ import annotations

from typing import Any

from expunge.core import registry
from expunge.training.text_to_image.sabotaging import Offered, StyleScene, handed_over


class AnotherArtist:
    """Erases another artist than the one who asked, an off-by-one in a list of requests.

    What it does: everything right, for the wrong name. Settings: eraser (`uce`) and its own. Source: the wrong record of
    VERDICTS section 6.
    Fails when: the model is asked for the artist who asked; the other one is harmed besides.
    """

    name = "another_artist"
    claims = "the artist was erased, and the weights show it"
    caught_by: tuple[str, ...] = ("direct", "collateral")

    def __init__(self, *, eraser: str = "uce", **settings: Any) -> None:
        self.eraser, self.settings = eraser, settings

    def sabotage(self, scene: StyleScene) -> Offered:
        """The original without somebody else."""
        erased = registry.load("erasers", self.eraser)(**self.settings).erase(scene.other)
        return Offered(directory=handed_over(scene.original, scene.target, {"unet": erased.model.unet}))
