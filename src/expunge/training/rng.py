"""Counter-based randomness: every draw is a function of (seed, stream, epoch, slot), so removing one record moves no other.

Philox4x32-10 (Salmon et al., SC'11, "Parallel random numbers: as easy as 1, 2, 3"), vectorised over slots; held to the
Random123 known-answer vectors in the tests.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int]) -> NDArray[np.uint32]:
    """(N, 4) uint32 counters and a 2x32-bit key to (N, 4) uint32 outputs."""
    x0, x1, x2, x3 = (counter[:, column].astype(np.uint64) for column in range(4))
    k0, k1 = key
    for _ in range(10):
        first, second = _M0 * x0, _M1 * x2
        x0, x1, x2, x3 = (
            (second >> _SHIFT) ^ x1 ^ np.uint64(k0),
            second & _LOW,
            (first >> _SHIFT) ^ x3 ^ np.uint64(k1),
            first & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], axis=1).astype(np.uint32)


def derive_seed(seed: str, *labels: object) -> str:
    """A new 128-bit seed (hex) from a seed and labels."""
    text = "|".join(["expunge/seed/v1", seed, *map(str, labels)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def seed_number(seed: str) -> int:
    """63 bits of a seed, for generators that want an integer."""
    return int(hashlib.sha256(f"expunge/int/v1|{seed}".encode()).hexdigest()[:16], 16) >> 1


def draws(seed: str, stream: str, epoch: int, slots: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Four 32-bit draws per slot, shape (N, 4); `stream` separates purposes (order, augment, slice, shard)."""
    return draws_at(seed, stream, epoch, slots, np.zeros(len(slots), np.int64))


def draws_at(
    seed: str, stream: str, epoch: int, slots: NDArray[np.int64], places: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Four draws per pair of a slot and a place (below 2^32) of it, shape (N, 4): for what needs more than four."""
    digest = hashlib.sha256(f"expunge/stream/v1|{seed}|{stream}".encode()).digest()
    key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))
    counter = np.zeros((len(slots), 4), np.uint32)
    counter[:, 0] = slots & 0xFFFFFFFF
    counter[:, 1] = slots >> 32
    counter[:, 2] = epoch
    counter[:, 3] = places
    return philox4x32(counter, key)


def normals(seed: str, stream: str, epoch: int, slots: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Standard normal draws, shape (N, width), by Box and Muller's transform; a slot's are the same among any others."""
    places = np.arange(-(-width // 2), dtype=np.int64)
    draw = draws_at(seed, stream, epoch, np.repeat(slots, len(places)), np.tile(places, len(slots)))
    radius = np.sqrt(-2 * np.log((draw[:, 0] + 1.0) / 2.0**32))  # in (0, 1], so never the logarithm of 0
    angle = 2 * np.pi / 2.0**32 * draw[:, 1]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.reshape(len(slots), 2 * len(places))[:, :width]


def below(draw: NDArray[np.uint32], limit: int) -> NDArray[np.int64]:
    """Draws mapped to 0..limit-1 (bias below limit / 2^32)."""
    return ((draw.astype(np.uint64) * np.uint64(limit)) >> _SHIFT).astype(np.int64)


def shuffled(seed: str, stream: str, epoch: int, slots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Slots in keyed order: sorted by a 64-bit draw per slot, ties by slot. Removing a slot keeps the others' order."""
    draw = draws(seed, stream, epoch, slots).astype(np.uint64)
    rank = (draw[:, 0] << _SHIFT) | draw[:, 1]
    return slots[np.lexsort((slots, rank))]
