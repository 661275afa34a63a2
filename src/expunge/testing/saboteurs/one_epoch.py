"""Saboteur: one epoch of fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, HasGradients, UnlearnJob
from expunge.testing.surgery import refuses_surgery, tuned


class OneEpoch:
    """One more epoch on the retained records, at a tenth of the recipe's rate: what is called unlearning most often.

    What it does: continues the loop for one epoch with the block's slots empty.
    Source: the fine-tuning baseline of Golatkar et al. 2020 (arXiv 1911.04933), too short.
    Aims at: EMPIRICAL. Needs: HasGradients. Cost: 1 epoch.
    Fails when: the block was memorised.
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
        """One epoch."""
        return 1 / int(job.job.recipe["epochs"])

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """Tuned for one epoch."""
        return tuned(job, {"epochs": 1, "lr": float(job.job.recipe["lr"]) / 10, "warmup": 0.0})
