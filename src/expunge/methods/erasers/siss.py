"""Subtracted importance-sampled scores: single works are unlearned, without any prompt to lead them to."""

from __future__ import annotations

import torch
from torch import Tensor

from expunge.core.errors import InputError
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.conversion import steps_of
from expunge.training.text_to_image.erasing import Erased, EraseJob, pictures_in
from expunge.training.text_to_image.sampler import TextToImage
from expunge.training.text_to_image.subtracted import Draw, both_terms
from expunge.training.text_to_image.tuning import Loss, Tuning, figures_of, noise_like, picked, tuned


class Siss:
    """Data unlearning by SISS (Alberti et al. 2025, "Data Unlearning in Diffusion Models", ICLR): the loss of the retained
    pictures as a difference of all and forgotten ones, with one noised picture for both, drawn from a mixture and weighted.

    s is set anew at every step, so that what it adds to the naive deletion (s = 0) has `share` of its gradient's norm; the
    official code holds the norm of the whole second term fixed. Deviations: the student answers once under each caption,
    because x and a have their own; errors are of what the model predicts, noise or velocity. Settings: steps (200),
    lr (.0001), batch (16), mixture (.5), share (.1).

    EMPIRICAL at best, and about works, not about a style: a style that other works share stays. Needs `works` and `retained`.
    Cost: two forward and six backward passes a step. Fails with many steps: what is unlearned has no end, and the pictures
    around it break.
    """

    name = "siss"
    needs = frozenset({"works", "retained"})
    changes = ""

    def __init__(
        self, *, steps: int = 200, lr: float = 1e-4, batch: int = 16, mixture: float = 0.5, share: float = 0.1
    ) -> None:
        if not (0 <= mixture <= 1 and 0 <= share <= 10):
            raise InputError("settings out of range", expected="mixture 0..1, share 0..10", got=f"{mixture}, {share}")
        self.tuning = Tuning(steps=steps, lr=lr, batch=batch)
        self.mixture, self.share = mixture, share

    def erase(self, job: EraseJob) -> Erased:
        """Tune all of a copy's denoiser."""
        loss = self._loss(job)
        done = tuned(job.model, loss, self.tuning, changes=self.changes, progress=job.progress)
        return Erased(model=done.model, figures=figures_of(job.model, done.model, done.losses))

    def _loss(self, job: EraseJob) -> Loss:
        model, works, retained = job.model, pictures_in(job, "works"), pictures_in(job, "retained")
        clean = model.latents(works.images), model.latents(retained.images)
        words = model.encode(works.captions), model.encode(retained.captions)
        everything, said = torch.cat(clean), torch.cat(words)
        forgotten, left, seed = len(works), len(retained), derive_seed(job.seed, "mixture")

        def loss(student: TextToImage, step: int) -> Tensor:
            limits = (left + forgotten, forgotten, steps_of(model), 1 << 24)
            rows, own, times, coin = picked(seed, step, self.tuning.batch, *limits)
            noise = noise_like(everything[rows], seed, step)
            from_work = coin < self.mixture * (1 << 24)
            draw = Draw(clean=everything[rows], work=clean[0][own], times=times, noise=noise, from_work=from_work)
            whole, part = both_terms(student, draw, (said[rows], words[0][own]), self.mixture)
            whole, part = whole * (left + forgotten) / left, part * forgotten / left
            return whole - (1 + self._excess(student, whole, part)) * part

        return loss

    def _excess(self, student: TextToImage, whole: Tensor, part: Tensor) -> float:
        """s, from the norms of two gradients."""
        weights = list(student.unet.parameters())
        naive = _norm(torch.autograd.grad(whole - part, weights, retain_graph=True, allow_unused=True))
        away = _norm(torch.autograd.grad(part, weights, retain_graph=True, allow_unused=True))
        return self.share * naive / away if away > 0 else 0.0


def _norm(gradients: tuple[Tensor | None, ...]) -> float:
    return float(torch.stack([piece.square().sum() for piece in gradients if piece is not None]).sum().sqrt())
