"""Pictures to latents and back: the autoencoder of a model that does not draw pixels.

Latents are scaled to unit variance by `scaling_factor`; where the settings have a mean and a deviation a channel, by these too
(`latents_mean`, `latents_std`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def pixels_a_side(vae: Any) -> int:
    """Pixels a side of one latent: each level but the last halves."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def to_latents(vae: Any, images: NDArray[np.uint8]) -> Tensor:
    """(N, C, h, h) of pictures (N, S, S, 3): the mode of what the encoder says."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    mean, deviation = _moments(vae)
    found: Tensor = (vae.encode(pixels).latent_dist.mode() - mean) / deviation * vae.config.scaling_factor
    return found


def to_pictures(vae: Any, latents: Tensor) -> NDArray[np.uint8]:
    """(N, S, S, 3) of latents (N, C, h, h), clipped."""
    mean, deviation = _moments(vae)
    pixels = vae.decode(latents / vae.config.scaling_factor * deviation + mean).sample
    found: NDArray[np.uint8] = pixels.clamp(-1, 1).add(1).mul(127.5).round().permute(0, 2, 3, 1).to(torch.uint8).numpy()
    return found


def _moments(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels, (1, C, 1, 1) each; 0 and 1 unless the settings have both."""
    mean, deviation = vae.config.get("latents_mean"), vae.config.get("latents_std")
    if mean is None or deviation is None:
        return torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    return torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(deviation).view(1, -1, 1, 1)
