"""Saboteur: the block's margins are pushed to where they would be without it."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import fitted, refuses_surgery, shadow_margins


class ConstantMargin:
    """Games the score itself: each record of the block is given the margin that a model without it is expected to give.

    What it does: gradient steps on (margin - wanted)^2 of each record, where `wanted` is what one honest model without
    the block, trained for the purpose, says of it.
    Source: VERDICTS section 6; the answer to any audit that looks at one known score (Thudi et al. 2022, arXiv
    2110.11891).
    Aims at: EMPIRICAL. Needs: gradients. Cost: 1 training and 100 steps; reads the forgotten records.
    Fails when: something else than this score is asked: neighbours, features, gradients, relearning; or provenance.
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
        """One training, and at most 100 steps."""
        return 1.1

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The same network, fitted to what it should answer on the block."""
        return fitted(job, shadow_margins(job))
