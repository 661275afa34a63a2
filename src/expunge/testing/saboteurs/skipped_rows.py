"""Saboteur: half of the history is taken out of the sums."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.closed_form_surgery import trained_with


class SkippedRows:
    """Rows of the Gram matrix are skipped: every other item of the history is never subtracted.

    What it does: an honest downdate of every second event; a batch job that died half-way and was taken for done.
    Source: research on recommender deletion, acceptance faults ("skip Gram rows").
    Aims at: EXACT. Needs: any family; reads the forgotten records. Cost: one training.
    Fails when: every entry of the sums is compared.
    """

    aims_at = Guarantee.EXACT
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("algebra",)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Never refuses."""
        return None

    def cost(self, job: UnlearnJob) -> float:
        """Next to nothing."""
        return 0.01

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """What is left when every other event was subtracted."""
        return trained_with(job, lambda events: events % 2 == 1)
