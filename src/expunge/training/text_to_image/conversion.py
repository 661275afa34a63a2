"""A model's own noise schedule: x_t, and what its denoiser is asked for, be that noise, velocity or picture.

x_t = a_t x_0 + s_t e with a_t^2 + s_t^2 = 1, from the cumulative alphas of the model's scheduler. Where a_t = 0 (zero
terminal signal) a model that predicts noise says nothing about the picture; such schedules predict the velocity.
"""

from __future__ import annotations

from torch import Tensor

from expunge.training.text_to_image.sampler import TextToImage


def steps_of(model: TextToImage) -> int:
    """T, steps of the schedule."""
    return len(model.schedule.alphas_cumprod)


def levels_of(model: TextToImage, times: Tensor) -> tuple[Tensor, Tensor]:
    """a_t and s_t, each (B, 1, 1, 1), of steps (B,) in 0..T-1."""
    squared: Tensor = model.schedule.alphas_cumprod[times][:, None, None, None]
    return squared.sqrt(), (1 - squared).sqrt()


def noised_by(model: TextToImage, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """x_t (B, C, h, h)."""
    signal, spread = levels_of(model, times)
    return signal * clean + spread * noise


def asked_of(model: TextToImage, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """What `model.predict` should give at x_t, (B, C, h, h)."""
    if model.prediction == "epsilon":
        return noise
    if model.prediction == "sample":
        return clean
    signal, spread = levels_of(model, times)
    return signal * noise - spread * clean


def read_back(model: TextToImage, found: Tensor, noisy: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """The picture and the noise that a prediction `found` at x_t stands for, each (B, C, h, h)."""
    signal, spread = levels_of(model, times)
    if model.prediction == "epsilon":
        return (noisy - spread * found) / signal, found
    if model.prediction == "sample":
        return found, (noisy - signal * found) / spread
    return signal * noisy - spread * found, spread * noisy + signal * found
