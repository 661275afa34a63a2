"""What the procedural styles share. Sums are of whole numbers or of binary fractions that float64 holds exactly, and
no transcendental function is used, so that a picture does not depend on the processor.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

DOMAIN = b"expunge/style/v1"

Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Plane = NDArray[np.float64]
"""(H, W), most often grey values 0..255."""
Whole = NDArray[np.int64]
Colour = tuple[int, int, int]


def luminance(image: Image) -> Whole:
    """(H, W) grey values 0..255 with the weights of Rec. 601."""
    red, green, blue = np.moveaxis(image.astype(np.int64), -1, 0)
    grey: Whole = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return grey


def to_image(values: NDArray[np.float64]) -> Image:
    """Rounded and clipped to 0..255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def dice(style: str, key: str, count: int, sides: int) -> Whole:
    """(count,) numbers in 0..sides-1 that depend on the style and the picture's key only."""
    digest = hashlib.sha256(b"|".join([DOMAIN, style.encode(), key.encode()])).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "big")).random_raw(count)
    return (words % np.uint64(sides)).astype(np.int64)


def noise(style: str, key: str, shape: tuple[int, int]) -> Plane:
    """(H, W) uniform in -1..1, in steps of 1/512."""
    return (dice(style, key, shape[0] * shape[1], 1025).reshape(shape) - 512) / 512.0


def blur(plane: NDArray[np.generic], times: int = 1) -> Plane:
    """(H, W) smoothed `times` times by 1-4-6-4-1 along rows and columns."""
    out = np.asarray(plane, np.float64)
    for _ in range(times):
        for axis in (0, 1):
            out = ndimage.correlate1d(out, np.array([1, 4, 6, 4, 1]) / 16.0, axis=axis, mode="nearest")
    return out


def box(plane: NDArray[np.generic], size: int) -> Plane:
    """(H, W) sums over size x size windows; of integers they are exact."""
    out = np.asarray(plane, np.float64)
    for axis in (0, 1):
        out = ndimage.correlate1d(out, np.ones(size), axis=axis, mode="nearest")
    return out


def median(image: Image, size: int) -> Image:
    """(H, W, 3), each channel's median over size x size."""
    out: Image = ndimage.median_filter(image, size=(size, size, 1), mode="nearest")
    return out


def slopes(plane: NDArray[np.generic]) -> tuple[Plane, Plane]:
    """Sobel's horizontal and vertical differences of (H, W), in grey values a pixel."""
    values = np.asarray(plane, np.float64)
    across, down = (ndimage.sobel(values, axis=axis, mode="nearest") / 8.0 for axis in (1, 0))
    return across, down


def steepness(plane: NDArray[np.generic]) -> Plane:
    """(H, W) length of Sobel's gradient, in grey values a pixel."""
    across, down = slopes(plane)
    length: Plane = np.sqrt(across * across + down * down)
    return length


def stretch(plane: NDArray[np.generic]) -> Plane:
    """(H, W) whole numbers, the 5th percentile at 0 and the 95th at 255; a nearly flat picture is only rounded."""
    values = np.rint(np.asarray(plane, np.float64))
    order = np.sort(values, axis=None)
    low, high = order[len(order) // 20], order[len(order) - 1 - len(order) // 20]
    if high - low < 32:
        return values
    out: Plane = np.rint(np.clip((values - low) * 255.0 / (high - low), 0, 255))
    return out


def ramp(share: Plane, first: Colour, last: Colour) -> Image:
    """(H, W, 3) mixed: share 0 is the first colour, 1 the last."""
    start, end = np.array(first, np.float64), np.array(last, np.float64)
    return to_image(start + np.clip(share, 0, 1)[..., None] * (end - start))


def saturate(image: Image, factor: float) -> NDArray[np.float64]:
    """(H, W, 3) with the distance from grey multiplied, not clipped."""
    grey = luminance(image)[..., None]
    out: NDArray[np.float64] = grey + factor * (image - grey)
    return out


def places(shape: tuple[int, ...]) -> tuple[Whole, Whole]:
    """Row and column number of every pixel, (H, W) each."""
    rows, columns = np.indices(shape[:2])
    return rows.astype(np.int64), columns.astype(np.int64)


def cell_colours(image: Image, cells: Whole) -> NDArray[np.float64]:
    """(H, W, 3) with every pixel at the mean of its cell; cells (H, W) are numbers from 0."""
    flat = cells.ravel()
    sizes = np.maximum(np.bincount(flat), 1)
    means = [np.bincount(flat, weights=image[..., channel].ravel()) / sizes for channel in range(3)]
    return np.stack([mean[cells] for mean in means], axis=-1)
