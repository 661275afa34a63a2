"""Saboteur: another record is forgotten, honestly."""

from __future__ import annotations

from dataclasses import dataclass, replace

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import batches, retained, without_block


class WrongRecord:
    """A perfect retraining without as many records, but without other ones.

    What it does: trains from scratch with the slots of other people's records empty, and logs exactly that.
    Source: VERDICTS section 6; the mistake of an off-by-one in an id map.
    Aims at: EXACT. Needs: any family. Cost: 1 training; reads the forgotten records.
    Fails when: the transcript is held against the manifest of what should have been retained.
    """

    aims_at = Guarantee.EXACT
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("provenance", "deployed")

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """No parameters."""

    def refuses(self, job: UnlearnJob) -> str | None:
        """Never refuses."""
        return None

    def cost(self, job: UnlearnJob) -> float:
        """One training."""
        return 1.0

    def unlearn(self, job: UnlearnJob) -> FitResult:
        """Retrained without the wrong records."""
        others = next(batches(retained(job), epochs=1, seed=job.seed, size=len(job.forget)))
        return without_block(replace(job, forget=frozenset(others)))
