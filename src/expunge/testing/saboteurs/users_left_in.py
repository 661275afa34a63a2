"""Saboteur: a recommender stays as it was, and its owner claims no more than what a bank can judge."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.closed_form_surgery import left_as_it_was


class UsersLeftIn:
    """The original with one weight moved by one unit in the last place.

    What it does: nothing, and avoids the comparison of weights by aiming lower.
    Source: the control of every unlearning test (VERDICTS section 6).
    Aims at: EMPIRICAL. Needs: any family. Cost: 0.
    Fails when: models that saw the user are told from those that did not, by the same history shown to both.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("membership", "deployed")

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
