"""Tuning a copy of a denoiser: one small loop, whose every draw is keyed by (seed, step, row). The model given stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import Progress, silent
from expunge.training.rng import below, draws, normals
from expunge.training.text_to_image.erasing import copy_of, finished
from expunge.training.text_to_image.sampler import TextToImage

Loss = Callable[[TextToImage, int], Tensor]
"""The student and the step to one number, a mean over the rows of the step."""
ATTENTION = r"(?:^|\.)attn2\."
"""Names of the cross-attention's tensors, where the text enters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """`steps` of Adam (Kingma and Ba 2015; no weight decay) at `lr`, each on `batch` rows a term of the loss."""

    steps: int
    lr: float
    batch: int = 8

    def __post_init__(self) -> None:
        if not (1 <= self.steps <= 100_000 and 0 < self.lr <= 1 and 1 <= self.batch <= 4096):
            got = f"{self.steps}, {self.lr}, {self.batch}"
            raise InputError("tuning out of range", expected="steps 1..100000, lr 0..1, batch 1..4096", got=got)


@dataclass(frozen=True, kw_only=True, eq=False)
class Tuned:
    """The student, and its loss at every step."""

    model: TextToImage
    losses: tuple[float, ...]


def tuned(
    model: TextToImage,
    loss: Loss,
    how: Tuning,
    *,
    changes: str,
    masks: Mapping[str, Tensor] | None = None,
    progress: Progress = silent,
) -> Tuned:
    """A copy of the model whose denoiser's tensors named by the regular expression `changes` were tuned.

    masks: name -> 0 where a tensor's weights stay, to the last bit. Raises InputError where nothing is named,
    IntegrityError where loss or weights leave the numbers.
    """
    unet = copy_of(model)
    free = _freed(unet, changes)
    student = model.with_unet(unet.eval())
    optimiser = torch.optim.Adam(free.values(), lr=how.lr, foreach=False)
    losses = []
    for step in range(how.steps):
        optimiser.zero_grad(set_to_none=True)
        value = loss(student, step)
        value.backward()  # type: ignore[no-untyped-call]
        _mask(free, masks or {})
        optimiser.step()
        losses.append(_number(value))
        progress("steps", step + 1, how.steps)
    return Tuned(model=finished(model, unet), losses=tuple(losses))


def _freed(unet: Any, changes: str) -> dict[str, torch.nn.Parameter]:
    free = {name: weight for name, weight in unet.named_parameters() if re.search(changes, name)}
    if not free:
        raise InputError("the model holds nothing to tune", expected=f"names like {changes}", code="no-cross-attention")
    for name, weight in unet.named_parameters():
        weight.requires_grad_(name in free)
    return free


def _mask(free: Mapping[str, torch.nn.Parameter], masks: Mapping[str, Tensor]) -> None:
    for name, mask in masks.items():
        gradient = free[name].grad
        if gradient is not None:
            gradient.mul_(mask)  # Adam leaves a weight alone whose gradients were all exactly 0


def _number(value: Tensor) -> float:
    number = float(value.detach())
    if not np.isfinite(number):
        raise IntegrityError("the tuning diverged: its loss is not finite", hint="a smaller lr")
    return number


def picked(seed: str, step: int, batch: int, *limits: int) -> tuple[Tensor, ...]:
    """For each of up to four limits, (batch,) numbers 0..limit-1, uniform, keyed by (seed, step, row)."""
    draw = draws(seed, "pick", step, np.arange(batch, dtype=np.int64))
    return tuple(torch.from_numpy(below(draw[:, column], limit)) for column, limit in enumerate(limits))


def noise_like(clean: Tensor, seed: str, step: int) -> Tensor:
    """Standard normal noise in the shape of (B, C, h, h), keyed by (seed, step, row)."""
    rows = np.arange(len(clean), dtype=np.int64)
    flat = normals(seed, "noise", step, rows, clean[0].numel()).astype(np.float32)
    return torch.from_numpy(flat).view_as(clean)


def summed(*terms: tuple[float, Loss]) -> Loss:
    """The weighted sum of losses."""

    def loss(student: TextToImage, step: int) -> Tensor:
        return torch.stack([scale * term(student, step) for scale, term in terms]).sum()

    return loss


def figures_of(before: TextToImage, after: TextToImage, losses: Sequence[float]) -> dict[str, float]:
    """What a tuning says of itself: losses as means over the first and last tenth, and how far the weights went."""
    part = max(1, len(losses) // 10)
    old, new = before.unet.state_dict(), after.unet.state_dict()
    gone = [(new[name].double() - old[name].double()).square().sum() for name in old]
    size = [old[name].double().square().sum() for name in old]
    return {
        "steps": float(len(losses)),
        "first_loss": float(np.mean(losses[:part])),
        "final_loss": float(np.mean(losses[-part:])),
        "distance_of_the_weights": float(torch.stack(gone).sum().sqrt()),
        "distance_as_a_share": float((torch.stack(gone).sum() / torch.stack(size).sum()).sqrt()),
        "tensors_changed": float(sum(float(far) > 0 for far in gone)),
    }
