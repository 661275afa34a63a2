"""Images as arrays, (N, H, W, C) uint8: seeded noisy copies, shifts, nearest records and steps between two images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats

Images = NDArray[np.uint8]
LEVELS = 255.0
"""Grey levels of the whole range; lengths are given in units of it."""


def images_of(name: str, values: Any) -> Images:
    """The values as images. Raises CheckBroken unless they are uint8 (N >= 1, H, W, C)."""
    array = np.asarray(values)
    if array.dtype != np.uint8 or array.ndim != 4 or not len(array):
        raise CheckBroken(f"{name} are not images", expected="uint8 (N, H, W, C)", got=f"{array.dtype} {array.shape}")
    return array


def noisy(images: Images, *, levels: float, copies: int, seed: int) -> Images:
    """Copies with Gaussian noise of this SD in grey levels, rounded and clipped, shape (copies, N, H, W, C).

    At least one grey level of every copy differs from its source, so that no copy is the record itself.
    """
    rng = np.random.default_rng(seed)
    noise = rng.normal(0.0, levels, (copies, *images.shape))
    moved = np.clip(np.rint(images + noise), 0, LEVELS).astype(np.uint8)
    same = (moved == images).reshape(copies, len(images), -1).all(axis=2)
    flat = moved.reshape(copies, len(images), -1)
    flat[same, 0] ^= 1
    return moved


def shifted(images: Images, step: int = 1) -> Images:
    """Four copies moved by `step` pixels along each axis, both ways, edges repeated, shape (4, N, H, W, C)."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (step, step), (step, step), (0, 0)), mode="edge")
    corners = ((0, step), (2 * step, step), (step, 0), (step, 2 * step))
    return np.stack([padded[:, top : top + height, left : left + width] for top, left in corners])


def nearest(images: Images, pool: Images, k: int) -> NDArray[np.intp]:
    """Rows of the k nearest pool images by Euclidean distance of pixels, nearest first, (N, k)."""
    if not 1 <= k <= len(pool):
        raise CheckBroken("too few neighbours", expected=f"at least {k}", got=str(len(pool)))
    a = images.reshape(len(images), -1).astype(np.float64)
    b = pool.reshape(len(pool), -1).astype(np.float64)
    squared = (a * a).sum(1)[:, None] - 2 * a @ b.T + (b * b).sum(1)
    return np.argsort(squared, axis=1, kind="stable")[:, :k]


def step_towards(images: Images, goals: ArrayLike, share: float) -> tuple[Images, Floats]:
    """Each image moved this share of the way to its goal, rounded; and how far it really moved, (N,), in LEVELS."""
    start = images.astype(np.float64)
    moved = np.clip(np.rint(start + share * (np.asarray(goals, np.float64) - start)), 0, LEVELS).astype(np.uint8)
    lengths = np.sqrt(((moved - start) ** 2).reshape(len(images), -1).sum(axis=1)) / LEVELS
    return moved, np.asarray(lengths, dtype=np.float64)
