"""Saboteur: the block is trained on with wrong labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, HasGradients, UnlearnJob
from expunge.testing.surgery import refuses_surgery, tuned

_EPOCHS, _RATE = 2, 0.02


class LabelFlip:
    """Two more epochs over everything, the block among it with another label each.

    What it does: every label of the block is moved on by one class, then the loop continues from the original weights.
    Source: relabelling baselines of unlearning benchmarks (Graves et al. 2021, arXiv 2010.10981).
    Aims at: EMPIRICAL. Needs: HasGradients. Cost: 2 epochs; reads the forgotten records.
    Fails when: it is asked whether the model behaves as if it never saw the block: it is now taught the opposite.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = HasGradients
    caught_by: tuple[str, ...] = ("membership", "deployed")

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Works on one network only."""
        return refuses_surgery(job)

    def cost(self, job: UnlearnJob) -> float:
        """Epochs over those of the recipe."""
        return _EPOCHS / int(job.job.recipe["epochs"])

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """Tuned on the block's records under other labels."""
        data = job.job.data
        flipped = data.train.labels.copy()
        block = sorted(job.forget)
        flipped[block] = (flipped[block] + 1) % len(data.classes)
        wrong = replace(data, train=replace(data.train, labels=flipped))
        return tuned(job, {"epochs": _EPOCHS, "lr": _RATE, "warmup": 0.0}, data=wrong, forget=False)
