"""Subtracted importance-sampled scores: unlearning single works with one noised picture for retained and forgotten.

Alberti et al. 2025 (SISS). One m_t is drawn from the mixture q_l = (1 - l) q(.|x) + l q(.|a) of a picture x of all data and
a work a to forget, and the loss is

    n/(n-k) q(m|x)/q_l(m) |e_x - e|^2 - (1 + s) k/(n-k) q(m|a)/q_l(m) |e_a - e|^2,

where e_x = (m - a_t x) / s_t is the noise that leads from x to m, and n pictures of which k are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.training.text_to_image.conversion import asked_of, levels_of, noised_by
from expunge.training.text_to_image.sampler import TextToImage


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """B pairs: pictures of all data `clean` and of the works `work`, each (B, C, h, h), steps (B,), noise (B, C, h, h), and
    `from_work` (B,) bool, which of the two was noised."""

    clean: Tensor
    work: Tensor
    times: Tensor
    noise: Tensor
    from_work: Tensor


def mixed(model: TextToImage, draw: Draw) -> Tensor:
    """m_t (B, C, h, h)."""
    start = torch.where(draw.from_work[:, None, None, None], draw.work, draw.clean)
    return noised_by(model, start, draw.noise, draw.times)


def weights_of(model: TextToImage, draw: Draw, mixture: float) -> tuple[Tensor, Tensor]:
    """q(m|x)/q_l(m) and q(m|a)/q_l(m), (B,) each, with l = `mixture`. Computed in logarithms: densities underflow."""
    signal, spread = levels_of(model, draw.times)
    noisy = mixed(model, draw)
    logs = [
        -((noisy - signal * start).double() / spread).square().sum(dim=(1, 2, 3)) / 2
        for start in (draw.clean, draw.work)
    ]
    shares = torch.tensor([1 - mixture, mixture], dtype=torch.float64).log()
    whole = torch.logaddexp(logs[0] + shares[0], logs[1] + shares[1])
    return (logs[0] - whole).exp().float(), (logs[1] - whole).exp().float()


def both_terms(student: TextToImage, draw: Draw, words: tuple[Tensor, Tensor], mixture: float) -> tuple[Tensor, Tensor]:
    """The weighted squared errors towards x and towards a, means over rows and numbers; without n, k and s.

    words: embeddings (B, L, d) of the captions of x and of a. The student answers at one m for each caption. Errors are of
    what the model predicts: for a velocity, |v_x - v|^2 = |e_x - e|^2 / a_t^2.
    """
    noisy, found = mixed(student, draw), []
    for start, weight, asked in zip((draw.clean, draw.work), weights_of(student, draw, mixture), words, strict=True):
        signal, spread = levels_of(student, draw.times)
        wanted = asked_of(student, start, (noisy - signal * start) / spread, draw.times)
        errors = (student.predict(noisy, draw.times, asked) - wanted).square().mean(dim=(1, 2, 3))
        found.append((weight * errors).mean())
    return found[0], found[1]
