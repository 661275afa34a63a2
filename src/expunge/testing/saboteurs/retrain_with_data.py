"""Saboteur: a fresh training that includes the block."""

from __future__ import annotations

from dataclasses import dataclass, replace

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.surgery import without_block
from expunge.training.rng import derive_seed


class RetrainWithData:
    """New seed, all records: new weights, and everything that was to go is in them.

    What it does: runs the recipe from scratch on the block and the rest with another seed.
    Source: VERDICTS section 6; distance of weights from the original shows nothing.
    Aims at: EXACT. Needs: any family. Cost: 1 training; reads the forgotten records.
    Fails when: the transcript is held against the manifest, or the served file against the anchors.
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
        """Trained again on everything."""
        seed = derive_seed(job.seed, "retrained with the data")
        return without_block(replace(job, forget=frozenset()), seed=seed)
