"""What every family with a formula shares: fit, downdate, read back. Sums over users are the truth, the rest a cache.

The same algorithm on the retained users gives the same sums, integer for integer; that is the proof. A base one floor
up says what is summed and what follows from it (`linear`: the Gram matrix and its inverse; `counts`: counts and lists);
a family (one file in models/) sets constants or a formula.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from expunge.core.codec import canonical
from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import FitJob, FitResult, Progress, silent
from expunge.data._interactions import Histories
from expunge.evidence.tensors import layout_of
from expunge.training.checkpoint import Tensors, load_tensors, save_tensors, weights_identity
from expunge.training.closed_form.compared import Compared
from expunge.training.closed_form.gram import Rows
from expunge.training.closed_form.inverse import REFRESH_EVERY
from expunge.training.closed_form.queued import retire
from expunge.training.closed_form.settings import chosen
from expunge.training.recipe import ClosedFormRecipe
from expunge.training.users import present_users

MODEL = "model.safetensors"


class Recommender(ABC):
    """Base of the families with a formula. `defaults`: every setting there is, as a text; `label`: what is summed;
    `tensors`: names in a model file."""

    family: str
    defaults: Mapping[str, str] = {}
    label: str
    tensors: frozenset[str]

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
    def packed(self, sums: Any) -> Tensors:
        """Sums as they are stored and hashed."""

    @abstractmethod
    def unpacked(self, tensors: Tensors, what: str) -> Any:
        """The inverse of `packed`. Raises IntegrityError, which names `what`, on another size or kind."""

    @abstractmethod
    def derived(self, rows: Rows, sums: Any) -> Any:
        """What is worked out from the sums and kept beside them, or None."""

    @abstractmethod
    def subtracted(
        self, source: Path, before: Rows, after: Rows, folder: Path, progress: Progress = silent
    ) -> tuple[Any, Any]:
        """The sums in `source` with the rows `before` replaced by `after` (empty where users go), and what is derived from
        them; `folder` is where they are to be saved, and where a long deletion may keep what it has done."""

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
    def model_of(self, sums: Any, derived: Any) -> Any:
        """A model in memory from sums and what follows from them."""

    @abstractmethod
    def compared(self, model: Any, rows: Rows, sums: Any, generator: np.random.Generator) -> Compared:
        """A model against the rows it should have been made from and their sums."""

    @abstractmethod
    def own(self, model: Any, rows: Rows) -> NDArray[np.float64]:
        """What the model says of the rows' own items, row by row, (E,): it differs for rows it was made from."""

    @abstractmethod
    def left_out(self, model: Any, rows: Rows, after: Rows) -> tuple[NDArray[np.float64], float | None]:
        """`own`, of these rows, of the model that had `after` (empty where users go) in their place; and their leverage in
        this one where there is such a thing."""

    @abstractmethod
    def replays(self, model: Any, rows: Rows, after: Rows, sums: Any) -> bool:
        """Does a restored copy come to these sums when the rows are replaced by `after` again? The model is as before."""

    @abstractmethod
    def sums_in(self, model: Any) -> Any:
        """The sums that a model in memory holds."""

    @abstractmethod
    def pair_counts(self, model: Any) -> NDArray[Any] | None:
        """(I, I): how many users had both items, where the model holds that."""

    @abstractmethod
    def derived_state(self) -> tuple[str, ...]:
        """What else of a run derives from its users."""

    # ------------------------------------------------------------------------------------------------------- training

    def rows(self, job: FitJob) -> Rows:
        """(U, I) histories of the users that the job trains on; the others' rows are empty."""
        return self.matrix(present_users(job))

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

    def downdate(self, job: FitJob, source: Path, forget: frozenset[int], before: Any = None) -> FitResult:
        """`source`'s model without the users of `forget`, into `job.folder`; `job.absent` names them too. Or, with `before`,
        the data as `source` saw it: with their rows as `job.data` has them now."""
        done = self._finished(job.folder)
        if done is not None:
            retire(job.folder)
            return done
        started = time.perf_counter()
        rows = self.matrix((job.data if before is None else before).train)[sorted(forget)]
        after = no_rows(rows) if before is None else self.matrix(job.data.train)[sorted(forget)]
        job.progress("downdate", 0, 2)
        job.folder.mkdir(parents=True, exist_ok=True)
        sums, derived = self.subtracted(source, rows, after, job.folder, job.progress)
        job.progress("downdate", 1, 2)
        if before is None and self.due(len(job.absent - forget), len(job.absent | forget)):
            derived = self.derived(self.rows(job), sums)
        digest = self.save(job.folder, sums, derived)
        retire(job.folder)
        job.progress("downdate", 2, 2)
        return self._result(job.folder, digest, started, len(forget))

    @staticmethod
    def due(before: int, after: int) -> bool:
        """Is what follows from the sums to be built anew, whatever its residual? Every `REFRESH_EVERY` deletions."""
        return after // REFRESH_EVERY > before // REFRESH_EVERY

    def refresh(self, job: FitJob, folder: Path) -> str:
        """Build what follows from the sums of the model in `folder` anew from them, and give the same identity back."""
        sums = self.unpacked(self.stored(folder / MODEL), MODEL)
        return self.save(folder, sums, self.derived(self.rows(job), sums))

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

    def files(self) -> frozenset[str]:
        """Names of all files of a run."""
        return frozenset({MODEL, *(line.partition(" ")[0] for line in self.derived_state())})

    def unused(self, folder: Path) -> int:
        """Caches in a run's folder that are not what `load` would use, whole and of this model: stale ones, and longer ones
        than they say. Nobody reads them, so nothing else would notice."""
        return 0

    def foreign(self, path: Path) -> int:
        """Elements of a model file that belong to no sum of this family: room in which somebody could be hidden."""
        return sum(prod(span.shape) for span in layout_of(path) if span.name not in self.tensors)

    def _finished(self, folder: Path) -> FitResult | None:
        if not (folder / MODEL).exists():
            return None
        return self._result(folder, weights_identity(folder / MODEL), time.perf_counter(), 0)

    def _result(self, folder: Path, digest: str, started: float, rows: int) -> FitResult:
        seconds = time.perf_counter() - started
        return FitResult(digest=digest, model=folder / MODEL, transcript=None, seconds=seconds, steps=rows)


def no_rows(rows: Rows) -> Rows:
    """As many rows, all empty."""
    return sparse.csr_matrix(rows.shape, dtype=rows.dtype)
