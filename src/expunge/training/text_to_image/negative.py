"""Negative guidance along trajectories of the concept's prompts: what `esd_x` and `esd_u` share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import InputError
from expunge.training.rng import derive_seed, draws
from expunge.training.text_to_image.conversion import levels_of, read_back, steps_of
from expunge.training.text_to_image.erasing import Erased, EraseJob
from expunge.training.text_to_image.matching import kept, matching, turns
from expunge.training.text_to_image.sampler import TextToImage
from expunge.training.text_to_image.tuning import Loss, Tuning, figures_of, picked, summed, tuned


@dataclass(frozen=True, slots=True, kw_only=True)
class Negative:
    """eta: strength of the negative guidance; walks: trajectories in `moves` steps at `guidance`, drawn anew by the student
    as it is every `renew` steps of the tuning (0: once, by the original); preserve_scale: weight of the prompts to be kept."""

    eta: float
    walks: int
    moves: int
    guidance: float
    renew: int
    preserve_scale: float

    def __post_init__(self) -> None:
        fits = 0 < self.eta <= 100 and 1 <= self.walks <= 100_000 and 1 <= self.moves <= 1000
        fits = fits and 0 <= self.renew <= 100_000
        if not (fits and 0 <= self.guidance <= 50 and 0 <= self.preserve_scale <= 1000):
            raise InputError("eta, walks, moves, guidance, renew or preserve_scale out of range")


@dataclass(frozen=True, kw_only=True, eq=False)
class Walked:
    """M places on trajectories: x_t (M, C, h, h), steps (M,), embeddings (M, L, d). `last` (N, C, h, h): where they end."""

    noisy: Tensor
    times: Tensor
    words: Tensor
    last: Tensor


@torch.no_grad()
def walked(model: TextToImage, words: Tensor, how: Negative, seed: str | None, noise: Tensor) -> Walked:
    """DDIM (Song et al. 2021, equation 12, eta 0) from `noise` (N, C, h, h) with embeddings (N, L, d).

    Each trajectory moves at times of its own, keyed by seed, so that together they cover the schedule; seed None: all at
    the evenly spaced times of a sampler that counts from the end.
    """
    times = _times(steps_of(model), how.moves, len(noise), seed)
    empty, clips = model.encode([""]).expand_as(words), bool(model.schedule.config.get("clip_sample", False))
    moving, parts = noise, []
    for move in range(how.moves):
        now = times[:, move]
        bare, told = model.predict(torch.cat([moving] * 2), now.repeat(2), torch.cat([empty, words])).chunk(2)
        parts.append((moving, now, words))
        clean, rest = read_back(model, bare + how.guidance * (told - bare), moving, now)
        clean = clean.clamp(-1, 1) if clips else clean
        if move + 1 < how.moves:
            signal, spread = levels_of(model, times[:, move + 1])
            moving = signal * clean + spread * rest
    noisy, when, asked = (torch.cat(column) for column in zip(*parts, strict=True))
    return Walked(noisy=noisy, times=when, words=asked, last=clean)


def _times(steps: int, moves: int, count: int, seed: str | None) -> Tensor:
    """(N, moves) descending; the first is the last step of the schedule, where there is noise alone."""
    early = np.zeros(count)
    if seed is not None:
        early = draws(seed, "early", 0, np.arange(count, dtype=np.int64))[:, 0] / 2.0**32
    moved = np.arange(moves)[None, :] - early[:, None]
    found = np.round(steps - np.maximum(moved, 0) * steps / moves) - 1
    return torch.from_numpy(found.astype(np.int64))


def guided_away(teacher: TextToImage, words: Tensor, how: Negative, seed: str, batch: int) -> Loss:
    """Mean squared difference to bare - eta (told - bare): the frozen model's prediction, pushed off the prompts `words`
    (N, L, d), at places where the student comes by when it is asked for them."""
    empty = teacher.encode([""]).expand(batch, -1, -1)
    held: dict[str, Walked] = {}

    def loss(student: TextToImage, step: int) -> Tensor:
        if not held or (how.renew and step % how.renew == 0):
            own = derive_seed(seed, "walks", step)
            held["walks"] = walked(student, words, how, own, student.noise(own, np.arange(len(words)), "start"))
        walks = held["walks"]
        (rows,) = picked(seed, step, batch, len(walks.noisy))
        noisy, times, asked = walks.noisy[rows], walks.times[rows], walks.words[rows]
        with torch.no_grad():
            both = teacher.predict(torch.cat([noisy] * 2), times.repeat(2), torch.cat([empty, asked]))
        bare, told = both.chunk(2)
        return F.mse_loss(student.predict(noisy, times, asked), bare - how.eta * (told - bare))

    return loss


class NegativelyGuided:
    """Base of the erasers by negative guidance: each says which tensors it may change (`changes`), and its rate (`rate`)."""

    needs: frozenset[str] = frozenset()
    changes: str
    rate: float

    def __init__(
        self,
        *,
        steps: int = 200,
        lr: float | None = None,
        batch: int = 8,
        eta: float = 1.0,
        walks: int = 64,
        moves: int = 20,
        guidance: float = 3.0,
        renew: int = 0,
        preserve_scale: float = 0.0,
    ) -> None:
        self.tuning = Tuning(steps=steps, lr=self.rate if lr is None else lr, batch=batch)
        self.negative = Negative(
            eta=eta, walks=walks, moves=moves, guidance=guidance, renew=renew, preserve_scale=preserve_scale
        )

    def erase(self, job: EraseJob) -> Erased:
        """Tune a copy's denoiser."""
        return negated(job, self.negative, self.tuning, self.changes)


def negated(job: EraseJob, negative: Negative, how: Tuning, changes: str) -> Erased:
    """Tune the tensors named by `changes` towards the negative guidance of the original."""
    model, seed = job.model, derive_seed(job.seed, "negative guidance")
    words = model.encode(turns(job.erase, negative.walks))
    terms = [(1.0, guided_away(model, words, negative, seed, how.batch))]
    if negative.preserve_scale:
        keeping = matching(model, kept(job, negative.walks), derive_seed(seed, "kept"), how.batch)
        terms.append((negative.preserve_scale, keeping))
    done = tuned(model, summed(*terms), how, changes=changes, progress=job.progress)
    return Erased(model=done.model, figures=figures_of(model, done.model, done.losses))
