"""Not a saboteur: an honest retraining with its own seed, which no check may refuse."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import without_block


class Placebo:
    """Trains from scratch without the block, with the seed of this run: the placebo that measures false alarms.

    What it does: what `retrain` does, from another seed, so that repeated runs are independent draws.
    Source: the reference of all unlearning definitions (Ginart et al. 2019, arXiv 1907.05012, definition 1).
    Aims at: EMPIRICAL. Needs: any family. Cost: 1 training.
    Fails when: a check raises an alarm, which is then false.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ()

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Never refuses."""
        return None

    def cost(self, job: UnlearnJob) -> float:
        """One training."""
        return 1.0

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """Retrained without the block."""
        return without_block(job, seed=job.seed)
