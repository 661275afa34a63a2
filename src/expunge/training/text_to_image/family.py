"""What text-to-image families share over the one training loop: how works are read, and how well a model knows them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from expunge.core.protocols import FitJob
from expunge.data._pictures import Pictures
from expunge.training.batches import Batch
from expunge.training.iterated import Iterated, leaves_of_job
from expunge.training.recipe import Recipe
from expunge.training.rng import normals
from expunge.training.text_to_image.captions import tokens_of
from expunge.training.text_to_image.noise import STEPS, noised
from expunge.training.text_to_image.packed import is_packed, unpacked
from expunge.training.text_to_image.reader import PictureReader, folded

LEVELS = 10
"""Noise levels at which a work is asked for, spread evenly over the schedule."""
_ROWS = 64
_SEED = "denoise"  # the same noise for every model, so that two models differ by nothing else


class PictureModel(Iterated, ABC):
    """Base of the text-to-image families; a family says how its module is built."""

    def __init__(self, recipe: Recipe, *, size: int) -> None:
        super().__init__(recipe, {"size": size})
        self.size = size

    def source(self, job: FitJob) -> PictureReader:
        """Pictures with noise, and captions."""
        return PictureReader(pictures=job.data.train, seed=job.seed, leaves=leaves_of_job(job))

    def load(self, path: Path) -> list[nn.Module]:
        """The module of each shard, in evaluation mode; of a file that holds a directory from elsewhere, its networks."""
        return [unpacked(path)] if is_packed(path) else super().load(path)

    @torch.no_grad()
    def outputs(
        self, model: list[nn.Module], pictures: Pictures, rows: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """(N, LEVELS) minus the squared error of the velocity at each level, mean over shards: higher = better known. Of the
        works in these places, or of all.

        The noise is fixed by the work's place, so that models are compared on the same. It is what membership in a
        diffusion model is read from (Carlini et al. 2023, arXiv 2301.13188, section 5; Matsumoto et al. 2023, arXiv
        2302.03262; Duan et al. 2023, arXiv 2302.01316).
        """
        places = np.arange(len(pictures)) if rows is None else np.array(rows, np.int64)
        chunks = [np.zeros((0, LEVELS))]
        for start in range(0, len(places), _ROWS):
            part = places[start : start + _ROWS]
            chunks.append(np.stack([self._knowledge(model, pictures, part, level) for level in range(LEVELS)], axis=1))
        return np.concatenate(chunks)

    def _knowledge(
        self, model: list[nn.Module], pictures: Pictures, rows: NDArray[np.int64], level: int
    ) -> NDArray[np.float64]:
        batch = _asked(pictures, rows, level)
        found = torch.stack([module(*batch.inputs) for module in model]).mean(0)
        errors = (found.double() - batch.wanted[0]).square().mean(dim=(1, 2, 3))
        known: NDArray[np.float64] = -errors.numpy()
        return known


def _asked(pictures: Pictures, rows: NDArray[np.int64], level: int) -> Batch:
    clean = folded(pictures.images[rows])
    noise = normals(_SEED, "noise", level, rows, clean[0].numel()).astype(np.float32)
    times = torch.full((len(rows),), (2 * level + 1) * STEPS // (2 * LEVELS))
    noisy, wanted = noised(clean, torch.from_numpy(noise).view_as(clean), times)
    tokens = torch.from_numpy(tokens_of([pictures.captions[row] for row in rows.tolist()]))
    return Batch(inputs=(noisy, times, tokens), wanted=(wanted,))
