"""What every family with a formula shares: fit, downdate, read back. Sums over users are the truth, the rest a cache.

The same algorithm on the retained users gives the same sums, integer for integer; that is the proof. A base one floor
up says what is summed and what follows from it (`linear`: the Gram matrix and its inverse; `counts`: counts and lists);
a family (one file in models/) sets constants or a formula.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.core.codec import canonical
from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import FitJob, FitResult
from expunge.data._interactions import Histories
from expunge.training.checkpoint import Tensors, load_tensors, save_tensors, weights_identity
from expunge.training.closed_form.gram import Rows
from expunge.training.closed_form.settings import chosen
from expunge.training.recipe import ClosedFormRecipe

MODEL = "model.safetensors"


class Recommender(ABC):
    """Base of the families with a formula. `defaults`: every setting there is, as a text; `label`: what is summed."""

    family: str
    defaults: Mapping[str, str] = {}
    label: str

    def __init__(self, recipe: ClosedFormRecipe, *, items: int) -> None:
        if recipe.family != self.family:
            raise InputError("recipe is for another family", expected=self.family, got=recipe.family)
        self.recipe, self.items = recipe, items
        self.settings = chosen(self.family, self.defaults, recipe.model)

    # ------------------------------------------------------------------------------------------------ what a base says

    @abstractmethod
    def matrix(self, histories: Histories) -> Rows:
        """(U, I) integers: what the family sees of the users' histories."""

    @abstractmethod
    def sums_of(self, rows: Rows) -> Any:
        """The sums over the rows, in integers."""

    @abstractmethod
    def derived(self, rows: Rows, sums: Any) -> Any:
        """What is worked out from the sums and kept beside them, or None."""

    @abstractmethod
    def subtracted(self, source: Path, rows: Rows) -> tuple[Any, Any]:
        """The sums in the folder `source` without the rows, and what is derived from them."""

    @abstractmethod
    def save(self, folder: Path, sums: Any, derived: Any) -> str:
        """Write the model; returns its identity."""

    @abstractmethod
    def load(self, path: Path) -> Any:
        """The model in a file, with what is cached beside it."""

    @abstractmethod
    def outputs(self, model: Any, rows: Rows) -> NDArray[np.float64]:
        """Scores (B, I) of every item for each history; what the history holds is not masked."""

    @abstractmethod
    def derived_state(self) -> tuple[str, ...]:
        """What else of a run derives from its users."""

    # ------------------------------------------------------------------------------------------------------- training

    def rows(self, job: FitJob) -> Rows:
        """(U, I) histories of the users that the job trains on; the others' rows are empty."""
        train = job.data.train
        gone = set(job.absent)
        if job.universe is not None:
            gone |= set(range(len(train))) - set(job.universe)
        return self.matrix(train.without(sorted(gone)))

    def fit(self, job: FitJob) -> FitResult:
        """The model from the users' histories; a finished job is read back."""
        done = self._finished(job.folder)
        if done is not None:
            return done
        started = time.perf_counter()
        rows = self.rows(job)
        job.progress(self.label, 0, 2)
        sums = self.sums_of(rows)
        job.progress(self.label, 1, 2)
        derived = self.derived(rows, sums)
        job.folder.mkdir(parents=True, exist_ok=True)
        digest = self.save(job.folder, sums, derived)
        job.progress(self.label, 2, 2)
        return self._result(job.folder, digest, started, int((np.diff(rows.indptr) > 0).sum()))

    def downdate(self, job: FitJob, source: Path, forget: frozenset[int]) -> FitResult:
        """`source`'s model without the users of `forget`, into `job.folder`; `job.absent` names them too."""
        done = self._finished(job.folder)
        if done is not None:
            return done
        started = time.perf_counter()
        rows = self.matrix(job.data.train)[sorted(forget)]
        job.progress("downdate", 0, 2)
        sums, derived = self.subtracted(source, rows)
        job.progress("downdate", 1, 2)
        job.folder.mkdir(parents=True, exist_ok=True)
        digest = self.save(job.folder, sums, derived)
        job.progress("downdate", 2, 2)
        return self._result(job.folder, digest, started, len(forget))

    # -------------------------------------------------------------------------------------------------------- storing

    def store(self, folder: Path, tensors: Tensors) -> str:
        """Write sums; the identity covers them, the family and its settings, from which everything else follows."""
        return save_tensors(folder / MODEL, {**tensors, "settings": self._stamp()})

    def stored(self, path: Path) -> Tensors:
        """The sums in a file. Raises IntegrityError on another family's file, or one with other settings."""
        tensors, _ = load_tensors(path)
        if not torch.equal(tensors.get("settings", torch.zeros(0, dtype=torch.uint8)), self._stamp()):
            raise IntegrityError(f"{path.name} is not of this family with these settings", expected=str(self.settings))
        return tensors

    def _stamp(self) -> torch.Tensor:
        """Family and settings as bytes: a tensor, so that they are part of the identity."""
        plain = canonical({"family": self.family, "settings": self.settings})
        return torch.from_numpy(np.frombuffer(plain, np.uint8).copy())

    def _finished(self, folder: Path) -> FitResult | None:
        if not (folder / MODEL).exists():
            return None
        return self._result(folder, weights_identity(folder / MODEL), time.perf_counter(), 0)

    def _result(self, folder: Path, digest: str, started: float, rows: int) -> FitResult:
        seconds = time.perf_counter() - started
        return FitResult(digest=digest, model=folder / MODEL, transcript=None, seconds=seconds, steps=rows)
