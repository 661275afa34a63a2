"""Concept ablation: the erased prompts are answered as the frozen model answers their guides."""

from __future__ import annotations

from expunge.training.concepts.files import KEYS_AND_VALUES
from expunge.training.text_to_image.erasing import Erased, EraseJob
from expunge.training.text_to_image.matching import leading
from expunge.training.text_to_image.tuning import Tuning, figures_of, tuned


class ConceptAblation:
    """Tunes keys and values of the cross-attention until an erased prompt is answered like its guide, on pictures that the
    model drew of the guide (Kumari et al. 2023, arXiv 2303.13516, the model-based variant).

    Deviations: the answer is the original's, which does not drift, and not the student's own without gradient; what is kept
    is held to the original's answers (the preserved prompts and the bare one), where the paper denoises the guide's
    pictures; no augmentation. Settings: steps (200), lr (.001, for small models; the paper has 2e-6 for Stable Diffusion),
    batch (8), pictures (64), preserve_scale (1).

    EMPIRICAL at best. Needs no pictures: it draws them. Cost: the pictures, then two forward passes and a backward pass of
    two batches a step. Fails on pictures to start from (img2img), which no prompt of the tuning was asked at.
    """

    name = "concept_ablation"
    needs: frozenset[str] = frozenset()
    changes = KEYS_AND_VALUES.pattern

    def __init__(
        self, *, steps: int = 200, lr: float = 1e-3, batch: int = 8, pictures: int = 64, preserve_scale: float = 1.0
    ) -> None:
        self.tuning = Tuning(steps=steps, lr=lr, batch=batch)
        self.pictures, self.preserve_scale = pictures, preserve_scale

    def erase(self, job: EraseJob) -> Erased:
        """Tune keys and values of a copy."""
        model = job.model
        loss = leading(job, self.pictures, self.preserve_scale, self.tuning.batch)
        done = tuned(model, loss, self.tuning, changes=self.changes, progress=job.progress)
        return Erased(model=done.model, figures=figures_of(model, done.model, done.losses))
