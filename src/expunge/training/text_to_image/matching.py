"""Losses of tuning: answer one prompt as a frozen model answers another, and denoise pictures as in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import InputError
from expunge.data._pictures import Pictures
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.conversion import asked_of, noised_by, steps_of
from expunge.training.text_to_image.erasing import EraseJob
from expunge.training.text_to_image.sampler import Sampling, TextToImage
from expunge.training.text_to_image.tuning import Loss, noise_like, picked, summed

_BARE = 10
"""One caption in so many is left out where a model is trained on pictures, as in its own training."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """N pictures `clean` (N, C, h, h); at each, noised, a student is asked with embeddings `asked` (N, L, d), and a frozen
    model answers to `answered` (N, L, d)."""

    clean: Tensor
    asked: Tensor
    answered: Tensor


def matching(teacher: TextToImage, pairs: Pairs, seed: str, batch: int) -> Loss:
    """Mean squared difference of the student's prediction to the teacher's, at fresh noise and steps each time."""

    def loss(student: TextToImage, step: int) -> Tensor:
        rows, times = picked(seed, step, batch, len(pairs.clean), steps_of(teacher))
        clean = pairs.clean[rows]
        noisy = noised_by(teacher, clean, noise_like(clean, seed, step), times)
        with torch.no_grad():
            wanted = teacher.predict(noisy, times, pairs.answered[rows])
        return F.mse_loss(student.predict(noisy, times, pairs.asked[rows]), wanted)

    return loss


def denoising(clean: Tensor, words: Tensor, bare: Tensor, seed: str, batch: int) -> Loss:
    """The loss of training on pictures (N, C, h, h) with embeddings (N, L, d); one in ten is asked with `bare` (L, d)."""

    def loss(student: TextToImage, step: int) -> Tensor:
        rows, times, left_out = picked(seed, step, batch, len(clean), steps_of(student), _BARE)
        asked = torch.where((left_out == 0)[:, None, None], bare, words[rows])
        noise = noise_like(clean[rows], seed, step)
        found = student.predict(noised_by(student, clean[rows], noise, times), times, asked)
        return F.mse_loss(found, asked_of(student, clean[rows], noise, times))

    return loss


def learned(model: TextToImage, pictures: Pictures, seed: str, batch: int) -> Loss:
    """`denoising` on captioned pictures."""
    words = model.encode(pictures.captions)
    return denoising(model.latents(pictures.images), words, model.encode([""])[0], seed, batch)


def drawn(model: TextToImage, prompts: Sequence[str], count: int, seed: str) -> Tensor:
    """(count, C, h, h) pictures that the model draws, prompts in turn, in 20 steps at guidance 3."""
    if not 1 <= count <= 100_000:
        raise InputError("number of pictures out of range", expected="1..100000", got=str(count))
    return model.latents(model.sample(turns(prompts, count), Sampling(seed=seed)))


def turns(prompts: Sequence[str], count: int) -> list[str]:
    """Prompts in turn, `count` of them."""
    return [prompts[number % len(prompts)] for number in range(count)]


def led_away(job: EraseJob, count: int) -> Pairs:
    """Pictures of the guides, at which the erased prompts are to be answered as the guides are."""
    model = job.model
    asked, answered = turns(job.erase, count), turns(job.guide, count)
    clean = drawn(model, job.guide, count, derive_seed(job.seed, "guide pictures"))
    return Pairs(clean=clean, asked=model.encode(asked), answered=model.encode(answered))


def kept(job: EraseJob, count: int) -> Pairs:
    """Pictures of the preserved prompts and of no prompt at all, to be answered as before.

    The bare prompt is kept because guidance subtracts it: if it moved, every prompt would.
    """
    model, prompts = job.model, (*job.preserve, "")
    clean = drawn(model, prompts, count, derive_seed(job.seed, "kept pictures"))
    words = model.encode(turns(prompts, count))
    return Pairs(clean=clean, asked=words, answered=words)


def leading(job: EraseJob, pictures: int, preserve_scale: float, batch: int) -> Loss:
    """Erased prompts answered as their guides, and what is to be kept as before, weighted by `preserve_scale` (0..1000)."""
    if not 0 <= preserve_scale <= 1000:
        raise InputError("preserve_scale out of range", expected="0..1000", got=str(preserve_scale))
    terms = [(1.0, matching(job.model, led_away(job, pictures), derive_seed(job.seed, "led away"), batch))]
    if preserve_scale:
        keeping = matching(job.model, kept(job, pictures), derive_seed(job.seed, "kept"), batch)
        terms.append((preserve_scale, keeping))
    return summed(*terms)
