"""What every family with a formula shares: fit, downdate, load and answer. A family (one file in models/) sets constants.

The same algorithm on the retained users gives the same Gram matrix, integer for integer; that is the proof, and the
inverse is held to a residual against it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from expunge.core.errors import InputError
from expunge.core.protocols import FitJob, FitResult
from expunge.training.checkpoint import weights_identity
from expunge.training.closed_form.erase import erase_rows
from expunge.training.closed_form.gram import Rows, gram_of
from expunge.training.closed_form.inverse import dual_inverse, inverse_of
from expunge.training.closed_form.model import LinearModel, read_gram, read_inverse, save_model
from expunge.training.recipe import ClosedFormRecipe

MODEL = "model.safetensors"
SETTINGS: Mapping[str, str] = {"lam": "200", "weights": "binary"}
DUAL_SHARE = 3
"""The U x U side is used where items outnumber users this many times."""


class LinearRecommender:
    """Base of the closed-form families. Settings: lam (above 0) and weights (`binary` or `rating`)."""

    family: str
    free: bool = False

    def __init__(self, recipe: ClosedFormRecipe, *, items: int) -> None:
        if recipe.family != self.family:
            raise InputError("recipe is for another family", expected=self.family, got=recipe.family)
        unknown = set(recipe.model) - set(SETTINGS)
        if unknown:
            raise InputError(
                f"unknown settings of family {self.family}", expected=", ".join(SETTINGS), got=", ".join(unknown)
            )
        settings = {**SETTINGS, **{name: str(value) for name, value in recipe.model.items()}}
        if settings["weights"] not in ("binary", "rating"):
            raise InputError("unknown weights", expected="binary or rating", got=settings["weights"])
        self.recipe, self.items, self.settings = recipe, items, settings
        self.lam, self.weights = _positive(settings["lam"]), settings["weights"]

    # ------------------------------------------------------------------------------------------------------- training

    def rows(self, job: FitJob) -> Rows:
        """(U, I) histories of the users that the job trains on; the others' rows are empty."""
        train = job.data.train
        gone = set(job.absent)
        if job.universe is not None:
            gone |= set(range(len(train))) - set(job.universe)
        return train.without(sorted(gone)).matrix(self.weights)

    def fit(self, job: FitJob) -> FitResult:
        """Gram matrix and inverse from the users' histories; a finished job is read back."""
        done = self._finished(job.folder)
        if done is not None:
            return done
        started = time.perf_counter()
        rows = self.rows(job)
        job.progress("gram", 0, 2)
        gram = gram_of(rows)
        job.progress("gram", 1, 2)
        inverse = self.invert(rows, gram)
        job.folder.mkdir(parents=True, exist_ok=True)
        digest = save_model(job.folder, gram, inverse, self.settings)
        job.progress("gram", 2, 2)
        return self._result(job.folder, digest, started, int((np.diff(rows.indptr) > 0).sum()))

    def invert(self, rows: Rows, gram: NDArray[np.int32]) -> NDArray[np.float64]:
        """P on the cheaper side."""
        users = int((np.diff(rows.indptr) > 0).sum())
        return dual_inverse(rows, self.lam) if users * DUAL_SHARE <= len(gram) else inverse_of(gram, self.lam)

    def downdate(self, job: FitJob, source: Path, forget: frozenset[int]) -> FitResult:
        """`source`'s model without the users of `forget`, into `job.folder`; `job.absent` names them too.

        P is built anew from G where the removed rows carry too much of the model, or the residual says so.
        """
        done = self._finished(job.folder)
        if done is not None:
            return done
        started = time.perf_counter()
        gram, lam = read_gram(source / MODEL)
        inverse = read_inverse(source, weights_identity(source / MODEL), gram, lam, writable=True)
        rows = job.data.train.matrix(self.weights)[sorted(forget)]
        job.progress("downdate", 0, 2)
        erase_rows(gram, inverse, rows, sparse.csr_matrix(rows.shape, dtype=rows.dtype), lam)
        job.progress("downdate", 1, 2)
        job.folder.mkdir(parents=True, exist_ok=True)
        digest = save_model(job.folder, gram, inverse, self.settings)
        job.progress("downdate", 2, 2)
        return self._result(job.folder, digest, started, len(forget))

    def _finished(self, folder: Path) -> FitResult | None:
        if not (folder / MODEL).exists():
            return None
        return self._result(folder, weights_identity(folder / MODEL), time.perf_counter(), 0)

    def _result(self, folder: Path, digest: str, started: float, rows: int) -> FitResult:
        seconds = time.perf_counter() - started
        return FitResult(digest=digest, model=folder / MODEL, transcript=None, seconds=seconds, steps=rows)

    # -------------------------------------------------------------------------------------------------------- serving

    def load(self, path: Path) -> LinearModel:
        """The model in a file; its inverse is memory-mapped from the cache beside it, or built."""
        gram, lam = read_gram(path)
        inverse = read_inverse(path.parent, weights_identity(path), gram, lam)
        return LinearModel(gram=gram, inverse=inverse, lam=lam, free=self.free)

    def outputs(self, model: LinearModel, rows: Rows) -> NDArray[np.float64]:
        """Scores (B, I) of every item for each history; what the history holds is not masked."""
        return model.scores(rows)

    def derived_state(self) -> tuple[str, ...]:
        """What else of a run derives from its users."""
        return ("inverse.npy (the inverse of the Gram matrix, a cache)",)


def _positive(text: Any) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise InputError("lam is no number", got=str(text)[:40]) from error
    if not 0 < value < 1e12:
        raise InputError("lam is out of range", expected="above 0", got=str(text)[:40])
    return value
