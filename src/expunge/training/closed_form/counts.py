"""Recommenders whose sums are counts: integers that a deletion subtracts, and nothing else that has to be kept.

A family says in one function, `add`, what a user's row adds to its sums. Taking users out, single events, time windows
and batches all follow from it: rows as they were are taken off, rows as they are to be are put on. Integers commute, so
what is left equals what was never there, bit for bit. A rational or real weight per event or user (a decay, 1 / degree)
is a whole number of 2^-b too, rounded down once and for all before anything is summed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import Progress, silent
from expunge.data._interactions import Histories
from expunge.training.checkpoint import Tensors
from expunge.training.closed_form.compared import Compared, differing
from expunge.training.closed_form.gram import Rows, from_triangle, triangle
from expunge.training.closed_form.recommender import MODEL, Recommender

Integers = NDArray[np.signedinteger[Any]]
Sums = dict[str, Integers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """One of a family's sums: integers of `dtype` over no (), one (I,) or two (I, I) axes of items.

    Two axes are symmetric and stored as a triangle.
    """

    dtype: type[np.signedinteger[Any]]
    axes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountModel:
    """A counting recommender in memory: its sums by name. `erase` of the family changes them in place."""

    sums: Sums


class CountRecommender(Recommender):
    """Base of the counting families: `sums` names what is counted, `add` counts it."""

    sums: Mapping[str, Sum]
    label = "counts"

    @abstractmethod
    def add(self, sums: Sums, rows: Rows, sign: int) -> None:
        """Add (`sign` 1) or take off (-1) what the rows (k, I) contribute, in place. Rows without entries are nothing."""

    def matrix(self, histories: Histories) -> Rows:
        """Ones: who had what."""
        return histories.matrix("binary")

    def sums_of(self, rows: Rows) -> Sums:
        """The counts over all rows."""
        sums = {name: np.zeros((self.items,) * kind.axes, kind.dtype) for name, kind in self.sums.items()}
        self.add(sums, rows, 1)
        return sums

    def derived(self, rows: Rows, sums: Sums) -> Any:
        """Nothing."""
        return None

    def erase(self, model: Any, before: Rows, after: Rows) -> None:
        """Replace rows `before` (k, I) by `after` (k, I, may be empty) in the model, in place: users, events, batches.

        Rows are what `matrix` makes of histories. Raises InputError, and leaves the model as it was, when counts would
        fall below zero, which means that rows are removed which the model does not hold.
        """
        if before.shape != after.shape or before.shape[1] != self.items:
            raise InputError("rows before and after are not the same users", got=f"{before.shape} and {after.shape}")
        self.add(model.sums, before, -1)
        self.add(model.sums, after, 1)
        if _short(model.sums, np.unique(before.indices)):
            self.add(model.sums, after, -1)
            self.add(model.sums, before, 1)
            raise InputError("rows are removed that the model does not hold", expected="counts of 0 and more")

    def subtracted(
        self, source: Path, before: Rows, after: Rows, folder: Path, progress: Progress = silent
    ) -> tuple[Sums, Any]:
        """The counts of a stored model with other rows, and what is kept beside them."""
        model = self.load(source / MODEL)
        self.erase(model, before, after)
        return model.sums, self.settled(model)

    def settled(self, model: Any) -> Any:
        """What is kept beside the sums, in the state a fit would have left it in."""
        return None

    def save(self, folder: Path, sums: Sums, derived: Any) -> str:
        """Write the counts, from which everything else follows."""
        return self.store(folder, self.packed(sums))

    def load(self, path: Path) -> Any:
        """The model in a file. Raises IntegrityError on another family's, another size's or other settings' file."""
        return CountModel(sums=self.unpacked(self.stored(path), path.name))

    @property
    def tensors(self) -> frozenset[str]:  # type: ignore[override]
        """The sums, and the settings."""
        return frozenset({*self.sums, "settings"})

    def packed(self, sums: Sums) -> Tensors:
        """Counts by name, of pairs the upper triangle."""
        plain = {name: triangle(sums[name]) if kind.axes == 2 else sums[name] for name, kind in self.sums.items()}
        return {name: torch.from_numpy(np.asarray(values)) for name, values in plain.items()}

    def unpacked(self, tensors: Tensors, what: str) -> Sums:
        """Counts by name, whole."""
        return {name: self._sum(tensors, name) for name in self.sums}

    def model_of(self, sums: Sums, derived: Any) -> Any:
        """The sums."""
        return CountModel(sums=sums)

    def compared(self, model: Any, rows: Rows, sums: Sums, generator: np.random.Generator) -> Compared:
        """Every count. Nothing is kept beside them."""
        wrong = sum(differing(model.sums[name], sums[name]) for name in sums)
        return Compared(entries=sum(found.size for found in sums.values()), wrong=wrong, derived=None, limit=0.0)

    def own(self, model: Any, rows: Rows) -> NDArray[np.float64]:
        """Scores of the rows' own items."""
        where = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
        found: NDArray[np.float64] = self.outputs(model, rows)[where, rows.indices]
        return found

    def left_out(self, model: Any, rows: Rows, after: Rows) -> tuple[NDArray[np.float64], float | None]:
        """From counts that the rows are taken off."""
        sums = self._without(model, rows, after)
        return self.own(self.model_of(sums, self.derived(rows, sums)), rows), None

    def replays(self, model: Any, rows: Rows, after: Rows, sums: Sums) -> bool:
        """The counts minus what the rows contribute, and with what the others do."""
        found = self._without(model, rows, after)
        return found.keys() == sums.keys() and all(np.array_equal(found[name], sums[name]) for name in sums)

    def _without(self, model: Any, rows: Rows, after: Rows) -> Sums:
        sums = {name: found.copy() for name, found in model.sums.items()}
        self.add(sums, rows, -1)
        self.add(sums, after, 1)
        return sums

    def sums_in(self, model: Any) -> Sums:
        """Counts by name."""
        found: Sums = model.sums
        return found

    def pair_counts(self, model: Any) -> NDArray[Any] | None:
        """A family that counts pairs holds them."""
        found: NDArray[Any] | None = model.sums.get("pairs")
        return found

    def derived_state(self) -> tuple[str, ...]:
        """What else of a run derives from its users."""
        return ()

    def _sum(self, tensors: Tensors, name: str) -> Integers:
        kind = self.sums[name]
        shape = (self.items * (self.items + 1) // 2,) if kind.axes == 2 else (self.items,) * kind.axes
        found: Integers = tensors[name].numpy() if name in tensors else np.zeros(0, np.int8)
        if found.dtype != kind.dtype or found.shape != shape:
            got = f"{found.dtype} {found.shape}" if name in tensors else "nothing"
            raise IntegrityError(f"{name} are not counts over {self.items} items", got=got)
        return from_triangle(found, self.items) if kind.axes == 2 else found


def histories_of(rows: Rows, items: int) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """(number, columns) of every row that has entries; columns ascend."""
    require_items(rows, items)
    for number in np.flatnonzero(np.diff(rows.indptr)).tolist():
        yield number, rows.indices[rows.indptr[number] : rows.indptr[number + 1]]


def require_items(rows: Rows, items: int) -> None:
    """Rows to be scored are over the items of the model."""
    if rows.shape[1] != items:
        raise InputError("histories are over other items", expected=f"{items} items", got=str(rows.shape[1]))


def require_binary(rows: Rows) -> Rows:
    """The rows, if they hold ones only."""
    if not (rows.data == 1).all():
        raise InputError("a family that counts users was given values", expected="ones", got=str(rows.data.max()))
    return rows


def _short(sums: Sums, touched: NDArray[np.int32]) -> bool:
    """Has any sum over the touched items fallen below zero?"""
    parts = [sums[name][np.ix_(*[touched] * sums[name].ndim)] if sums[name].ndim else sums[name] for name in sums]
    return any(int(part.min(initial=0)) < 0 for part in parts)
