"""Styles of the press and the pencil: screens, lines, blocks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from expunge.data._styles_pixels import (
    Image,
    Plane,
    Whole,
    blur,
    dice,
    luminance,
    median,
    noise,
    places,
    ramp,
    steepness,
    stretch,
    to_image,
)

BLOCKS = ((32, 48, 92), (92, 134, 152), (198, 92, 58), (142, 154, 104), (232, 214, 174))


def halftone(image: Image, key: str) -> Image:
    """Black dots on cream, on a 45-degree screen of 4.2 pixels; their size is the darkness."""
    light = stretch(luminance(image)) / 255.0
    return ramp(0.5 + 3.0 * (light - 1.0 + _reach(*places(image.shape))), (22, 20, 40), (246, 236, 212))


def _reach(rows: Whole, columns: Whole) -> Plane:
    """Distance 0..1 to the nearest dot; the dots lie at (0, 0) and (3, 3) modulo 6."""
    squares = [((rows - at + 3) % 6 - 3) ** 2 + ((columns - at + 3) % 6 - 3) ** 2 for at in (0, 3)]
    distance: Plane = np.sqrt(np.minimum(*squares)) / 3.0
    return distance


def engraving(image: Image, key: str) -> Image:
    """Green-black horizontal lines every 3 pixels on white; their width is the darkness."""
    dark = 3.0 * (1.0 - stretch(luminance(image)) / 255.0)
    middle = places(image.shape)[0] % 3 == 1
    ink = np.where(middle, 0.35 + dark, (dark - 1.0) / 1.4)
    return ramp(1.0 - ink, (42, 64, 54), (244, 240, 224))


def woodcut(image: Image, key: str) -> Image:
    """Sepia block print: flat shadows, bare lights, diagonal cuts of 5 pixels in between."""
    grey = stretch(blur(luminance(image)))
    rows, columns = places(image.shape)
    start = int(dice("woodcut", key, 1, 5)[0])
    cut = (rows + 2 * columns + start) % 5 < 2
    bare = (grey > 205) | ((grey > 70) & cut)
    return ramp(bare.astype(np.float64), (88, 48, 32), (236, 218, 180))


def sketch(image: Image, key: str) -> Image:
    """Graphite on white paper: only what is darker than its surroundings leaves a mark."""
    grey = stretch(luminance(image))
    paper = np.clip(255.0 * (grey + 8) / (blur(grey, 3) + 8), 0, 255)
    lines = 255 - np.clip(2.2 * (255 - paper) + 2.0 * np.maximum(steepness(grey) - 14, 0), 0, 215)
    grain = 4.0 * noise("sketch", key, grey.shape)
    return to_image((lines + grain)[..., None] + np.zeros(3))


def ukiyo_e(image: Image, key: str) -> Image:
    """Five flat woodblock colours, the nearest to the median picture, with dark outlines."""
    smooth = median(image, 5)
    tone = stretch(luminance(smooth))
    scaled = np.clip(smooth.astype(np.float64) + (tone - luminance(smooth))[..., None], 0, 255)
    gaps = ((scaled[:, :, None, :] - np.array(BLOCKS, np.float64)) ** 2).sum(axis=-1)
    block = gaps.argmin(axis=-1)
    block = ndimage.median_filter(block, size=3, mode="nearest")
    outline = ndimage.maximum_filter(block, size=2) != ndimage.minimum_filter(block, size=2)
    out: Image = np.array(BLOCKS, np.uint8)[block]
    out[outline] = (34, 26, 26)
    return out
