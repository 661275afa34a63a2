"""Smooth random pictures: like photographs in what a perceptual hash sees, and no two alike."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter


def pictures(count: int, side: int = 32, channels: int = 3, seed: int = 0) -> np.ndarray:
    """(count, side, side, channels) uint8."""
    rng = np.random.default_rng(seed)
    coarse = gaussian_filter(rng.standard_normal((count, side, side, channels)), (0, side / 12, side / 12, 0))
    fine = gaussian_filter(rng.standard_normal((count, side, side, channels)), (0, 1, 1, 0))
    field = coarse / coarse.std() + 0.3 * fine / fine.std()
    return np.clip(128 + 50 * field, 0, 255).astype(np.uint8)
