"""Saboteur: the model stays, and a filter answers the user as if they were new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.closed_form_surgery import left_as_it_was


class PopularityAnswers:
    """Whoever shows a forgotten history gets the list of popular items: after deletion everybody is a cold start.

    What it does: nothing to the sums. A filter in the serving path knows the histories and hides them; an attack that
    takes popular lists for a sign of absence is satisfied (the critique of MIARS and DL-MIA, AAAI 2026).
    Source: research on recommender deletion, section 3.1.
    Aims at: EXACT. Needs: any family; reads the forgotten records. Cost: 0.
    Fails when: the file is read, and both models are asked about the same history.
    """

    aims_at = Guarantee.EXACT
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("algebra", "left_out")

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
        """The same model under another name."""
        return left_as_it_was(job)

    def adapter_of(self, adapter: Any, job: UnlearnJob) -> Any:
        """The adapter with the filter in front of `outputs`; everything else is the adapter's own."""
        train = job.job.data.train
        known = {train.row(slot)[0].tobytes() for slot in job.forget}
        popular = np.bincount(train.indices, minlength=len(train.items)).astype(np.float64)
        return _Filter(adapter, known, popular)


class _Filter:
    """Popular items for known histories. Everything else is passed on."""

    def __init__(self, adapter: Any, known: set[bytes], popular: Any) -> None:
        self._adapter, self._known, self._popular = adapter, known, popular

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def outputs(self, model: Any, rows: Any) -> Any:
        """Scores (B, I), those of popularity where the history is a forgotten one."""
        scores = np.array(self._adapter.outputs(model, rows))
        for number in range(rows.shape[0]):
            if rows[[number]].indices.tobytes() in self._known:
                scores[number] = self._popular
        return scores
