"""What a bank keeps of one record so that its deletion can be proved when the record itself is gone.

Per model one bit (IN or OUT) and one float32 (natural-log probability of the record's own class): M models take
ceil(M / 8) + 4 M bytes, 264 for M = 64. With it the OUT and IN arms of a block are known for good; only the models
that did not exist at ingestion (the X arm, the candidate) must be shown the record, once, before it is destroyed. A
sketch is personal data about its record: it is kept with the case and destroyed with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError, IntegrityError


@dataclass(frozen=True, kw_only=True)
class RecordSketch:
    """`inside` (M,) bool: which models trained on it; `scores` (M,) float32: their log-probability of its class."""

    inside: NDArray[np.bool_]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.inside.shape != self.scores.shape or self.inside.ndim != 1:
            raise InputError(
                "bits and scores of a record sketch are one per model",
                got=f"{self.inside.shape} bits, {self.scores.shape} scores",
            )

    def pack(self) -> bytes:
        """ceil(M / 8) bytes of bits, first model first, then M little-endian float32."""
        return np.packbits(self.inside).tobytes() + self.scores.astype("<f4").tobytes()

    @classmethod
    def unpack(cls, data: bytes, models: int) -> RecordSketch:
        """Inverse of `pack`. Raises IntegrityError on another length, or on scores that are no log-probabilities."""
        head = -(-models // 8)
        if len(data) != head + 4 * models:
            raise IntegrityError(
                "a record sketch of another bank", expected=f"{head + 4 * models} bytes", got=f"{len(data)} bytes"
            )
        inside = np.unpackbits(np.frombuffer(data[:head], np.uint8), count=models).astype(bool)
        scores = np.frombuffer(data[head:], "<f4").astype(np.float32)
        if not (np.isfinite(scores).all() and (scores <= 0).all()):
            raise IntegrityError("scores of a record sketch are not log-probabilities", expected="finite, at most 0")
        return cls(inside=inside, scores=scores)


def sides_of(records: Sequence[RecordSketch]) -> list[tuple[int, int]]:
    """(OUT model, IN model) of every complement pair for the records of one block.

    Raises InputError unless they travel together through pairs that hold the block on exactly one side.
    """
    bits = np.array([record.inside for record in records])
    paired = len(bits) and bits.shape[1] % 2 == 0
    if not paired or not (bits == bits[0]).all() or not (bits[0][0::2] ^ bits[0][1::2]).all():
        raise InputError("the sketches are not of one block of a bank of complement pairs")
    return [(k + 1, k) if bits[0][k] else (k, k + 1) for k in range(0, bits.shape[1], 2)]


def table_of(records: Sequence[RecordSketch]) -> NDArray[Any]:
    """Scores of the records under every model, (M, R) float32."""
    return np.stack([record.scores for record in records], axis=1)
