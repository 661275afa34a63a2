"""Reading captioned pictures for the loop: noise, step and dropped captions are keyed by (seed, epoch, slot)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import IntegrityError
from expunge.data._pictures import Pictures, picture_digest
from expunge.training.batches import Batch, Leaves
from expunge.training.rng import below, draws, normals
from expunge.training.text_to_image.captions import tokens_of
from expunge.training.text_to_image.noise import STEPS, noised

PATCH = 2
"""Pixels a side that go into channels: exact, and 4 times fewer places to compute at."""
UNCAPTIONED = 0.1
"""Share of the pictures whose caption is left out, for classifier-free guidance (Ho and Salimans 2022)."""


def folded(images: NDArray[np.uint8]) -> Tensor:
    """(N, S, S, 3) uint8 to (N, 12, S/2, S/2) in -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    return F.pixel_unshuffle(pixels, PATCH)


def unfolded(folds: Tensor) -> NDArray[np.uint8]:
    """(N, 12, S/2, S/2) to (N, S, S, 3) uint8, clipped."""
    pixels = F.pixel_shuffle(folds.float(), PATCH).clamp(-1, 1).add(1).mul(127.5).round()
    found: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()
    return found


@dataclass(frozen=True, kw_only=True)
class PictureReader:
    """The rows of `pictures`, noised, and the velocity that is to be predicted."""

    pictures: Pictures
    seed: str
    leaves: Leaves | None = None

    @cached_property
    def _tokens(self) -> NDArray[np.int64]:
        return tokens_of(self.pictures.captions)

    @cached_property
    def _empty(self) -> NDArray[np.int64]:
        return tokens_of([""])

    def batch(self, slots: NDArray[np.int64], epoch: int, moment: float) -> Batch:
        """Noisy folds (B, 12, h, h), steps (B,) and tokens (B, L); the velocity (B, 12, h, h)."""
        self._check(slots)
        clean = folded(self.pictures.images[slots])
        draw = draws(self.seed, "diffusion", epoch, slots)
        times = torch.from_numpy(below(draw[:, 0], STEPS))
        bare = draw[:, 1] < np.uint32(UNCAPTIONED * 2**32)
        tokens = np.where(bare[:, None], self._empty, self._tokens[slots])
        noise = normals(self.seed, "noise", epoch, slots, clean[0].numel()).astype(np.float32)
        noisy, wanted = noised(clean, torch.from_numpy(noise).view_as(clean), times)
        return Batch(inputs=(noisy, times, torch.from_numpy(tokens)), wanted=(wanted,))

    def loss(self, found: Tensor, wanted: tuple[Tensor, ...]) -> Tensor:
        """Mean squared error of the velocity, a picture's mean, summed over the batch."""
        return (found.float() - wanted[0]).square().mean(dim=(1, 2, 3)).sum()

    def _check(self, slots: NDArray[np.int64]) -> None:
        if self.leaves is None:
            return
        for slot in slots.tolist():
            if picture_digest(self.pictures.captions[slot], self.pictures.images[slot]) != self.leaves.digests[slot]:
                raise IntegrityError(
                    f"the record in slot {slot} is not what was ingested",
                    hint="the data source changed after `expunge init`; restore it, or start a new workspace",
                )
