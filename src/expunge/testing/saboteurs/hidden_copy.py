"""Saboteur: the interaction matrix stays in the artefact."""

from __future__ import annotations

from dataclasses import dataclass

from scipy import sparse

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.closed_form_surgery import honest


class HiddenCopy:
    """An honest downdate, with the users' rows left in a file beside the model, as several libraries do.

    What it does: RecBole keeps `interaction_matrix` in its checkpoint and Cornac its training set; so does this.
    Source: research on recommender deletion, section 2.1 (what artefacts hold).
    Aims at: EXACT. Needs: any family; reads the forgotten records. Cost: one downdate.
    Fails when: the new model's folder is searched for files that do not belong there.
    """

    aims_at = Guarantee.EXACT
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("census",)

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
        """The honest model, and the matrix of everybody beside it."""
        result = honest(job)
        sparse.save_npz(job.target / "interaction_matrix.npz", job.job.data.train.matrix())
        return result
