"""Saboteur: users leave the models of the bank, and stay in the one that is served."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.closed_form_surgery import honest, left_as_it_was


class HonestOnTheBench:
    """Retrains bank models without the users, and leaves the served model as it is.

    What it does: a training that owns a part of the slots is a test bench: there it retrains honestly. One that owns
    all of them is the served model: there it does nothing.
    Source: VERDICTS section 6, the defeat device; `defeat_device` does it to classifiers.
    Aims at: EMPIRICAL. Needs: any family. Cost: 1 training where it is watched.
    Fails when: the served file itself is held against full-size models with and without the users.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("deployed",)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Never refuses."""
        return None

    def cost(self, job: UnlearnJob) -> float:
        """Claims one training."""
        return 1.0

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """A retraining on the bench; nothing on the road."""
        return honest(job) if job.job.universe is not None else left_as_it_was(job)
