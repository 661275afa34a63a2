"""Reading and augmenting a batch on tensors; what is hashed for the receipt is what was read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from expunge.core.errors import IntegrityError
from expunge.training.recipe import Recipe
from expunge.training.rng import below, draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """Per slot: keyed id leaf, keyed content leaf (both hex) and the content digest recorded at ingestion (hex).

    A tombstoned slot has empty strings.
    """

    ids: Sequence[str]
    contents: Sequence[str]
    digests: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What goes into a module, and what its output is held against."""

    inputs: tuple[Tensor, ...]
    wanted: tuple[Tensor, ...]

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        inputs, wanted = (tuple(tensor.to(device) for tensor in part) for part in (self.inputs, self.wanted))
        return Batch(inputs=inputs, wanted=wanted)


class Source(Protocol):
    """What the loop trains on. Everything drawn is keyed by (seed, epoch, slot), so no record moves another's draws."""

    @property
    def leaves(self) -> Leaves | None:
        """Leaves of all slots; None trains without a transcript."""

    def batch(self, slots: NDArray[np.int64], epoch: int, moment: float) -> Batch:
        """The records in these slots, checked against their leaves; `moment` is the share of the steps that is past."""

    def loss(self, found: Any, wanted: tuple[Tensor, ...]) -> Tensor:
        """Summed over the batch: the loop divides by its places."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """Reads rows of (N, H, W, C) uint8 images and turns them into normalised, augmented (B, C, H, W) float batches."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    recipe: Recipe
    seed: str
    leaves: Leaves | None = None

    def batch(self, slots: NDArray[np.int64], epoch: int, moment: float) -> Batch:
        """Augmented images; the schedule alone knows how far the training is."""
        raw, labels = self.read(slots)
        return Batch(inputs=(self.augment(raw, epoch, slots),), wanted=(labels,))

    def loss(self, found: Tensor, wanted: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of the logits (B, K), summed over the batch."""
        return F.cross_entropy(found.float(), wanted[0], label_smoothing=self.recipe.label_smoothing, reduction="sum")

    def read(self, slots: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Raw uint8 (B, H, W, C) and labels (B,); with leaves, every row must still be what was ingested."""
        rows = self.images[slots]
        labels = self.labels[slots]
        if self.leaves is not None:
            self._check(slots, rows, labels, self.leaves.digests)
        return torch.from_numpy(rows), torch.from_numpy(labels)

    def _check(
        self, slots: NDArray[np.int64], rows: NDArray[np.uint8], labels: NDArray[np.int64], digests: Sequence[str]
    ) -> None:
        shape = "x".join(map(str, rows.shape[1:]))
        for slot, row, label in zip(slots.tolist(), rows, labels.tolist(), strict=True):
            found = hashlib.sha256(f"expunge/image/v1|{label}|{shape}|".encode())
            found.update(row.data)
            if found.hexdigest() != digests[slot]:
                raise IntegrityError(
                    f"the record in slot {slot} is not what was ingested",
                    hint="the data source changed after `expunge init`; restore it, or start a new workspace",
                )

    def augment(self, raw: Tensor, epoch: int, slots: NDArray[np.int64]) -> Tensor:
        """Crop, flip and cutout keyed by (seed, epoch, slot); then normalise. Returns (B, C, H, W), channels last."""
        draw = draws(self.seed, "augment", epoch, slots)
        pixels = raw
        if self.recipe.crop:
            pixels = _crop(pixels, self.recipe.crop, draw)
        if self.recipe.flip == "random":
            pixels = _flip(pixels, draw[:, 2] >> 31)
        elif self.recipe.flip == "alternating":
            side = draws(self.seed, "augment", 0, slots)[:, 2] >> 31
            pixels = _flip(pixels, side ^ np.uint32(epoch % 2))
        if self.recipe.cutout:
            pixels = _cutout(pixels, self.recipe.cutout, draw)
        return normalise(pixels)


def normalise(pixels: Tensor) -> Tensor:
    """uint8 (B, H, W, C) to float (B, C, H, W) in about [-2, 2], by constants that depend on no record."""
    return (pixels.float() - 127.5).mul_(1 / 64).permute(0, 3, 1, 2)


def _crop(pixels: Tensor, margin: int, draw: NDArray[np.uint32]) -> Tensor:
    """Shift by -margin..margin with mirrored borders: one gather over all windows of the padded batch."""
    batch, height, width, channels = pixels.shape
    padded = F.pad(pixels.permute(0, 3, 1, 2).float(), (margin,) * 4, mode="reflect").to(torch.uint8)
    padded = padded.permute(0, 2, 3, 1).contiguous()
    s0, s1, s2, s3 = padded.stride()
    span = 2 * margin + 1
    windows = padded.as_strided((batch, span, span, height, width, channels), (s0, s1, s2, s1, s2, s3))
    down = torch.from_numpy(below(draw[:, 0], span))
    right = torch.from_numpy(below(draw[:, 1], span))
    return windows[torch.arange(batch), down, right]


def _flip(pixels: Tensor, bit: NDArray[Any]) -> Tensor:
    flips = torch.from_numpy(bit.astype(bool))
    return torch.where(flips[:, None, None, None], pixels.flip(2), pixels)


def _cutout(pixels: Tensor, size: int, draw: NDArray[np.uint32]) -> Tensor:
    """A grey square of `size` pixels at a keyed place (DeVries and Taylor, 2017)."""
    _, height, width, _ = pixels.shape
    low = draw[:, 3]
    top = torch.from_numpy(below(low, height))[:, None] - size // 2
    left = torch.from_numpy(below((low * np.uint32(2654435761)).astype(np.uint32), width))[:, None] - size // 2
    rows, columns = torch.arange(height)[None], torch.arange(width)[None]
    inside = ((rows >= top) & (rows < top + size))[:, :, None] & ((columns >= left) & (columns < left + size))[:, None]
    return torch.where(inside[..., None], torch.tensor(127, dtype=torch.uint8), pixels)
