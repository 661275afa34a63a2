"""Textual inversion: one new word, learned from a few pictures of the artist."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.core.errors import InputError
from expunge.training.text_to_image.learning import Budget, by_vectors, learned, started
from expunge.training.text_to_image.probing import Group, Probed, ProbeJob
from expunge.training.text_to_image.words import Slotted


class TextualInversion:
    """One token embedding, learned with everything else frozen (Gal et al. 2022, arXiv 2208.01618, equation 2).

    Against erased models: Pham et al. 2024 (arXiv 2308.01508) bring every concept back that seven methods had erased. It
    goes through the text encoder, in a sentence like those that trained. Needs the weights and works of the artist.
    Settings: steps (150), rate (.05, of Adam). Cost: steps x seeds x 8 pictures, forward and backward.
    Fails: one seed finds the word and another does not, so several are counted; a style near a trained one is found too.
    """

    name = "textual_inversion"
    group: Group = "recovery"
    needs = frozenset({"works"})

    def __init__(self, *, steps: int = 150, rate: float = 0.05) -> None:
        if not (1 <= steps <= 100_000 and 0 < rate <= 10):
            raise InputError("textual inversion out of range", expected="steps 1..100000, rate up to 10")
        self.budget = Budget(steps=steps, rate=rate)

    def run(self, job: ProbeJob) -> Probed:
        """Learn a word a seed, then draw n pictures of the objects with it."""
        job.require_works()
        slotted = Slotted.of(job.model, [job.wording.open_(name) for name in job.objects])
        number = {name: row for row, name in enumerate(job.objects)}
        shown = torch.tensor([number[name] for name in job.works.objects])
        start = started(job, 1, slotted.table.shape[1], slotted.table)

        def conditioning(vectors: Tensor, rows: NDArray[np.int64]) -> Tensor:
            mine = vectors.expand(-1, rows.shape[1], -1).flatten(0, 1)
            return slotted.encode(shown[rows.ravel()], mine)

        def words(vectors: Tensor, objects: Sequence[str]) -> Tensor:
            return slotted.encode(torch.tensor([number[name] for name in objects]), vectors.expand(len(objects), -1))

        vectors, losses = learned(job, start, conditioning, self.budget)
        return Probed(images=by_vectors(job, vectors, words), objects=tuple(job.asked()), figures={"last_loss": losses})
