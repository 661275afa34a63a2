"""Erasing against an adversary: embeddings that bring the concept back are searched for, and erased with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from expunge.core.errors import InputError
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.conversion import noised_by, steps_of
from expunge.training.text_to_image.erasing import Erased, EraseJob
from expunge.training.text_to_image.inversion import Found, brought_back
from expunge.training.text_to_image.matching import Pairs, drawn, kept, matching
from expunge.training.text_to_image.sampler import TextToImage
from expunge.training.text_to_image.tuning import (
    ATTENTION,
    Loss,
    Tuned,
    Tuning,
    figures_of,
    noise_like,
    picked,
    summed,
    tuned,
)


class Robust:
    """First alternate: erase, and search the erased model for an embedding that brings the concept back (textual inversion in
    place of the name). Then erase the prompts and all embeddings found from the original at once, away from what is asked and
    towards the guide as an anchor: eps(0) + a (eps(guide) - eps(0)) - n (eps(asked) - eps(0)) (Srivatsan et al. 2025,
    STEREO, arXiv 2408.16807, its two stages; a search during erasing also in Receler, arXiv 2311.17717).

    Deviations: the search opens all tokens of the name and starts there; only the embedding asked for is subtracted, not all
    at once, and without adaptive projection; preserved prompts are held to the original's answers. Settings: rounds (2),
    searches (2, a round), search_steps (100), search_lr (.01), steps (200), lr (.001, for small models), batch (8),
    pictures (64), anchor (1), negative (.5), preserve_scale (1).

    EMPIRICAL at best: erased is what the search found, with its budget. Needs no pictures: it draws them. Cost: rounds + 1
    tunings and the searches. Fails on neighbours first: the strongest erasers keep the least beside the concept.
    """

    name = "robust"
    needs: frozenset[str] = frozenset()
    changes = ATTENTION

    def __init__(
        self,
        *,
        rounds: int = 2,
        searches: int = 2,
        search_steps: int = 100,
        search_lr: float = 0.01,
        steps: int = 200,
        lr: float = 1e-3,
        batch: int = 8,
        pictures: int = 64,
        anchor: float = 1.0,
        negative: float = 0.5,
        preserve_scale: float = 1.0,
    ) -> None:
        scales = (anchor, negative, preserve_scale)
        if not (1 <= rounds <= 100 and 1 <= searches <= 100 and all(0 <= scale <= 100 for scale in scales)):
            raise InputError("settings out of range", expected="rounds and searches 1..100, scales 0..100")
        self.tuning = Tuning(steps=steps, lr=lr, batch=batch)
        self.search = Tuning(steps=search_steps, lr=search_lr, batch=batch)
        self.rounds, self.searches, self.pictures = rounds, searches, pictures
        self.anchor, self.negative, self.preserve_scale = scales

    def erase(self, job: EraseJob) -> Erased:
        """Search and erase in turns, then erase once from the original."""
        concept = drawn(job.model, job.erase, self.pictures, derive_seed(job.seed, "concept"))
        run = _Run(job=job, method=self, concept=concept, keep=kept(job, self.pictures))
        student = job.model
        found: list[tuple[int, Found]] = []
        for number in range(self.rounds):
            student = run.erased(student, found, f"round {number}").model
            found += [run.searched(student, f"{number}/{again}") for again in range(self.searches)]
        done = run.erased(job.model, found, "once")
        figures = {
            **figures_of(job.model, done.model, done.losses),
            "embeddings_found": float(len(found)),
            "loss_of_the_best_found": min(item[1].final_loss for item in found),
        }
        return Erased(model=done.model, figures=figures)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    """A job with pictures (N, C, h, h) of the concept, as the original drew it, and with what is to stay."""

    job: EraseJob
    method: Robust
    concept: Tensor
    keep: Pairs

    def searched(self, student: TextToImage, label: str) -> tuple[int, Found]:
        """The number of a prompt, drawn by the seed, and an embedding that took its place."""
        job, seed = self.job, derive_seed(self.job.seed, "search", label)
        number = int(picked(seed, 0, 1, len(job.erase))[0])
        prompt = (job.erase[number], job.guide[number])
        return number, brought_back(student, prompt, self.concept, self.method.search, seed)

    def erased(self, student: TextToImage, found: list[tuple[int, Found]], label: str) -> Tuned:
        """Tune the student away from the prompts and from what was found."""
        job, method, seed = self.job, self.method, derive_seed(self.job.seed, "erase", label)
        terms = [(1.0, self._composed(found, seed))]
        if method.preserve_scale:
            keeping = matching(job.model, self.keep, derive_seed(seed, "kept"), method.tuning.batch)
            terms.append((method.preserve_scale, keeping))
        return tuned(student, summed(*terms), method.tuning, changes=method.changes, progress=job.progress)

    def _composed(self, found: list[tuple[int, Found]], seed: str) -> Loss:
        model, method = self.job.model, self.method
        guides = model.encode(self.job.guide)
        asked = torch.cat([model.encode(self.job.erase), *(item.words[None] for _, item in found)])
        anchors = torch.cat([guides, *(guides[number][None] for number, _ in found)])
        empty, batch = model.encode([""]), method.tuning.batch

        def loss(student: TextToImage, step: int) -> Tensor:
            rows, times, which = picked(seed, step, batch, len(self.concept), steps_of(model), len(asked))
            clean = self.concept[rows]
            noisy = noised_by(model, clean, noise_like(clean, seed, step), times)
            with torch.no_grad():
                words = torch.cat([empty.expand(batch, -1, -1), anchors[which], asked[which]])
                bare, led, told = model.predict(noisy.repeat(3, 1, 1, 1), times.repeat(3), words).chunk(3)
            wanted = bare + method.anchor * (led - bare) - method.negative * (told - bare)
            return F.mse_loss(student.predict(noisy, times, asked[which]), wanted)

        return loss
