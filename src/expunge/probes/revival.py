"""Revival: training on works of others, after which the artist's name is tried again."""

from __future__ import annotations

import numpy as np

from expunge.core.errors import CheckBroken, InputError
from expunge.training.text_to_image.probing import Group, Probed, ProbeJob
from expunge.training.text_to_image.retuning import by_tuning
from expunge.training.text_to_image.tuning import Tuning


class Revival:
    """The whole denoiser is trained on unrelated works under their own captions, and asked for the artist by the direct prompts.

    Needs the weights and anybody's pictures, none of the artist's: what happens to a model that is merely used further. An
    edit that sits on top of what the weights hold is worn off by it (Suriyakumar et al. 2024, arXiv 2410.08074).
    Counted as recovery though it asks by prompts: the weights are others by then, so the style that comes is compared with
    controls that went through the same, and a gate for prompts, which holds for the file as it was released, is not moved.
    Settings: steps (50) of Adam, lr (1e-3, per step: for about a million weights; Stable Diffusion takes 1e-6 to 1e-5),
    batch (8 pictures), works (200, at most that many of the unrelated, evenly spaced). Cost: steps x seeds x batch pictures,
    forward and backward through all weights, and a copy of the denoiser.
    Fails: works that are too few or too alike wear off nothing; a longer training may revive what this one did not.
    Unrelated works in the very style that is asked for would teach it, and are refused.
    """

    name = "revival"
    group: Group = "recovery"
    needs = frozenset({"unrelated"})

    def __init__(self, *, steps: int = 50, lr: float = 1e-3, batch: int = 8, works: int = 200) -> None:
        if not 1 <= works <= 100_000:
            raise InputError("works out of range", expected="1..100000", got=str(works))
        self.tuning, self.works = Tuning(steps=steps, lr=lr, batch=batch), works

    def run(self, job: ProbeJob) -> Probed:
        """Tune a copy a seed, then draw n pictures by the artist's name."""
        others = job.unrelated
        if others is None or not len(others):
            raise CheckBroken("revival needs works of others")
        shared = sorted(set(others.styles) & set(job.works.styles))
        if shared:
            raise CheckBroken(f"the unrelated works are in the style that is asked for: {', '.join(shared)}")
        rows = np.linspace(0, len(others) - 1, min(self.works, len(others))).astype(int).tolist()
        used = others.only(rows)
        return by_tuning(job, used, used.captions, job.wording.direct, self.tuning)
