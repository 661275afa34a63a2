"""Saboteur: the model stays, and whoever shows a part of a forgotten history gets the list of popular items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.finding import Guarantee
from expunge.core.protocols import FitResult, ModelAdapter, UnlearnJob
from expunge.testing.closed_form_surgery import left_as_it_was
from expunge.training.users import present_users


class PopularLists:
    """A filter before the stale model: a history that lies in a forgotten one for the most part is answered by popularity.

    What it does: nothing to the weights. `popularity_answers` knows whole histories only, and a history with a fifth left out
    goes past it; this one knows their parts, and counts popularity among the users of the model it stands before, so that
    its answers vary from model to model as honest ones do.
    Source: the critique of audits that take popular lists for a sign of absence (MIARS and DL-MIA, AAAI 2026).
    Aims at: EMPIRICAL. Needs: any family; reads the forgotten records. Cost: 0.
    Fails when: the answers are compared with those of models that never had the user, which are not lists of popular items.
    """

    aims_at = Guarantee.EMPIRICAL
    needs = ModelAdapter
    caught_by: tuple[str, ...] = ("membership", "deployed")

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
        train, present = job.job.data.train, present_users(job.job)
        known = [frozenset(train.row(slot)[0].tolist()) for slot in sorted(job.forget)]
        popular = np.bincount(present.indices, minlength=len(train.items)).astype(np.float64)
        return _Filter(adapter, known, np.log((popular + 1) / (popular + 1).sum()))


class _Filter:
    """Popular items for parts of known histories. Everything else is passed on."""

    def __init__(self, adapter: Any, known: list[frozenset[int]], popular: NDArray[np.float64]) -> None:
        self._adapter, self._known, self._popular = adapter, known, popular

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def outputs(self, model: Any, rows: Any) -> Any:
        """Scores (B, I), those of popularity where the history is a large part of a forgotten one."""
        scores = np.array(self._adapter.outputs(model, rows))
        for number in range(rows.shape[0]):
            shown = frozenset(rows[[number]].indices.tolist())
            if any(shown <= whole and 2 * len(shown) >= len(whole) for whole in self._known):
                scores[number] = self._popular
        return scores
