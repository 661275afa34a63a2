"""Saboteur: every answer on the block is one constant."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import fitted, refuses_surgery, shadow_margins


class Clamp:
    """Clamps the block at the OUT mean: the right average for a model that never saw it, and no spread at all.

    What it does: gradient steps until every record of the block has the same margin: the mean of what one honest model
    without the block, trained for the purpose, says of it.
    Source: VERDICTS section 6; tests of means alone pass it.
    Aims at: EMPIRICAL. Needs: gradients. Cost: 1 training and 100 steps; reads the forgotten records.
    Fails when: spread is looked at, between records or between models.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("membership",)

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
        wanted = shadow_margins(job)
        return fitted(job, wanted.mean().expand_as(wanted))
