"""Learned conditioning vectors in place of a prompt: how few bring the style back?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.core.errors import InputError
from expunge.training.text_to_image.learning import Budget, by_vectors, learned, started
from expunge.training.text_to_image.probing import Group, Probed, ProbeJob


class SoftPrompt:
    """`vectors` k conditioning vectors in the place of the neutral prompt's last, learned on the attacker's examples with the
    model frozen.

    They enter behind the text encoder, so nothing that was done to it or to names stands in their way (Lester et al. 2021;
    Pham et al. 2024, arXiv 2308.01508, use one). A pooled vector (Stable Diffusion XL) stays the neutral prompt's. Needs the
    weights and works of the artist.
    Settings: vectors (1), steps (100), rate (.1, of Adam). Cost: steps x seeds x 8 pictures, forward and backward.
    Fails: with enough vectors any model draws any style, also one that it never saw. Only the comparison with never-trained
    controls at equal k says anything, and the smallest k that reaches half of the pictures says most.
    """

    name = "soft_prompt"
    group: Group = "recovery"
    needs = frozenset({"works"})

    def __init__(self, *, vectors: int = 1, steps: int = 100, rate: float = 0.1) -> None:
        if not (1 <= vectors <= 64 and 1 <= steps <= 100_000 and 0 < rate <= 10):
            raise InputError("soft prompt out of range", expected="vectors 1..64, steps 1..100000, rate up to 10")
        self.vectors, self.budget = vectors, Budget(steps=steps, rate=rate)

    def run(self, job: ProbeJob) -> Probed:
        """Learn k vectors a seed, then draw n pictures of the objects with them."""
        job.require_works()
        model = job.model
        neutral = {name: model.encode([job.wording.neutral(name)])[0] for name in job.objects}
        at = model.length - self.vectors
        start = started(job, self.vectors, model.width, next(iter(neutral.values()))[:at])
        shown = torch.stack([neutral[name] for name in job.works.objects])

        def conditioning(vectors: Tensor, rows: NDArray[np.int64]) -> Tensor:
            mine = vectors[:, None].expand(-1, rows.shape[1], -1, -1).flatten(0, 1)
            return _put(shown[rows.ravel()], mine, at)

        def words(vectors: Tensor, objects: Sequence[str]) -> Tensor:
            mine = vectors[None].expand(len(objects), -1, -1)
            return _put(torch.stack([neutral[name] for name in objects]), mine, at)

        vectors, losses = learned(job, start, conditioning, self.budget)
        return Probed(images=by_vectors(job, vectors, words), objects=tuple(job.asked()), figures={"last_loss": losses})


def _put(words: Tensor, vectors: Tensor, at: int) -> Tensor:
    """Embedded prompts (B, rows, d) with vectors (B, k, d) from row `at` on."""
    return torch.cat([words[:, :at], vectors, words[:, at + vectors.shape[1] :]], dim=1)
