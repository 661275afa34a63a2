"""Top lists: each item's k best partners under a formula of three counts, ranked when they are first needed.

The lists are a cache of the pair counts C (I, I). After counts changed, a list is left alone, repaired or emptied, and in
each case what it then holds, or is ranked to when it is needed, is what a rebuild would give, bit for bit. That rests
on two things: values are IEEE operations on whole numbers, the same wherever they are computed, and ties go to the
smaller column.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.training.checkpoint import load_tensors, save_tensors

LISTS = "toplists.safetensors"
Columns = NDArray[np.int32]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Value = Callable[[Floats, Floats, Floats], Floats]
"""(C_ij, C_ii, C_jj) -> the value of j in i's list, above 0 where C_ij is."""
_BLOCK = 1024


class TopLists:
    """`columns` (I, k) int32, best first, -1 behind the last; `values` (I, k); `fresh` (I,): is the list there?

    Partners have C_ij >= `support` (1 or more). `pairs` is kept, not copied: whoever changes it calls `spoil`. `ranked`
    and `repaired` count what was done to lists so far.
    """

    def __init__(self, pairs: NDArray[np.signedinteger[Any]], value: Value, size: int, support: int = 1) -> None:
        self.pairs, self.value, self.support = pairs, value, support
        self.size = max(1, min(size, len(pairs) - 1))
        self.columns = np.full((len(pairs), self.size), -1, np.int32)
        self.values = np.zeros((len(pairs), self.size))
        self.fresh = np.zeros(len(pairs), bool)
        self.ranked = self.repaired = 0
        self._own = np.diagonal(pairs).astype(np.float64)

    def row(self, item: int) -> tuple[Columns, Floats]:
        """An item's partners and their values, best first."""
        if not self.fresh[item]:
            self._rank(item)
        length = int(np.count_nonzero(self.columns[item] >= 0))
        return self.columns[item, :length], self.values[item, :length]

    def settle(self) -> None:
        """Rank every list that is not there."""
        for item in np.flatnonzero(~self.fresh).tolist():
            self._rank(item)

    def spoil(self, items: Columns) -> None:
        """Follow a change of C_ij for pairs with i or j in `items` (ascending, no other pair may have changed).

        An item's own count is in all values of its list, so these lists are emptied. In another list only the values of
        `items` are new: nothing moves while those it holds are worth what they were and no other gets in.
        """
        self._own[items] = self.pairs[items, items]
        self._empty(items)
        for start in range(0, len(self.pairs), _BLOCK):
            rows = start + np.flatnonzero(self.fresh[start : start + _BLOCK])
            new, (old, listed) = self._values(rows, items), self._listed(rows, items)
            last = self.values[rows, -1:], self.columns[rows, -1:]
            better = (new > last[0]) | ((new == last[0]) & (items < last[1]))
            moved = np.where(listed, new != old, better).any(axis=1)
            self._repair(rows[moved], items, new[moved], ((listed | better) & (new > 0))[moved])

    def _repair(self, rows: NDArray[np.int64], items: Columns, new: Floats, wanted: Flags) -> None:
        """Put merged lists in the place of the old ones where they are right, and empty the others.

        All that a merge leaves out was worse than the list's old last entry; so the merged list is right if the old one
        was short, because then it held everything, or if the new last entry is no worse than the old.
        """
        columns, values = self._merged(rows, items, new, wanted)
        value, column, old, held = values[:, -1], columns[:, -1], self.values[rows, -1], self.columns[rows, -1]
        sound = (held < 0) | ((column >= 0) & ((value > old) | ((value == old) & (column <= held))))
        self._empty(rows[~sound])
        self.columns[rows[sound]], self.values[rows[sound]] = columns[sound], values[sound]
        self.repaired += int(sound.sum())

    def _merged(self, rows: NDArray[np.int64], items: Columns, new: Floats, wanted: Flags) -> tuple[Columns, Floats]:
        """(R, k) lists without `items`, but with those of them that are wanted (R, S) at their new values."""
        stays = (self.columns[rows] >= 0) & ~np.isin(self.columns[rows], items, kind="table")
        comes, which = np.nonzero(wanted)
        row = np.concatenate([np.nonzero(stays)[0], comes])
        column = np.concatenate([self.columns[rows][stays], items[which]])
        value = np.concatenate([self.values[rows][stays], new[wanted]])
        order = np.lexsort((column, -value, row))
        row, column, value = row[order], column[order], value[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        row, column, value, rank = (part[rank < self.size] for part in (row, column, value, rank))
        columns, values = np.full((len(rows), self.size), -1, np.int32), np.zeros((len(rows), self.size))
        columns[row, rank], values[row, rank] = column, value
        return columns, values

    def _values(self, rows: NDArray[np.int64], items: Columns) -> Floats:
        """(R, S) value of each of `items` in each list now, 0 where it has no place there."""
        counts = self.pairs[np.ix_(rows, items)]
        one, other = np.maximum(self._own[rows][:, None], 1.0), np.maximum(self._own[items], 1.0)
        return np.where(counts >= self.support, self.value(counts.astype(np.float64), one, other), 0.0)

    def _listed(self, rows: NDArray[np.int64], items: Columns) -> tuple[Floats, Flags]:
        """(R, S) value each of `items` has in each list as it stands, and whether it is there."""
        place = np.full(len(self.pairs) + 1, -1, np.int64)  # the last is for -1, behind the end of a list
        place[items] = np.arange(len(items))
        at = place[self.columns[rows]]
        row, rank = np.nonzero(at >= 0)
        old, listed = np.zeros((len(rows), len(items))), np.zeros((len(rows), len(items)), bool)
        listed[row, at[row, rank]] = True
        old[row, at[row, rank]] = self.values[rows[row], rank]
        return old, listed

    def _rank(self, item: int) -> None:
        found = np.flatnonzero(self.pairs[item] >= self.support).astype(np.int32)
        found = found[found != item]
        values = self._values(np.array([item]), found)[0]
        if len(found) > self.size:
            worst = np.partition(values, len(values) - self.size)[len(values) - self.size]
            found, values = found[values >= worst], values[values >= worst]
        order = np.argsort(-values, kind="stable")[: self.size]  # found ascends, so ties go to the smaller column
        self.columns[item, : len(order)], self.values[item, : len(order)] = found[order], values[order]
        self.fresh[item] = True
        self.ranked += 1

    def _empty(self, rows: NDArray[np.signedinteger[Any]]) -> None:
        """Nothing of an old list is left: it may hold an item that only a deleted user had."""
        self.fresh[rows], self.columns[rows], self.values[rows] = False, -1, 0.0


def save_lists(folder: Path, lists: TopLists, digest: str) -> None:
    """Write all lists beside the model of this digest.

    They are settled first: which lists are missing after a deletion would say what the deleted user had.
    """
    lists.settle()
    tensors = {"columns": torch.from_numpy(lists.columns), "values": torch.from_numpy(lists.values)}
    save_tensors(folder / LISTS, tensors, {"model": digest})


def read_lists(folder: Path, digest: str, blank: TopLists) -> TopLists:
    """`blank` with the lists stored beside the model, or as it is where there are none or they are another model's."""
    if not (folder / LISTS).exists():
        return blank
    tensors, labels = load_tensors(folder / LISTS)
    columns, values = (tensors[name].numpy() if name in tensors else None for name in ("columns", "values"))
    if labels.get("model") != digest or columns is None or values is None:
        return blank
    if (columns.dtype, columns.shape, values.dtype, values.shape) == _layout(blank):
        blank.columns, blank.values = columns, values
        blank.fresh[:] = True
    return blank


def _layout(lists: TopLists) -> tuple[object, ...]:
    return lists.columns.dtype, lists.columns.shape, lists.values.dtype, lists.values.shape
