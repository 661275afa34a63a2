"""Photos that are there without asking anybody: patches of the two pictures that ship with scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from expunge.data._styles_pixels import dice

SIDE = 32
SCALES = (1, 2, 3, 4)
"""A patch is 32 pixels of the picture shrunk by one of these."""


def sample_photos(objects: Sequence[str], each: int, key: str = "sample") -> Mapping[str, NDArray[np.uint8]]:
    """object -> (each, 32, 32, 3) patches of a temple and of a flower, drawn by key. They show none of the objects: an
    attacker's pictures need to be in a style, whatever is on them."""
    from sklearn.datasets import load_sample_images

    pictures = [np.asarray(picture, np.uint8) for picture in load_sample_images().images]
    shrunk = [[_shrunk(picture, scale) for scale in SCALES] for picture in pictures]
    return {name: np.stack([_patch(shrunk, f"{key}/{name}/{number}") for number in range(each)]) for name in objects}


def _shrunk(picture: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    high, wide = (length // scale for length in picture.shape[:2])
    boxes = picture[: high * scale, : wide * scale].reshape(high, scale, wide, scale, 3)
    found: NDArray[np.uint8] = boxes.mean(axis=(1, 3)).round().astype(np.uint8)
    return found


def _patch(shrunk: Sequence[Sequence[NDArray[np.uint8]]], key: str) -> NDArray[np.uint8]:
    which, scale, top, left = (int(value) for value in dice("patch", key, 4, 1 << 30))
    picture = shrunk[which % len(shrunk)][scale % len(SCALES)]
    row, column = top % (picture.shape[0] - SIDE + 1), left % (picture.shape[1] - SIDE + 1)
    found: NDArray[np.uint8] = picture[row : row + SIDE, column : column + SIDE]
    return found
