"""Batches of users: rows over all items, with all draws keyed by (seed, epoch, slot); and the losses of MultVAE and BPR."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from expunge.core.errors import IntegrityError
from expunge.data._interactions import Histories
from expunge.training.batches import Batch, Leaves
from expunge.training.rng import draws_at, normals

Slots = NDArray[np.int64]
Encoded = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class HistoryReader:
    """Reads users' histories; with leaves, every one must still be what was ingested."""

    histories: Histories
    seed: str
    leaves: Leaves | None = None
    _seen: dict[int, bytes] = field(default_factory=dict, repr=False)

    def speaking(self, slots: Slots) -> Slots:
        """Those with events: a user without any has nothing to say, and is left out like an absent one."""
        return slots[np.diff(self.histories.indptr)[slots] > 0]

    def events(self, slots: Slots) -> tuple[Slots, Slots]:
        """Row in the batch and column of every event, users checked against their leaves."""
        if self.leaves is not None:
            for slot in slots.tolist():
                self._check(slot, self.leaves.digests[slot])
        spans = [self.histories.span(slot) for slot in slots.tolist()]
        rows = np.repeat(np.arange(len(slots)), [span.stop - span.start for span in spans])
        columns = np.concatenate([self.histories.indices[span] for span in spans]) if spans else np.zeros(0)
        return rows.astype(np.int64), columns.astype(np.int64)

    def _check(self, slot: int, wanted: str) -> None:
        """What is read must be what was ingested. By item ids the first time; later it must be the same bytes again."""
        bytes_now = self._bytes(slot)
        if self._seen.get(slot) == bytes_now:
            return
        if self.histories.content_digest(slot) != wanted:
            raise IntegrityError(
                f"the record in slot {slot} is not what was ingested",
                hint="the data source changed after `expunge init`; restore it, or start a new workspace",
            )
        self._seen[slot] = bytes_now

    def _bytes(self, slot: int) -> bytes:
        span, found = self.histories.span(slot), hashlib.sha256()
        arrays = (self.histories.indices, self.histories.values, self.histories.times)
        for array in arrays:
            found.update(b"" if array is None else array[span].tobytes())
        return found.digest()


@dataclass(frozen=True, kw_only=True)
class UserReader(HistoryReader):
    """Reads users' rows as ones. `dropout` is the share of events left out of the input; `beta` the weight of the
    Kullback-Leibler term once `annealing` of all steps is past, and in proportion before; `latent` the noise's width.
    """

    latent: int
    dropout: float
    beta: float
    annealing: float

    def batch(self, slots: Slots, epoch: int, moment: float) -> Batch:
        """Inputs: thinned rows (B, I) of length 1, and noise (B, L). Wanted: the whole rows, and beta at this moment."""
        slots = self.speaking(slots)
        rows, columns = self.events(slots)
        whole = torch.zeros(len(slots), len(self.histories.items))
        whole[rows, columns] = 1
        noise = torch.from_numpy(normals(self.seed, "noise", epoch, slots, self.latent).astype(np.float32))
        inputs = unit_rows(whole)
        inputs[rows, columns] *= self._kept(slots[rows], columns, epoch)
        beta = self.beta * min(1.0, moment / self.annealing) if self.annealing else self.beta
        return Batch(inputs=(inputs, noise), wanted=(whole, torch.tensor(beta)))

    def loss(self, found: Encoded, wanted: tuple[Tensor, ...]) -> Tensor:
        """Negative evidence bound, in nats an event: -sum_i x_i log pi_i / |x| + beta KL / |x|, summed over users."""
        logits, mean, logarithm = (part.float() for part in found)
        rows, beta = wanted
        likelihood = (F.log_softmax(logits, 1) * rows).sum(1)
        distance = 0.5 * (mean.square() + logarithm.exp() - 1 - logarithm).sum(1)
        return ((beta * distance - likelihood) / rows.sum(1)).sum()

    def _kept(self, slots: Slots, columns: Slots, epoch: int) -> Tensor:
        """0 for a dropped event, 1 / (1 - dropout) for the others."""
        draw = draws_at(self.seed, "dropout", epoch, slots, columns)[:, 0] / 2.0**32
        return torch.from_numpy((draw >= self.dropout).astype(np.float32) / np.float32(1 - self.dropout))


@dataclass(frozen=True, kw_only=True)
class PairReader(HistoryReader):
    """Reads users' rows, and draws `pairs` items a user has beside as many that the user does not have."""

    pairs: int

    def batch(self, slots: Slots, epoch: int, moment: float) -> Batch:
        """Inputs: rows (B, I) of ones, and item numbers (B, n) had and not had. Wanted: weight (B, n) of each pair."""
        slots = self.speaking(slots)
        rows, columns = self.events(slots)
        whole = torch.zeros(len(slots), len(self.histories.items))
        whole[rows, columns] = 1
        had, others = self._drawn(slots, epoch)
        weight = 1 - whole.gather(1, others)  # an item that the user has after all is no counter-example
        return Batch(inputs=(whole, had, others), wanted=(weight,))

    def loss(self, found: tuple[Tensor, Tensor], wanted: tuple[Tensor, ...]) -> Tensor:
        """-log sigmoid(s_had - s_other), the mean over a user's pairs, summed over users."""
        (had, others), (weight,) = found, wanted
        each = F.softplus(others.float() - had.float()) * weight
        return (each.sum(1) / weight.sum(1).clamp(min=1)).sum()

    def _drawn(self, slots: Slots, epoch: int) -> tuple[Tensor, Tensor]:
        places = np.arange(self.pairs, dtype=np.int64)
        draw = draws_at(self.seed, "pairs", epoch, np.repeat(slots, self.pairs), np.tile(places, len(slots)))
        spans = [self.histories.span(slot) for slot in slots.tolist()]
        starts = np.repeat([span.start for span in spans], self.pairs)
        lengths = np.repeat([span.stop - span.start for span in spans], self.pairs)
        picked = starts + (draw[:, 0] / 2.0**32 * lengths).astype(np.int64)
        others = (draw[:, 1] / 2.0**32 * len(self.histories.items)).astype(np.int64)
        shape = (len(slots), self.pairs)
        had = self.histories.indices[picked].astype(np.int64)
        return torch.from_numpy(had.reshape(shape)), torch.from_numpy(others.reshape(shape))


def unit_rows(rows: Tensor) -> Tensor:
    """Rows of Euclidean length 1; an empty row stays empty."""
    lengths: Tensor = rows.norm(dim=1, keepdim=True)
    return rows / lengths.clamp(min=1)
