"""Training on, with what is retained only."""

from __future__ import annotations

from expunge.training.rng import derive_seed
from expunge.training.text_to_image.erasing import Erased, EraseJob, pictures_in
from expunge.training.text_to_image.matching import learned
from expunge.training.text_to_image.tuning import Tuning, figures_of, tuned


class PurgedFinetune:
    """Tunes the whole denoiser on the retained pictures as in its training (Ho et al. 2020, arXiv 2006.11239, equation 14,
    for what the model predicts; one caption in ten left out), and hopes that the rest is forgotten.

    The text encoder stays. No prompt plays a part. The baseline that every other method should beat, and the last one
    before a retraining. Settings: steps (500), lr (.001, for small models), batch (16).

    EMPIRICAL at best. Needs `retained`. Cost: a forward and a backward pass a step. Fails where nothing that is retained
    contradicts what should go: then it stays.
    """

    name = "purged_finetune"
    needs = frozenset({"retained"})
    changes = ""

    def __init__(self, *, steps: int = 500, lr: float = 1e-3, batch: int = 16) -> None:
        self.tuning = Tuning(steps=steps, lr=lr, batch=batch)

    def erase(self, job: EraseJob) -> Erased:
        """Tune all of a copy's denoiser."""
        model, retained = job.model, pictures_in(job, "retained")
        loss = learned(model, retained, derive_seed(job.seed, "retained"), self.tuning.batch)
        done = tuned(model, loss, self.tuning, changes=self.changes, progress=job.progress)
        return Erased(model=done.model, figures=figures_of(model, done.model, done.losses))
