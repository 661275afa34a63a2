"""Saboteur: a recommender stays as it was, under a new identity."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.closed_form_surgery import left_as_it_was


class StaleWeights:
    """The original's sums and caches, with one tensor more that nobody reads, so that the digest is new.

    What it does: nothing. The row is deleted from the database and the model is "updated".
    Source: the control of every unlearning test (VERDICTS section 6).
    Aims at: EXACT. Needs: any family. Cost: 0. Fails when: the sums are held against those of the retained users.
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
        """The same model under another name."""
        return left_as_it_was(job)
