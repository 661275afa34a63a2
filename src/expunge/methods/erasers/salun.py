"""Saliency unlearning: the works' captions are relabelled, and only the weights that the works depend on move."""

from __future__ import annotations

from expunge.core.errors import InputError
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.erasing import Erased, EraseJob, pictures_in
from expunge.training.text_to_image.matching import Pairs, learned, matching, turns
from expunge.training.text_to_image.saliency import salient
from expunge.training.text_to_image.tuning import Loss, Tuning, figures_of, summed, tuned


class SalUn:
    """Tunes the weights with the largest gradients of the works' loss (Fan et al. 2024, arXiv 2310.12508, its saliency
    map), until the works, noised, are answered under an erased prompt as under its guide, and the
    retained pictures as in training.

    Deviations: the guide takes the place of a random other label, and the answer under it is the original's. All other
    weights stay, bit for bit. Settings: steps (200), lr (.001, for small models), batch (8), share of the weights (.5),
    saliency_steps (16, draws of the gradient), retain_scale (1).

    EMPIRICAL at best. Needs `works` and `retained`. Cost: three forward passes and two backward a step.
    Fails where the concept is drawn by weights that everything depends on, and on prompts that are not listed.
    """

    name = "salun"
    needs = frozenset({"works", "retained"})
    changes = ""

    def __init__(
        self,
        *,
        steps: int = 200,
        lr: float = 1e-3,
        batch: int = 8,
        share: float = 0.5,
        saliency_steps: int = 16,
        retain_scale: float = 1.0,
    ) -> None:
        if not (0 < share <= 1 and 1 <= saliency_steps <= 10_000 and 0 < retain_scale <= 1000):
            raise InputError("settings out of range", expected="share 0..1, saliency_steps >= 1, retain_scale 0..1000")
        self.tuning = Tuning(steps=steps, lr=lr, batch=batch)
        self.share, self.saliency_steps, self.retain_scale = share, saliency_steps, retain_scale

    def erase(self, job: EraseJob) -> Erased:
        """Find the mask on the original, then tune a copy under it."""
        model, works = job.model, pictures_in(job, "works")
        retained = learned(model, pictures_in(job, "retained"), derive_seed(job.seed, "retained"), self.tuning.batch)
        forgotten = learned(model, works, derive_seed(job.seed, "saliency"), self.tuning.batch)
        masks = salient(model, forgotten, self.share, self.saliency_steps)
        loss = summed((1.0, self._relabelled(job)), (self.retain_scale, retained))
        done = tuned(model, loss, self.tuning, changes=self.changes, masks=masks, progress=job.progress)
        chosen = sum(float(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
        figures = figures_of(model, done.model, done.losses)
        return Erased(model=done.model, figures={**figures, "share_of_salient_weights": chosen})

    def _relabelled(self, job: EraseJob) -> Loss:
        """Every work under every erased prompt, answered as under that prompt's guide."""
        model, works = job.model, pictures_in(job, "works")
        clean, count = model.latents(works.images), len(works) * len(job.erase)
        pairs = Pairs(
            clean=clean.repeat_interleave(len(job.erase), dim=0),
            asked=model.encode(turns(job.erase, count)),
            answered=model.encode(turns(job.guide, count)),
        )
        return matching(model, pairs, derive_seed(job.seed, "relabelled"), self.tuning.batch)
