"""Asking original and candidate for everybody else's styles: the same prompts, the same noise, so every comparison is
paired. What the answers mean is counted in stats.style_collateral."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken
from expunge.stats.style_collateral import Collateral, Drop, Kept, Limits, collateral_of, drop_of
from expunge.training.judging.judge import Judge, in_style
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.probing import Wording
from expunge.training.text_to_image.sampler import Sampling, TextToImage

__all__ = ["Asking", "Collateral", "Drop", "Kept", "Limits", "ask_for", "collateral_of", "drop_of"]


@dataclass(frozen=True, kw_only=True)
class Asking:
    """The objects in turn, `pictures` of each style, drawn as `how`."""

    objects: tuple[str, ...]
    pictures: int
    how: Sampling

    def drawn(self, model: TextToImage, wording: Wording, style: str) -> NDArray[np.uint8]:
        """(n, H, W, 3), the same noise for every model."""
        prompts = [wording.direct(self.objects[n % len(self.objects)], n) for n in range(self.pictures)]
        seed = derive_seed(self.how.seed, "retained", style)
        return model.sample(prompts, Sampling(seed=seed, steps=self.how.steps, guidance=self.how.guidance))


def ask_for(
    style: str, wording: Wording, models: tuple[TextToImage, TextToImage], judges: Sequence[Judge], asking: Asking
) -> Kept:
    """One retained style from original and candidate. The first judge that knows objects says what is shown."""
    wanted = np.array([asking.objects[n % len(asking.objects)] for n in range(asking.pictures)])
    answers = []
    for model in models:
        images = asking.drawn(model, wording, style)
        said = [judge.judge(images) for judge in judges]
        knows = next((answer for answer in said if answer.things is not None), None)
        if knows is None or knows.things is None:
            raise CheckBroken("no judge knows objects")
        shown = np.array(knows.objects)[knows.things.argmax(1)]
        answers.append((in_style(style, said), shown == wanted))
    (before, seen_before), (after, seen_after) = answers
    return Kept(style=style, before=before, after=after, seen_before=seen_before, seen_after=seen_after)
