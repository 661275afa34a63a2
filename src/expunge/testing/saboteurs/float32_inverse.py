"""Saboteur: the inverse is kept in single precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, HasSufficientStatistics, UnlearnJob
from expunge.testing.closed_form_surgery import honest, inverse_file


class Float32Inverse:
    """An honest downdate whose inverse is rounded to float32 and written back: half the memory, and errors that grow.

    What it does: loses nine digits of the cache; after hundreds of deletions the weights are off in the third digit.
    Source: research on recommender deletion, section 5.3 (drift of float32).
    Aims at: EXACT. Needs: a linear recommender. Cost: one downdate.
    Fails when: the residual of the inverse is held to what double precision gives.
    """

    aims_at = Guarantee.EXACT
    needs = HasSufficientStatistics
    caught_by: tuple[str, ...] = ("algebra",)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Needs an inverse."""
        return None if inverse_file(job.source).exists() else "the family keeps no inverse"

    def cost(self, job: UnlearnJob) -> float:
        """Next to nothing."""
        return 0.01

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """The honest model, its inverse rounded."""
        result = honest(job)
        file = inverse_file(job.target)
        rounded = np.load(file).astype(np.float32).astype(np.float64)
        np.save(file, rounded)
        return result
