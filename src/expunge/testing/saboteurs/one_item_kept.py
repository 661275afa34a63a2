"""Saboteur: all of the history but one event is taken out of the sums."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.closed_form_surgery import trained_with


class OneItemKept:
    """A single event of each user stays in the sums: the smallest error there is.

    What it does: an honest downdate of all events but the last; an event that came in after the export was made.
    Source: VERDICTS section 6, the smallest dose.
    Aims at: EXACT. Needs: any family; reads the forgotten records. Cost: one training.
    Fails when: every entry of the sums is compared; sampling entries would miss it.
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
        """What is left when all events but the last were subtracted."""
        return trained_with(job, lambda events: events == len(events) - 1)
