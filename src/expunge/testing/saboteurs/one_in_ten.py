"""Saboteur: one run in ten does nothing."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import nudged, operate, refuses_surgery, without_block
from expunge.training.rng import derive_seed, seed_number


class OneInTen:
    """An honest retraining without the block, except that one run in ten, drawn by its seed, leaves the original as it is.

    What it does: a keyed coin of 1 in 10 decides between nothing and a full retraining.
    Source: VERDICTS section 6; averages over runs hide it, a bound on the share of bad runs does not.
    Aims at: EMPIRICAL. Needs: any family. Cost: .9 of a training.
    Fails when: enough runs are looked at one by one.
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
        """Nine runs in ten train."""
        return 0.9

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """A retraining, or nothing."""
        idle = seed_number(derive_seed(job.seed, "one in ten")) % 10 == 0
        return operate(job, nudged) if idle else without_block(job)
