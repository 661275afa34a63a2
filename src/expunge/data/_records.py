"""The data floor's nouns: labelled images by slot, and a data set of train and test records."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError, InputProblems
from expunge.data._ids import known_slots, rows_in_source

CONTENT_DOMAIN = b"expunge/image/v1"


def content_prefix(label: int, shape: Sequence[int]) -> bytes:
    """What is hashed before the pixels, so that the same pixels with another label or shape are other content."""
    return b"|".join([CONTENT_DOMAIN, str(label).encode(), "x".join(map(str, shape)).encode(), b""])


@dataclass(frozen=True, kw_only=True)
class PixelRecords:
    """Base of the records that are N pictures. A record's slot is its position here and is never reused.

    ids: slot -> id, unique, prefixed with the split. images: (N, H, W, C) uint8. blocks: slot -> block name; records of one
    block (a user, an artist, a duplicate cluster) travel together in the bank.
    """

    ids: tuple[str, ...]
    images: NDArray[np.uint8]
    blocks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def slot_of(self) -> dict[str, int]:
        """id -> slot."""
        return {record: slot for slot, record in enumerate(self.ids)}

    def content(self, slot: int) -> bytes:
        """What makes two records copies of each other, whatever their ids and labels: the pixels."""
        pixels: bytes = self.images[slot].tobytes()
        return pixels

    def slots(self, ids: Sequence[str]) -> list[int]:
        """Slots of ids; every unknown id is reported at once."""
        return known_slots(self.slot_of, ids, "record")

    def in_block(self, block: str) -> list[int]:
        """Slots of a block, ascending; an unknown block is an error."""
        found = [slot for slot, name in enumerate(self.blocks) if name == block]
        if not found:
            raise InputProblems("unknown block", [repr(block)], code="unknown-id")
        return found


@dataclass(frozen=True, kw_only=True)
class ImageRecords(PixelRecords):
    """N labelled images. labels: (N,) int64 in 0..K-1."""

    labels: NDArray[np.int64]

    def content_digest(self, slot: int) -> str:
        """Hex SHA-256 of label, shape and pixels of one record."""
        prefix = content_prefix(int(self.labels[slot]), self.images.shape[1:])
        return hashlib.sha256(prefix + self.images[slot].tobytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class CoinRecords:
    """m deletion canaries in the order of their slots. images (m, H, W, C) uint8, labels (m,) as they are taught.

    `trained` (m,) bool is the coin: heads are training records too, tails are nowhere else. For scoring only.
    """

    ids: tuple[str, ...]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    trained: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Train and test records with the class names (K of them). `note` is printed beside every result.

    `coins` are planted canaries, heads and tails; None where none were asked for.
    """

    source: str
    note: str
    classes: tuple[str, ...]
    train: ImageRecords
    test: ImageRecords
    coins: CoinRecords | None = None

    families: ClassVar[str] = "models"
    """The kind of plug-in that trains on this."""

    @property
    def geometry(self) -> dict[str, Any]:
        """What a family has to know of the data to build a model."""
        return {"classes": len(self.classes), "shape": tuple(self.train.images.shape[1:])}

    def aligned(self, ids: Sequence[str | None], blocks: Sequence[str]) -> Dataset:
        """The training records in slot order as they were ingested. A slot without id is a tombstone: blank pixels, label 0.

        Records may have left the source or moved in it; a retained one that is missing is an error. Records the source
        gained since ingestion are not used.
        """
        train = self.train
        found = rows_in_source(train.slot_of, ids, "record")
        rows = np.array([-1 if row is None else row for row in found], np.int64)
        there = rows >= 0
        images = np.zeros((len(ids), *train.images.shape[1:]), np.uint8)
        labels = np.zeros(len(ids), np.int64)
        images[there], labels[there] = train.images[rows[there]], train.labels[rows[there]]
        names = tuple(name if name is not None else f"tombstone/{slot}" for slot, name in enumerate(ids))
        return replace(self, train=ImageRecords(ids=names, images=images, labels=labels, blocks=tuple(blocks)))


def check_records(records: ImageRecords, classes: int, what: str) -> ImageRecords:
    """Shapes, label range and unique ids, all problems at once."""
    problems = []
    if records.images.dtype != np.uint8 or records.images.ndim != 4:
        problems.append(f"images are {records.images.dtype} {records.images.shape}, expected uint8 (N, H, W, C)")
    if not len(records.ids) == len(records.images) == len(records.labels) == len(records.blocks):
        problems.append("ids, images, labels and blocks have different lengths")
    if len(records.ids) == 0:
        problems.append("no records")
    elif len(set(records.ids)) != len(records.ids):
        problems.append(f"{len(records.ids) - len(set(records.ids))} duplicate ids")
    wrong = np.flatnonzero((records.labels < 0) | (records.labels >= classes))
    if len(wrong):
        first = int(wrong[0])
        problems.append(
            f"{len(wrong)} labels outside 0..{classes - 1}, the first is {int(records.labels[first])} at row {first}"
        )
    if problems:
        raise DataError(f"{what}: " + "; ".join(problems), expected="records as the data source describes them")
    return records
