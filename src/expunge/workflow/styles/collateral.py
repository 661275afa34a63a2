"""Asking original and candidate for everybody else's styles: the same prompts, the same noise, so every comparison is
paired. What the answers mean is counted in stats.style_collateral."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken
from expunge.stats.style_collateral import Kept, Looks
from expunge.training.judging.judge import Judge, SeesFeatures, in_style
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.probing import Wording
from expunge.training.text_to_image.sampler import Sampling, TextToImage

NOISE, OTHER_NOISE = "retained", "retained, drawn again"


@dataclass(frozen=True, kw_only=True)
class Asking:
    """The objects in turn, `pictures` of each style, drawn as `how`."""

    objects: tuple[str, ...]
    pictures: int
    how: Sampling

    def drawn(self, model: TextToImage, wording: Wording, style: str, noise: str = NOISE) -> NDArray[np.uint8]:
        """(n, H, W, 3), the same noise for every model."""
        prompts = [wording.direct(self.objects[n % len(self.objects)], n) for n in range(self.pictures)]
        seed = derive_seed(self.how.seed, noise, style)
        return model.sample(prompts, Sampling(seed=seed, steps=self.how.steps, guidance=self.how.guidance))


def ask_for(
    style: str, wording: Wording, models: tuple[TextToImage, TextToImage], judges: Sequence[Judge], asking: Asking
) -> Kept:
    """One retained style from original and candidate. The first judge that knows objects says what is shown, the first that
    gives features says how it looks; for the latter the original draws everything once more, from other noise."""
    wanted = np.array([asking.objects[n % len(asking.objects)] for n in range(asking.pictures)])
    drawn = [asking.drawn(model, wording, style) for model in models]
    answers = []
    for images in drawn:
        said = [judge.judge(images) for judge in judges]
        knows = next((answer for answer in said if answer.things is not None), None)
        if knows is None or knows.things is None:
            raise CheckBroken("no judge knows objects")
        shown = np.array(knows.objects)[knows.things.argmax(1)]
        answers.append((in_style(style, said), shown == wanted))
    (before, seen_before), (after, seen_after) = answers
    sees = next((judge for judge in judges if isinstance(judge, SeesFeatures)), None)
    looks = None if sees is None else _looks(sees, drawn, asking.drawn(models[0], wording, style, OTHER_NOISE))
    return Kept(style=style, before=before, after=after, seen_before=seen_before, seen_after=seen_after, looks=looks)


def _looks(sees: SeesFeatures, drawn: Sequence[NDArray[np.uint8]], again: NDArray[np.uint8]) -> Looks:
    before, after, floor = (sees.features(images) for images in (*drawn, again))
    return Looks(space=sees.space, before=before, after=after, again=floor)
