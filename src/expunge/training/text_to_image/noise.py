"""The noise schedule of the small model: cosine (Nichol and Dhariwal 2021), at zero signal-to-noise at its end.

x_t = a_t x_0 + s_t e with a_t^2 + s_t^2 = 1; the model predicts v = a_t e - s_t x_0 (Salimans and Ho 2022, appendix D),
which alone still says something at the last step, where x_t is noise and nothing else (Lin et al. 2024, arXiv 2305.08891).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor

from expunge.training.text_to_image.libraries import library

STEPS = 1000
SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": STEPS,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "clip_sample": True,
}
"""Settings of diffusers' DDIMScheduler, as they are written beside the weights."""


@cache
def _levels() -> Tensor:
    found: Tensor = library("diffusers").DDIMScheduler(**SCHEDULER).alphas_cumprod
    return found


def levels(times: Tensor) -> tuple[Tensor, Tensor]:
    """a_t and s_t, each (B, 1, 1, 1), of steps (B,) in 0..STEPS-1."""
    squared = _levels()[times][:, None, None, None]
    return squared.sqrt(), (1 - squared).sqrt()


def noised(clean: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """x_t and v, each (B, C, H, W)."""
    signal, spread = levels(times)
    return signal * clean + spread * noise, signal * noise - spread * clean
