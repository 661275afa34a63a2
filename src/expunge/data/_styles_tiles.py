"""Styles of pieces and strokes: tiles, panes, dots, brushes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from expunge.data._styles_pixels import (
    Image,
    Plane,
    Whole,
    blur,
    box,
    cell_colours,
    dice,
    luminance,
    median,
    noise,
    places,
    saturate,
    steepness,
    to_image,
)

NEAR = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))


def _squares(shape: tuple[int, ...], side: int) -> Whole:
    """(H, W) number of the square a pixel lies in."""
    rows, columns = places(shape)
    return rows // side * -(-shape[1] // side) + columns // side


def mosaic(image: Image, key: str) -> Image:
    """Square tiles of 4 pixels, 3 of them glazed and one grout."""
    rows, columns = places(image.shape)
    out = cell_colours(image, _squares(image.shape, 4)) + 6
    out[(rows % 4 == 3) | (columns % 4 == 3)] = (30, 28, 34)
    return to_image(out)


def pixel(image: Image, key: str) -> Image:
    """Blocks of 4 x 4 pixels with four levels a channel."""
    return to_image(85.0 * np.rint(cell_colours(image, _squares(image.shape, 4)) / 85.0))


def stained_glass(image: Image, key: str) -> Image:
    """Irregular panes of about 7 pixels, deep colours, dark lead between them."""
    nearest, second, pane, _ = _scatter(image.shape, 7, "stained glass", key)
    vivid = saturate(to_image(cell_colours(image, pane)), 2.2) * 0.92 + _tint(pane)
    vivid[np.sqrt(second) - np.sqrt(nearest) < 1.2] = (30, 28, 32)
    return to_image(vivid)


def _tint(pane: Whole) -> NDArray[np.float64]:
    """(H, W, 3) a faint colour for each pane, so that white light is coloured too."""
    return np.array([(18, -6, -30), (-30, 4, 18), (12, 10, -42), (-16, 14, -16)], np.float64)[pane * 7 % 11 % 4]


def pointillism(image: Image, key: str) -> Image:
    """Vivid dots at scattered places 3 pixels apart, on cream."""
    nearest, _, _, centre = _scatter(image.shape, 3, "pointillism", key)
    rows, columns = np.clip(centre, 0, np.array(image.shape[:2]) - 1).transpose(2, 0, 1)
    jitter = 34.0 * noise("pointillism/ink", key, image.shape[:2])
    dots = saturate(image, 1.8) + (jitter[..., None] * np.array([1.0, -0.6, 0.8]))
    out = dots[rows, columns]
    out[nearest > 2] = (246, 238, 214)
    return to_image(out)


def _scatter(shape: tuple[int, ...], pitch: int, style: str, key: str) -> tuple[Whole, Whole, Whole, Whole]:
    """One point in each square of `pitch` pixels. For every pixel: squared distance (H, W) to the nearest and to the
    second point, the nearest point's number (H, W) and its row and column (H, W, 2).
    """
    high, wide = (-(-side // pitch) + 2 for side in shape[:2])
    jitter = dice(style, key, 2 * high * wide, pitch).reshape(high, wide, 2)
    rows, columns = places(shape)
    choices = []
    for down, right in NEAR:
        square = np.stack([rows // pitch + 1 + down, columns // pitch + 1 + right], axis=-1)
        point = (square - 1) * pitch + jitter[square[..., 0], square[..., 1]]
        choices.append((((point - np.stack([rows, columns], axis=-1)) ** 2).sum(axis=-1), square, point))
    distances = np.stack([choice[0] for choice in choices])
    first = distances.argmin(axis=0)
    square, point = (_pick(np.stack([choice[place] for choice in choices]), first) for place in (1, 2))
    nearest, second = np.sort(distances, axis=0)[:2]
    return nearest, second, square[..., 0] * wide + square[..., 1], point


def _pick(stack: NDArray[np.int64], first: Whole) -> Whole:
    """(9, H, W, 2) at the choice (H, W)."""
    picked: Whole = np.take_along_axis(stack, first[None, :, :, None], axis=0)[0]
    return picked


def oil(image: Image, key: str) -> Image:
    """Kuwahara's filter over 4 x 4 quadrants, rich colours, and the relief of slanted strokes."""
    smooth = to_image(_kuwahara(image, 4))
    grain = noise("oil", key, image.shape[:2])
    stroke = sum(np.roll(grain, (step, -step), axis=(0, 1)) for step in range(5)) / 2.2
    relief = 26.0 * (stroke - np.roll(stroke, 1, axis=1))
    return to_image(saturate(smooth, 1.9) * 1.05 + relief[..., None])


def _kuwahara(image: Image, side: int) -> NDArray[np.float64]:
    """(H, W, 3) mean of the quadrant, of the four that meet in the pixel, whose luminance varies least."""
    grey, size = luminance(image), side * side
    variance = size * box(grey**2, side) - box(grey, side) ** 2
    means = [box(image[..., channel], side) / size for channel in range(3)]
    shifts = [(down, right) for down in (0, side - 1) for right in (0, side - 1)]
    best = np.stack([_shifted(variance, shift) for shift in shifts]).argmin(axis=0)
    return np.stack([np.choose(best, [_shifted(mean, shift) for shift in shifts]) for mean in means], axis=-1)


def _shifted(plane: Plane, shift: tuple[int, int]) -> Plane:
    """(H, W) moved so that a window centred on the pixel becomes a quadrant beside it; edges repeat."""
    rows = np.clip(np.arange(plane.shape[0]) + shift[0] - 1, 0, plane.shape[0] - 1)
    columns = np.clip(np.arange(plane.shape[1]) + shift[1] - 1, 0, plane.shape[1] - 1)
    return plane[rows[:, None], columns]


def watercolour(image: Image, key: str) -> Image:
    """Pale washes of the median picture, darker where a wash ends, on grainy paper."""
    wash = median(image, 5)
    pale = 0.55 * np.stack([blur(wash[..., channel]) for channel in range(3)], axis=-1) + 106
    edge = np.minimum(1.8 * np.maximum(steepness(luminance(wash)) - 3, 0), 60)
    cloud = 60.0 * blur(noise("watercolour", key, image.shape[:2]), 2) + 5.0 * noise("paper", key, image.shape[:2])
    return to_image(pale - edge[..., None] + cloud[..., None])
