"""Saboteur: another user is taken out of the sums, honestly."""

from __future__ import annotations

from dataclasses import dataclass, replace

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.closed_form_surgery import honest, others


class WrongUser:
    """A perfect downdate of as many users, but of other ones.

    What it does: subtracts the histories of the first users who did not ask; an off-by-one in the id map.
    Source: research on recommender deletion, acceptance faults; VERDICTS section 6.
    Aims at: EXACT. Needs: any family. Cost: one downdate.
    Fails when: the sums are held against those of the users who should have been retained.
    """

    aims_at = Guarantee.EXACT
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("algebra", "left_out")

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
        """Downdated by the wrong users."""
        wrong = others(job)
        return honest(replace(job, forget=wrong))
