"""Whether pictures are pictures at all. On black, on noise and on one picture N times, every judge says "not the style"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken
from expunge.stats.styles import MOST_COPIES, MOST_DEAD
from expunge.training.judging.judge import PicturesCollapsed, Pixels, check_pixels

FLAT = 4.0
"""Grey values: a picture whose pixels have a smaller standard deviation than this in every channel shows nothing."""
STRUCTURE = 0.15
"""Largest correlation of a picture with itself moved by up to 4 pixels, below which it is noise: white noise of 32x32 grey
values has a standard deviation of .03 at each move, and every style here has .3 or more."""
ALIKE = 4.0
"""Grey values: two pictures whose root mean square difference is smaller are the same."""
_MOVES = 4
_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """What is wrong with n pictures. dead: flat or noise; copies: pictures with a twin in the set; `limits` are those above.

    A set of one has no twins to find, so `copies` says nothing there.
    """

    n: int
    flat: int
    noise: int
    copies: int
    limits: Mapping[str, float]

    @property
    def dead(self) -> int:
        """Pictures that are flat or noise."""
        return self.flat + self.noise

    @property
    def reason(self) -> str | None:
        """Why the set is collapsed, in words, or None."""
        if self.dead > self.limits["most_dead"] * self.n:
            return f"{self.flat} of {self.n} pictures are flat and {self.noise} are noise"
        if self.copies > self.limits["most_copies"] * self.n:
            return f"{self.copies} of {self.n} pictures are copies of another one"
        return None


def collapsed(pictures: Pixels) -> Collapse:
    """Count flat pictures, noise and copies among (N, S, S, 3). Raises CheckBroken on none at all: nothing is not alive."""
    check_pixels(pictures, None)
    if not len(pictures):
        raise CheckBroken("no pictures to look at")
    flat = np.array([image.reshape(-1, 3).std(axis=0).max() < FLAT for image in pictures])
    noise = ~flat & (structure(pictures) < STRUCTURE)
    limits = {"flat": FLAT, "structure": STRUCTURE, "alike": ALIKE, "most_dead": MOST_DEAD, "most_copies": MOST_COPIES}
    return Collapse(
        n=len(pictures),
        flat=int(flat.sum()),
        noise=int(noise.sum()),
        copies=int((_nearest(pictures) < ALIKE).sum()),
        limits=limits,
    )


def require_alive(pictures: Pixels) -> Collapse:
    """The counts, or PicturesCollapsed: no judge may be asked about such a set."""
    found = collapsed(pictures)
    if found.reason is not None:
        raise PicturesCollapsed(
            found.reason,
            expected=f"at most {MOST_DEAD:.0%} flat or noise, at most {MOST_COPIES:.0%} copies",
            hint="the model no longer makes pictures: that is damage, not an erasure; look at them",
        )
    return found


def structure(pictures: Pixels) -> NDArray[np.float64]:
    """(N,) largest absolute correlation of a picture with itself moved down and right by 0 to 4 pixels, channels pooled.

    Noise that was smoothed has structure: it is left to the judges, who call it none of these. A constant picture has 1.
    """
    values = pictures.astype(np.float64)
    values -= values.mean(axis=(1, 2), keepdims=True)
    whole = (values**2).mean(axis=(1, 2, 3))
    found = np.where(whole > 0, 0.0, 1.0)
    height, width = values.shape[1:3]
    for down, right in np.ndindex(_MOVES + 1, _MOVES + 1):
        if (down, right) != (0, 0):
            product = values[:, down:, right:] * values[:, : height - down, : width - right]
            found = np.maximum(found, np.abs(product.mean(axis=(1, 2, 3))) / np.where(whole > 0, whole, 1))
    return found


def _nearest(pictures: Pixels) -> NDArray[np.float64]:
    """(N,) root mean square difference to the nearest other picture, in grey values; infinite for one alone."""
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    norms = (flat.astype(np.float64) ** 2).sum(axis=1)
    found = np.full(len(flat), np.inf)
    for start in range(0, len(flat), _ROWS):
        rows = slice(start, min(start + _ROWS, len(flat)))
        squares = norms[rows, None] + norms[None] - 2 * (flat[rows] @ flat.T).astype(np.float64)
        squares[np.arange(squares.shape[0]), np.arange(rows.start, rows.stop)] = np.inf
        found[rows] = squares.min(axis=1)
    return np.asarray(np.sqrt(np.maximum(found, 0) / flat.shape[1]))
