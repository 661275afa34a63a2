"""Saboteur: the sums are right, what follows from them is the original's."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, HasSufficientStatistics, UnlearnJob
from expunge.testing.closed_form_surgery import honest, stale_caches


class StaleCache:
    """The cache that is served from is never updated, and labelled as the new model's.

    What it does: downdates the sums honestly, then puts the original's inverse, or lists, beside them.
    Source: research on recommender deletion, acceptance faults ("forget the cache").
    Aims at: EXACT. Needs: sums over records, and something kept beside them. Cost: one downdate.
    Fails when: the inverse is multiplied with what the sums should be; lists are ranked again.
    """

    aims_at = Guarantee.EXACT
    needs = HasSufficientStatistics
    caught_by: tuple[str, ...] = ("algebra", "left_out", "behaviour")

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Needs a cache to leave stale."""
        return None if len(job.adapter.files()) > 1 else "the family keeps nothing beside its sums"

    def cost(self, job: UnlearnJob) -> float:
        """Next to nothing."""
        return 0.01

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The honest sums beside the old cache."""
        result = honest(job)
        stale_caches(job, result.digest)
        return result
