"""Planted twins: what becomes of a picture that is saved again, cut, moved, mirrored or brightened. Made with Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


def _picture(image: Images) -> Any:
    from PIL import Image

    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def _pixels(picture: Any, like: Images) -> Images:
    return np.array(picture, np.uint8).reshape(like.shape)  # a copy: Pillow lends its memory read-only


def reencoded(image: Images, rng: np.random.Generator) -> Images:
    """Saved as JPEG with a quality of 50 to 95."""
    from PIL import Image

    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=int(rng.integers(50, 96)))
    with Image.open(file) as again:
        return _pixels(again, image)


def shifted(image: Images, rng: np.random.Generator) -> Images:
    """Moved by 1 or 2 thirty-seconds of its sides in either direction (1 or 2 pixels of 32); the edge is repeated."""
    height, width = image.shape[:2]
    down, right = (int(rng.integers(1, 3)) * int(rng.choice((-1, 1))) / 32 for _ in range(2))
    margin = max(1, -(-max(height, width) // 16))
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    left, top = margin + right * width, margin + down * height
    return _resampled(padded, (left, top, left + width, top + height), image)


def cropped(image: Images, rng: np.random.Generator) -> Images:
    """A window of 90 % of either side at any place, enlarged to the old size."""
    height, width = image.shape[:2]
    top, left = rng.uniform(0, 0.1, 2) * (height, width)
    return _resampled(image, (left, top, left + 0.9 * width, top + 0.9 * height), image)


def mirrored(image: Images, rng: np.random.Generator) -> Images:
    """Left and right exchanged, and saved again as JPEG with a quality of 90."""
    from PIL import Image

    file = io.BytesIO()
    _picture(np.ascontiguousarray(image[:, ::-1])).save(file, "JPEG", quality=90)
    with Image.open(file) as again:
        return _pixels(again, image)


def brightened(image: Images, rng: np.random.Generator) -> Images:
    """Times a factor between .8 and 1.2, cut off at white."""
    return np.asarray(np.clip(np.rint(image * rng.uniform(0.8, 1.2)), 0, 255), np.uint8)


def _resampled(image: Images, box: tuple[float, float, float, float], like: Images) -> Images:
    from PIL import Image

    size = (like.shape[1], like.shape[0])
    return _pixels(_picture(image).resize(size, Image.Resampling.BICUBIC, box=tuple(map(float, box))), like)


TWINS: Mapping[str, Callable[[Images, np.random.Generator], Images]] = {
    "reencoded": reencoded,
    "shifted": shifted,
    "cropped": cropped,
    "mirrored": mirrored,
    "brightened": brightened,
}
