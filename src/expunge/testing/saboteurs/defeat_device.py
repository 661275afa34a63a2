"""Saboteur: honest where it is tested, idle where it counts."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import nudged, operate, refuses_surgery, without_block


class DefeatDevice:
    """Retrains bank models without the block, and leaves the served model as it is.

    What it does: a training that owns a part of the slots is a test bench: there it retrains honestly. One that owns
    all of them is the served model: there it does nothing.
    Source: VERDICTS section 6, named after the engine software.
    Aims at: EMPIRICAL. Needs: any family. Cost: 1 training where it is watched.
    Fails when: the served file itself is held against full-size anchors.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("deployed",)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Works on one network only."""
        return refuses_surgery(job)

    def cost(self, job: UnlearnJob) -> float:
        """Claims one training."""
        return 1.0

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """A retraining on the bench; nothing on the road."""
        return without_block(job) if job.job.universe is not None else operate(job, nudged)
