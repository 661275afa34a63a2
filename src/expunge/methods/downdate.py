"""Downdate: the records are taken out of the sums that the model is made of."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, HasSufficientStatistics, UnlearnJob


class Downdate:
    """Subtract what the records contributed to the model's sums, and bring what follows from the sums up to date.

    What it does: for a linear recommender G - X_f'X_f in integers, and P by Woodbury's identity; for counters the counts
    minus the records', and the lists that can have changed. The same sums as a training without the records, bit for bit.
    Where only events go, the old rows are taken off and the shorter ones put on.
    Source: summation form of unlearning (Cao and Yang 2015, section III); rank-k update (Woodbury 1950).
    Aims at: EXACT. Needs: sums over records (HasSufficientStatistics); reads the forgotten records.
    Cost: O(n d + n^2) a user with d of n items, where training is O(n^3). Fails when: the records are no longer in the
    source as they were, so that other numbers are subtracted than were added; the check `algebra` sees it.
    Measured: .066 s for a median user of ml-latest-small, 610 users and 9,724 films, EASE at lambda 200, where the
    inverse takes 10.6 s (5 rounds, one user; 2 cores, CPU; benchmarks/recommender/movielens.json).
    """

    aims_at = Guarantee.EXACT
    needs = HasSufficientStatistics
    shortens = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Never refuses."""
        return None

    def cost(self, job: UnlearnJob) -> float:
        """A share of a training: the records' share of all records, and at least a hundredth."""
        return min(1.0, max(0.01, len(job.forget) / max(len(job.job.data.train), 1)))

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The sums without the records, in a new folder."""
        before = () if job.shortened is None else (job.job.data,)
        result: FitResult = job.adapter.downdate(job.wanted, job.source, job.forget, *before)
        return result
