"""Learning embeddings that make a frozen model draw given pictures: what textual inversion and soft prompts have in common.

All seeds are learned side by side in one batch, each from pictures and noise of its own, so a seed's result is what it
would have been alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.core.protocols import Progress
from expunge.training.rng import below, draws, normals
from expunge.training.text_to_image.conversion import asked_of, noised_by, steps_of
from expunge.training.text_to_image.probing import ProbeJob
from expunge.training.text_to_image.sampler import TextToImage

Conditioning = Callable[[Tensor, NDArray[np.int64]], Tensor]
"""Learned vectors (S, k, d) and the rows of works each run looks at (S, b), to embedded prompts (S b, rows, d)."""

_ASIDE = 2**31
"""A step that no learning gets to: what is drawn there compares, and teaches nothing."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """`steps` of Adam at `rate` on `batch` pictures a seed."""

    steps: int
    rate: float
    batch: int = 8


def learned(
    job: ProbeJob, start: Tensor, conditioning: Conditioning, budget: Budget
) -> tuple[Tensor, NDArray[np.float64]]:
    """Vectors (S, k, d) after the budget from `start`, and each seed's mean loss over the last tenth of the steps (S,)."""
    clean = job.model.latents(job.works.images)
    vectors = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([vectors], lr=budget.rate)
    steps = job.steps(budget.steps)
    last: list[Tensor] = []
    for step in range(steps):
        rows, times, noise = _drawn(job, step, budget.batch, clean)
        words = conditioning(vectors, rows)
        errors = denoising_errors(job.model, clean[rows.ravel()], noise, times, words).view(job.seeds, -1).mean(1)
        optimiser.zero_grad(set_to_none=True)
        errors.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step >= steps - max(1, steps // 10):
            last.append(errors.detach())
        _tell(job.progress, step + 1, steps)
    return vectors.detach(), torch.stack(last).mean(0).double().numpy()


def losses_of(job: ProbeJob, vectors: Tensor, conditioning: Conditioning, batch: int = 32) -> Tensor:
    """Each seed's mean loss (S,) with vectors (S, k, d), on `batch` pictures and noise that are the same at every call."""
    clean = job.model.latents(job.works.images)
    rows, times, noise = _drawn(job, _ASIDE, batch, clean)
    with torch.no_grad():
        words = conditioning(vectors, rows)
        return denoising_errors(job.model, clean[rows.ravel()], noise, times, words).view(job.seeds, -1).mean(1)


def denoising_errors(model: TextToImage, clean: Tensor, noise: Tensor, times: Tensor, words: Tensor) -> Tensor:
    """(B,) mean squared error of what the model predicts, be it noise, velocity or picture."""
    wanted = asked_of(model, clean, noise, times)
    found = model.predict(noised_by(model, clean, noise, times), times, words)
    errors: Tensor = (found - wanted).square().mean(dim=(1, 2, 3))
    return errors


def _drawn(job: ProbeJob, step: int, batch: int, clean: Tensor) -> tuple[NDArray[np.int64], Tensor, Tensor]:
    """Works (S, b), noise levels (S b,) and noise (S b, C, h, h), keyed by (attack seed, step)."""
    places = np.arange(batch, dtype=np.int64)
    rows, times, noises = [], [], []
    for seed in map(job.attack_seed, range(job.seeds)):
        draw = draws(seed, "learn", step, places)
        rows.append(below(draw[:, 0], len(clean)))
        times.append(below(draw[:, 1], steps_of(job.model)))
        noises.append(normals(seed, "learn-noise", step, places, clean[0].numel()))
    noise = torch.from_numpy(np.concatenate(noises).astype(np.float32)).view(-1, *clean.shape[1:])
    return np.stack(rows), torch.from_numpy(np.concatenate(times)), noise


def started(job: ProbeJob, count: int, width: int, like: Tensor) -> Tensor:
    """(S, count, width) keyed normal vectors with the mean and deviation of the rows `like` (m, width)."""
    rows = np.arange(count, dtype=np.int64)
    drawn = [normals(job.attack_seed(number), "start", 0, rows, width) for number in range(job.seeds)]
    return torch.from_numpy(np.stack(drawn).astype(np.float32)) * like.std(0) + like.mean(0)


def by_vectors(job: ProbeJob, vectors: Tensor, words: Callable[[Tensor, Sequence[str]], Tensor]) -> NDArray[np.uint8]:
    """(S, n, H, W, 3) pictures by each seed's vectors (k, d) for the objects that are asked for."""
    with torch.no_grad():
        runs = [
            job.model.sample(words(vectors[number], job.asked()), job.sampling(number)) for number in range(job.seeds)
        ]
    return np.stack(runs)


def _tell(progress: Progress, done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        progress("learn", done, total)
