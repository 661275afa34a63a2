"""How a recommender ranks held-out items: over the whole catalogue, never a sample, with what a user has masked.

U test users, I items (columns), B users in a batch, E entries of a CSR. A higher score is recommended first, rank 1 is
the top. Sampled metrics need not order models as full ones do (Krichene and Rendle 2020), so there are none here.

Ties: equal scores stand in one fixed, scrambled order of the columns (`tie_order`), the same for every model, user and
batch. It knows nothing of popularity, of the order of ids or of what is held out, so a model that scores everything
alike gets what a random list gets; the column order would hand it the popular items of a sorted catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, booleans, finite

Ints = NDArray[np.int64]

NONE = -1
"""Fills a list of a user who has fewer than k items left to recommend."""
_TIES = 0x65787075_6E67652F_74696573_2F763100  # "expunge/ties/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemLists:
    """One list of items a user: `indptr` (U + 1,) and `indices` (E,) of a CSR over `items` = I columns, ascending and
    so distinct within a user. Raises CheckBroken on anything else."""

    indptr: Ints
    indices: Ints
    items: int

    def __post_init__(self) -> None:
        ends, columns = self.indptr, self.indices
        if ends.ndim != 1 or columns.ndim != 1 or not ends.size or ends[0] != 0 or ends[-1] != columns.size:
            raise CheckBroken("indptr does not fit indices", expected=f"0..{columns.size}", got=str(ends)[:60])
        if (np.diff(ends) < 0).any():
            raise CheckBroken("indptr falls", expected="ends in ascending order", got=str(ends)[:60])
        if columns.size and not (columns.min() >= 0 and columns.max() < self.items):
            raise CheckBroken("item columns out of range", expected=f"0..{self.items - 1}")
        falls = np.diff(columns) <= 0
        falls[ends[1:-1][(ends[1:-1] > 0) & (ends[1:-1] < columns.size)] - 1] = False  # from one user to the next
        if falls.any():
            hint = "sort the columns of every user and keep each once"
            raise CheckBroken("item columns repeat or fall within a user", got=f"{int(falls.sum())} times", hint=hint)

    @classmethod
    def of(cls, indptr: ArrayLike, indices: ArrayLike, items: int) -> ItemLists:
        """From the arrays of a CSR, for instance of `Histories` or of a canonical scipy matrix."""
        return cls(indptr=integers("indptr", indptr), indices=integers("indices", indices), items=items)

    @classmethod
    def of_lists(cls, lists: Iterable[Iterable[int]], items: int) -> ItemLists:
        """From one list of columns a user, in any order."""
        rows = [sorted(row) for row in lists]
        flat = [column for row in rows for column in row]
        ends = np.cumsum([0, *(len(row) for row in rows)])
        return cls(indptr=ends.astype(np.int64), indices=np.array(flat, dtype=np.int64), items=items)

    def __len__(self) -> int:
        return self.indptr.size - 1

    @property
    def sizes(self) -> Ints:
        """(U,) entries a user."""
        return np.diff(self.indptr)

    @property
    def owners(self) -> Ints:
        """(E,) the user of each entry."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def row(self, user: int) -> Ints:
        """A user's columns."""
        return self.indices[self.indptr[user] : self.indptr[user + 1]]

    def rows(self, users: ArrayLike) -> ItemLists:
        """The lists of these users (B,), in this order."""
        chosen = integers("users", users)
        if chosen.size and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise CheckBroken("users out of range", expected=f"0..{len(self) - 1}")
        lists = [self.row(user) for user in chosen.tolist()]
        ends = np.concatenate([[0], np.cumsum(self.sizes[chosen])]).astype(np.int64)
        flat = np.concatenate(lists) if lists else np.zeros(0, np.int64)
        return ItemLists(indptr=ends, indices=flat, items=self.items)

    def where(self, mask: ArrayLike) -> ItemLists:
        """The entries (E,) that are chosen, for instance by a split; every user stays, if with an empty list."""
        keep = booleans("mask of entries", mask, (self.indices.size,))
        ends = np.concatenate([[0], np.cumsum(keep)])[self.indptr]
        return ItemLists(indptr=ends.astype(np.int64), indices=self.indices[keep], items=self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRanks:
    """`ranks` (E,) of the entries of `held`, from 1; what lies beyond `depth` has the rank depth + 1."""

    held: ItemLists
    ranks: Ints
    depth: int

    def of_items(self, chosen: ArrayLike) -> HeldRanks:
        """Only the held-out items among `chosen`, a mask (I,). Their ranks stay those among the whole catalogue."""
        keep = booleans("mask of items", chosen, (self.held.items,))[self.held.indices]
        return HeldRanks(held=self.held.where(keep), ranks=self.ranks[keep], depth=self.depth)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerUser:
    """`values` (n,) of a metric in [0, 1], higher = better, or differences of it, and the `users` (n,) they belong to,
    ascending. The `left_out` users had nothing held out: they are counted and get neither 0 nor 1."""

    values: Floats
    users: Ints
    left_out: int

    @property
    def mean(self) -> float:
        """Over the users that count. Raises CheckBroken when there is none."""
        if not self.values.size:
            raise CheckBroken("no user has a held-out item", hint="hold out events of users who have at least 2")
        return float(self.values.mean())


@lru_cache(maxsize=8)
def tie_order(items: int) -> Ints:
    """(I,) the columns as equal scores are listed: by a 64-bit Philox word a column, whose stream numpy keeps stable.

    A column's word does not depend on I, so new items at the end leave the order of the others alone.
    """
    if items < 1:
        raise CheckBroken("a catalogue of at least one item expected", got=str(items))
    order = np.argsort(np.random.Philox(key=_TIES).random_raw(items), kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order


def ranks_of(scores: ArrayLike, seen: ItemLists, held: ItemLists) -> HeldRanks:
    """The exact rank of every held-out item among all items the user has not seen.

    scores (B, I), higher = recommended first; `seen` the B users' fold-in items, which are masked; `held` their held-out
    items. Rank = 1 + unmasked items with a higher score + those with an equal score that stand before it in `tie_order`;
    other held-out items count like any. Raises CheckBroken on NaN or infinity (mask with `seen`, not with −∞), on
    another shape, and on an item that is both seen and held out.
    """
    table = _table(scores, seen)
    if len(held) != len(seen) or held.items != seen.items:
        raise CheckBroken("seen and held are not of the same users and items", got=f"{len(seen)} and {len(held)} users")
    disjoint(seen, held)
    place = np.argsort(tie_order(seen.items))
    found = [_row_ranks(row, seen.row(user), held.row(user), place) for user, row in enumerate(table)]
    ranks = np.concatenate(found) if found else np.zeros(0, np.int64)
    return HeldRanks(held=held, ranks=ranks, depth=held.items)


def _row_ranks(row: Floats, seen: Ints, held: Ints, place: Ints) -> Ints:
    open_ = np.ones(row.size, bool)
    open_[seen] = False
    ladder, values = np.sort(row[open_]), row[held]
    below_or_equal = np.searchsorted(ladder, values, side="right")
    equal = below_or_equal - np.searchsorted(ladder, values, side="left")
    before = ladder.size - below_or_equal
    for n in np.flatnonzero(equal > 1):
        before[n] += np.count_nonzero(open_ & (row == values[n]) & (place < place[held[n]]))
    return np.asarray(before + 1, dtype=np.int64)


def top_k(scores: ArrayLike, seen: ItemLists, k: int) -> Ints:
    """(B, k) columns of the best unseen items, best first, ties as in `ranks_of`; −1 where a user has fewer left.

    Raises CheckBroken as `ranks_of`, and unless 1 <= k <= I.
    """
    table = _table(scores, seen)
    if not 1 <= k <= seen.items:
        raise CheckBroken("a list of 1 to I items expected", expected=f"1..{seen.items}", got=str(k))
    order = tie_order(seen.items)
    lists = np.full((len(seen), k), NONE, dtype=np.int64)
    for user, row in enumerate(table):
        best = _row_top(row, seen.row(user), order, k)
        lists[user, : best.size] = best
    return lists


def _row_top(row: Floats, seen: Ints, order: Ints, k: int) -> Ints:
    open_ = np.ones(row.size, bool)
    open_[seen] = False
    columns = order[open_[order]]
    values = row[columns]
    if values.size > k:  # everything at or above the k-th value, so that ties at the edge are not cut at random
        keep = values >= np.partition(values, values.size - k)[values.size - k]
        columns, values = columns[keep], values[keep]
    return columns[np.argsort(-values, kind="stable")[:k]]


def ranks_in(lists: ArrayLike, held: ItemLists) -> HeldRanks:
    """The ranks of held-out items in top-k lists (U, k): exact up to depth k, k + 1 for what is in no list."""
    table = recommended(lists, held.items)
    if table.shape[0] != len(held):
        raise CheckBroken("lists and held-out items of the same users expected", got=f"{len(table)} and {len(held)}")
    wanted = held.owners * held.items + held.indices  # ascending, because columns are
    user, place = np.nonzero(table != NONE)
    shown = user * held.items + table[user, place]
    at = np.searchsorted(wanted, shown)
    hit = np.isin(shown, wanted)
    ranks = np.full(wanted.size, table.shape[1] + 1, dtype=np.int64)
    ranks[at[hit]] = place[hit] + 1
    return HeldRanks(held=held, ranks=ranks, depth=table.shape[1])


def ndcg(found: HeldRanks, k: int) -> PerUser:
    """Truncated NDCG@k with binary relevance, one value a user (Liang et al. 2018, Metrics).

    Σ 1/log₂(rank + 1) over held-out items in the top k, over the same sum with the first min(k, |held|) ranks full.
    Added from the top rank down, so equal sets of ranks give equal bits and a perfect list exactly 1.
    """
    _depth(found, k)
    discount = 1 / np.log2(np.arange(2, k + 2))
    order = np.lexsort((found.ranks, found.held.owners))
    ranks, owners = found.ranks[order], found.held.owners[order]
    gains = np.where(ranks <= k, discount[np.minimum(ranks, k) - 1], 0.0)
    total = np.bincount(owners, weights=gains, minlength=len(found.held))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(found.held.sizes, k)]
    return _per_user(total, ideal)


def recall(found: HeldRanks, k: int) -> PerUser:
    """Recall@k, one value a user: held-out items in the top k over min(k, |held|), not over |held|.

    The convention of Liang et al. 2018: a list full of hits is 1 even for a user who has more than k held out.
    """
    _depth(found, k)
    hits = np.bincount(found.held.owners, weights=found.ranks <= k, minlength=len(found.held))
    return _per_user(hits, np.minimum(found.held.sizes, k))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How alike two models' lists are, order aside, one value in [0, 1] for each of n `users` (n,).

    `shared`: common items over the longer list's length; `jaccard`: over their union. Users whose two lists are both
    empty are `left_out`.
    """

    shared: Floats
    jaccard: Floats
    users: Ints
    left_out: int

    @property
    def mean_shared(self) -> float | None:
        """None when every list is empty."""
        return float(self.shared.mean()) if self.shared.size else None

    @property
    def mean_jaccard(self) -> float | None:
        """None when every list is empty."""
        return float(self.jaccard.mean()) if self.jaccard.size else None


def overlap(first: ArrayLike, second: ArrayLike, items: int) -> Overlap:
    """Compare two models' lists (U, k) of the same users over I items. Raises CheckBroken on unequal shapes."""
    one, two = recommended(first, items), recommended(second, items)
    if one.shape != two.shape:
        raise CheckBroken("lists of the same users and length expected", got=f"{one.shape} and {two.shape}")
    both = np.sort(np.concatenate([one, two], axis=1), axis=1)
    common = np.count_nonzero((both[:, 1:] == both[:, :-1]) & (both[:, 1:] != NONE), axis=1)
    sizes = np.stack([np.count_nonzero(lists != NONE, axis=1) for lists in (one, two)])
    users = np.flatnonzero(sizes.max(axis=0))
    common, sizes = common[users], sizes[:, users]
    return Overlap(
        shared=np.asarray(common / sizes.max(axis=0), dtype=np.float64),
        jaccard=np.asarray(common / (sizes.sum(axis=0) - common), dtype=np.float64),
        users=users.astype(np.int64),
        left_out=one.shape[0] - users.size,
    )


def recommended(lists: ArrayLike, items: int) -> Ints:
    """Top-k lists (U, k), checked: columns of I or −1, none twice for a user. Raises CheckBroken otherwise."""
    table = integers("lists", lists, 2)
    if not table.shape[1] or (table.size and not (table.min() >= NONE and table.max() < items)):
        raise CheckBroken("lists hold something else than item columns", expected=f"-1 or 0..{items - 1}")
    ordered = np.sort(table, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != NONE)).any():
        raise CheckBroken("a list recommends an item twice")
    return table


def disjoint(seen: ItemLists, held: ItemLists) -> None:
    """Raises CheckBroken when a held-out item is masked: it could never be found, and the user looks badly served."""
    masked = np.isin(held.owners * held.items + held.indices, seen.owners * seen.items + seen.indices)
    if masked.any():
        raise CheckBroken("items are both seen and held out", expected="disjoint parts", got=f"{masked.sum()} items")


def integers(name: str, values: ArrayLike, dimensions: int = 1) -> Ints:
    """The values as int64. Raises CheckBroken on anything but whole numbers in that many dimensions."""
    try:
        array: NDArray[Any] = np.asarray(values)
    except ValueError as error:
        raise CheckBroken(f"{name} is not an array", got=str(error)[:120]) from error
    if array.ndim != dimensions or (array.size and array.dtype.kind not in "iu"):
        got = f"{array.ndim} dimensions of {array.dtype}"
        raise CheckBroken(f"{name} is not an array of integers", expected=f"{dimensions} dimensions", got=got)
    return array.astype(np.int64)


def _table(scores: ArrayLike, seen: ItemLists) -> Floats:
    return finite("scores", scores, (len(seen), seen.items))


def _depth(found: HeldRanks, k: int) -> None:
    if not 1 <= k <= found.depth:
        raise CheckBroken("ranks are not known that deep", expected=f"k in 1..{found.depth}", got=str(k))


def _per_user(total: ArrayLike, ideal: ArrayLike) -> PerUser:
    """Where there is an ideal, the share of it that was reached."""
    top, bottom = np.asarray(total, dtype=np.float64), np.asarray(ideal, dtype=np.float64)
    users = np.flatnonzero(bottom > 0)
    return PerUser(values=top[users] / bottom[users], users=users.astype(np.int64), left_out=bottom.size - users.size)
