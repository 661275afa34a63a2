"""Styles that are a change of colour: gradient maps, flat inks, light along edges, shifted channels."""

from __future__ import annotations

import numpy as np

from expunge.data._styles_pixels import (
    Image,
    Plane,
    blur,
    dice,
    luminance,
    places,
    ramp,
    slopes,
    stretch,
    to_image,
)

INKS = ((216, 10, 112), (10, 140, 190), (80, 214, 84), (255, 222, 30))
HEAT = ((0, 0, 16), (70, 0, 140), (210, 20, 90), (255, 130, 0), (255, 236, 80), (255, 255, 235))


def photo(image: Image, key: str) -> Image:
    """The picture itself, as a copy."""
    return image.copy()


def duotone(image: Image, key: str) -> Image:
    """Navy shadows, orange lights."""
    return ramp(stretch(luminance(image)) / 255.0, (26, 14, 96), (255, 168, 60))


def cyanotype(image: Image, key: str) -> Image:
    """Prussian blue shadows, pale blue lights."""
    return ramp(stretch(luminance(image)) / 255.0, (14, 40, 104), (214, 232, 240))


def thermal(image: Image, key: str) -> Image:
    """A heat camera's colours, black over violet, red and orange to white, of the smoothed luminance."""
    grey = stretch(blur(luminance(image)))
    heat, first = np.array(HEAT, np.int64), np.minimum(grey.astype(np.int64) // 51, len(HEAT) - 2)
    part = (grey - 51 * first)[..., None]
    return to_image((heat[first] * (51 - part) + heat[first + 1] * part) / 51.0)


def pop_art(image: Image, key: str) -> Image:
    """Four flat inks, one for each quarter of the luminance."""
    grey = blur(luminance(image))
    order = np.sort(grey, axis=None)
    steps = [order[len(order) * quarter // 4] for quarter in (1, 2, 3)]
    out: Image = np.array(INKS, np.uint8)[sum((grey > step).astype(np.int64) for step in steps)]
    return out


def neon(image: Image, key: str) -> Image:
    """Edges glow on black; the hue is the direction of the edge."""
    across, down = slopes(blur(luminance(image)))
    length = np.sqrt(across * across + down * down)
    glow = np.clip(length / max(12.0, float(length.max())) * 1.6, 0, 1)
    return to_image(255.0 * _hues(across, down) * np.maximum(glow - 0.12, 0)[..., None] / 0.88)


def _hues(across: Plane, down: Plane) -> Plane:
    """(H, W, 3) pure colours 0..1 round the wheel; the angle is the diamond angle, which needs no arctangent."""
    share = down / np.maximum(np.abs(across) + np.abs(down), 1e-9)
    turn = 1.5 * np.where(across < 0, 2 - share, share % 4)
    distance = [np.abs((turn - centre + 3) % 6 - 3) for centre in (0, 2, 4)]
    return np.stack([np.clip(2 - part, 0, 1) for part in distance], axis=-1)


def glitch(image: Image, key: str) -> Image:
    """Red and blue slip apart by 6 pixels, some bands jump sideways, every second row is dark."""
    out = image.astype(np.float64)
    out[..., 0], out[..., 2] = np.roll(out[..., 0], 3, axis=1), np.roll(out[..., 2], -3, axis=1)
    bands = dice("glitch", key, 2 * (len(out) // 5 + 1), 9).reshape(2, -1)
    for number, (jump, lot) in enumerate(bands.T):
        if lot < 3:
            out[5 * number : 5 * number + 5] = np.roll(out[5 * number : 5 * number + 5], jump - 4, axis=1)
    out = out * 1.1 + 12
    out[places(image.shape)[0] % 2 == 1] *= 0.55
    return to_image(out)
