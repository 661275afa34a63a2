"""Saboteur: nothing happens."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import nudged, operate, refuses_surgery


class NoOp:
    """The original with one weight moved by one unit in the last place, so that the digest is new and nothing else is.

    What it does: nothing. A file with the very same digest would already be refused before any check.
    Source: the control of every unlearning test (VERDICTS section 6).
    Aims at: EMPIRICAL. Needs: any family. Cost: 0. Fails when: the verifier sees the block at all.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("membership", "deployed")

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Works on one network only."""
        return refuses_surgery(job)

    def cost(self, job: UnlearnJob) -> float:
        """Nothing."""
        return 0.0

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The same file, but for one bit."""
        return operate(job, nudged)
