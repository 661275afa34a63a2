"""Linear recommenders: the Gram matrix is the truth, its inverse a cache that is held to a residual against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import Progress, silent
from expunge.data._interactions import Histories
from expunge.training.checkpoint import Tensors, weights_identity
from expunge.training.closed_form.compared import Compared, differing, left_out, own_residuals, shortened
from expunge.training.closed_form.erase import emptied_items, empty_items, erase_rows
from expunge.training.closed_form.gram import Gram, Rows, add_rows, from_triangle, gram_of, triangle
from expunge.training.closed_form.inverse import REFRESH_RESIDUAL, Inverse, dual_inverse, inverse_of, residual
from expunge.training.closed_form.model import CACHE, LABEL, LinearModel, is_label, read_inverse, save_cache
from expunge.training.closed_form.queued import is_long, worked_off
from expunge.training.closed_form.recommender import MODEL, Recommender
from expunge.training.closed_form.recovered import Recovered, from_inverse
from expunge.training.closed_form.settings import number, one_of
from expunge.training.recipe import ClosedFormRecipe

DUAL_SHARE = 3
"""The U x U side is used where items outnumber users this many times."""
_LARGEST_LAM = 1e12
_SMALLEST_LAM = 0.01
"""Below it a deletion amplifies rounding by 1 / (1 - leverage) beyond what any check could tell from a residue."""


class LinearRecommender(Recommender):
    """Base of the linear families. Settings: lam (above 0) and weights (`binary` or `rating`). Entries of G are of the type
    `entry`, and `largest` at most."""

    defaults: Mapping[str, str] = {"lam": "200", "weights": "binary"}
    label = "gram"
    tensors = frozenset({"gram", "settings"})
    free: bool = False
    entry: type[np.signedinteger[Any]] = np.int32
    largest: int = 2**31 - 1

    def __init__(self, recipe: ClosedFormRecipe, *, items: int) -> None:
        super().__init__(recipe, items=items)
        self.weights = one_of(self.settings, "weights", "binary", "rating")
        self.lam = float(number(self.settings, "lam", _SMALLEST_LAM, _LARGEST_LAM))

    def matrix(self, histories: Histories) -> Rows:
        """Ones, or twice the stars."""
        return histories.matrix(self.weights)

    def sums_of(self, rows: Rows) -> Gram:
        """G = X'X."""
        return gram_of(rows, self.entry, self.largest)

    def derived(self, rows: Rows, sums: Gram) -> Inverse:
        """P on the cheaper side."""
        users = int((np.diff(rows.indptr) > 0).sum())
        return dual_inverse(rows, self.lam) if users * DUAL_SHARE <= len(sums) else inverse_of(sums, self.lam)

    def subtracted(
        self, source: Path, before: Rows, after: Rows, folder: Path, progress: Progress = silent
    ) -> tuple[Gram, Inverse]:
        """G and P with other rows; P is built anew where they carry too much of it, or the residual says so.

        Very many users go batch by batch (see `queued`), and a process that is killed is gone on with.
        """
        if is_long(before, after):
            origin = weights_identity(source / MODEL)
            return worked_off(folder, origin, before, self.lam, lambda: self._stored_pair(source), progress)
        gram = self.unpacked(self.stored(source / MODEL), MODEL)
        inverse = read_inverse(source, weights_identity(source / MODEL), gram, self.lam, copy_to=folder)
        if (emptied := emptied_items(gram, before, after)) is not None:
            empty_items(gram, inverse, emptied, self.lam)
        else:
            erase_rows(gram, inverse, before, after, self.lam)
        return gram, inverse

    def _stored_pair(self, source: Path) -> tuple[Gram, Inverse]:
        gram = self.unpacked(self.stored(source / MODEL), MODEL)
        return gram, read_inverse(source, weights_identity(source / MODEL), gram, self.lam)

    def save(self, folder: Path, sums: Gram, derived: Inverse) -> str:
        """G, and then the cache of P, each atomically."""
        digest = self.store(folder, self.packed(sums))
        save_cache(folder, derived, digest)
        return digest

    def load(self, path: Path) -> LinearModel:
        """The model in a file; its inverse is memory-mapped from the cache beside it, or built."""
        gram = self.unpacked(self.stored(path), path.name)
        inverse = read_inverse(path.parent, weights_identity(path), gram, self.lam)
        return self.model_of(gram, inverse)

    def packed(self, sums: Gram) -> Tensors:
        """The upper triangle. Raises InputError where parts that fit add up to more than fits."""
        if int(sums.diagonal().max(initial=0)) > self.largest:
            raise InputError("a Gram entry is too large", expected=f"at most {self.largest}")
        return {"gram": torch.from_numpy(triangle(sums))}

    def unpacked(self, tensors: Tensors, what: str) -> Gram:
        """G, whole."""
        packed = tensors["gram"].numpy() if "gram" in tensors else np.zeros(0, np.int8)
        if packed.dtype != self.entry or packed.shape != (self.items * (self.items + 1) // 2,):
            raise IntegrityError(f"{what} holds no Gram matrix of {self.items} items", got=str(packed.shape))
        return from_triangle(packed, self.items)

    def outputs(self, model: LinearModel, rows: Rows) -> NDArray[np.float64]:
        """Scores (B, I) of every item for each history; what the history holds is not masked."""
        return model.scores(rows)

    def unused(self, folder: Path) -> int:
        """The inverse and its label: both or neither, of this model, and not a byte more."""
        file, label = folder / CACHE, folder / LABEL
        if not file.exists() and not label.exists():
            return 0
        if not (file.exists() and label.exists() and is_label(label, weights_identity(folder / MODEL))):
            return 1
        found = np.load(file, mmap_mode="r", allow_pickle=False)
        whole = found.shape == (self.items, self.items) and found.dtype == np.float64
        return int(not whole or file.stat().st_size != found.offset + found.nbytes)

    def model_of(self, sums: Gram, derived: Inverse) -> LinearModel:
        """G and P."""
        return LinearModel(gram=sums, inverse=derived, lam=self.lam, free=self.free)

    def compared(self, model: LinearModel, rows: Rows, sums: Gram, generator: np.random.Generator) -> Compared:
        """G entry by entry, and the residual of P on what G should be."""
        off = residual(model.inverse, sums, self.lam, generator)
        return Compared(entries=sums.size, wrong=differing(model.gram, sums), derived=off, limit=REFRESH_RESIDUAL)

    def own(self, model: LinearModel, rows: Rows) -> NDArray[np.float64]:
        """(x'P)_j / P_jj: the smaller, the better the row was fitted."""
        return own_residuals(model, rows)

    def left_out(self, model: LinearModel, rows: Rows, after: Rows) -> tuple[NDArray[np.float64], float | None]:
        """In closed form (see `compared.left_out`, and `compared.shortened` where rows stay)."""
        return shortened(model, rows, after) if after.nnz else left_out(model, rows)

    def replays(self, model: LinearModel, rows: Rows, after: Rows, sums: Gram) -> bool:
        """G - S'S + T'T, in place and back: integers leave no trace."""
        for part, sign in ((rows, -1), (after, 1)):
            add_rows(model.gram, part, sign)
        same = np.array_equal(model.gram, sums)
        for part, sign in ((after, -1), (rows, 1)):
            add_rows(model.gram, part, sign)
        return same

    def sums_in(self, model: LinearModel) -> Gram:
        """G."""
        return model.gram

    def pair_counts(self, model: LinearModel) -> Gram | None:
        """G, where a user counts once for an item."""
        return model.gram if self.weights == "binary" else None

    def serving(self, model: LinearModel) -> Tensors:
        """What scores need and nothing else: P in float32, which is for serving only, because no residual would hold of it."""
        return {"inverse": torch.from_numpy(model.inverse.astype(np.float32))}

    def recovered(self, model: LinearModel, columns: NDArray[np.signedinteger[Any]]) -> Recovered:
        """Rows of the counts out of P alone; G is not read."""
        return from_inverse(model.inverse, self.lam, columns)

    def derived_state(self) -> tuple[str, ...]:
        """What else of a run derives from its users."""
        return ("inverse.npy (the inverse of the Gram matrix, a cache)", "inverse.json (whose inverse it is)")
