"""Recommendation quality of one model on U test users: metrics gathered batch by batch, by segment, and what is shown.

I items, k places a list. The tally never holds more than one batch of scores, so 10,000 users by 20,000 items need a few
hundred megabytes at 256 users a batch, and 8·U·max(k) bytes for the lists.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite
from expunge.stats.intervals import Bounds
from expunge.stats.ranking import (
    NONE,
    HeldRanks,
    Ints,
    ItemLists,
    PerUser,
    disjoint,
    integers,
    ndcg,
    ranks_in,
    recall,
    recommended,
    top_k,
)


class RankingTally:
    """Takes scores in batches of users, in any order and each user once, and keeps only their top-k lists.

    `seen` and `held` are the fold-in and held-out items of all U users, disjoint; `ks` the list lengths wanted, each in
    1..I. Reading before every user was scored raises CheckBroken: a metric over some users is not the metric.
    """

    def __init__(self, seen: ItemLists, held: ItemLists, ks: Sequence[int]) -> None:
        if len(seen) != len(held) or seen.items != held.items:
            raise CheckBroken("seen and held are not of the same users and items", got=f"{len(seen)}, {len(held)}")
        if not ks or min(ks) < 1 or max(ks) > seen.items:
            raise CheckBroken("list lengths expected", expected=f"1..{seen.items}", got=str(list(ks)))
        disjoint(seen, held)
        self._seen, self._held, self._ks = seen, held, frozenset(ks)
        self._lists = np.full((len(seen), max(ks)), NONE, dtype=np.int64)
        self._scored = np.zeros(len(seen), bool)

    def add(self, users: ArrayLike, scores: ArrayLike) -> None:
        """Scores (B, I) of the test users (B,), by row number. Raises CheckBroken when a user comes twice."""
        rows = integers("users", users)
        seen = self._seen.rows(rows)
        if np.unique(rows).size != rows.size or self._scored[rows].any():
            raise CheckBroken("a user is scored twice", hint="give every test user in exactly one batch")
        self._lists[rows] = top_k(scores, seen, self._lists.shape[1])
        self._scored[rows] = True

    def lists(self, k: int) -> Ints:
        """(U, k) columns, best first, −1 where a user has no more."""
        if k not in self._ks:
            raise CheckBroken("a list length that was not asked for", expected=str(sorted(self._ks)), got=str(k))
        if not self._scored.all():
            missing = int((~self._scored).sum())
            raise CheckBroken(
                "not every test user was scored", expected=f"{self._scored.size}", got=f"{missing} missing"
            )
        return self._lists[:, :k].copy()

    def ranks(self, k: int) -> HeldRanks:
        """The held-out items' ranks down to depth k."""
        return ranks_in(self.lists(k), self._held)

    def ndcg(self, k: int) -> PerUser:
        """NDCG@k a user with held-out items."""
        return ndcg(self.ranks(k), k)

    def recall(self, k: int) -> PerUser:
        """Recall@k a user with held-out items."""
        return recall(self.ranks(k), k)

    def exposure(self, k: int) -> Ints:
        """(I,) how many of all U lists show an item, users without held-out items included: they are served as well."""
        return exposure(self.lists(k), self._held.items)


def exposure(lists: ArrayLike, items: int) -> Ints:
    """(I,) how many of the lists (U, k) show an item."""
    table = recommended(lists, items)
    return np.bincount(table[table != NONE], minlength=items).astype(np.int64)


def quantile_segments(amounts: ArrayLike, groups: int) -> Ints:
    """(N,) segment 0 (least) to groups − 1 (most) of users by activity or of items by popularity.

    The number of quantiles 1/groups, …, (groups − 1)/groups of the N amounts, as values that occur, that lie below the
    amount. Equal amounts are never parted, so segments differ in size and some may be empty.
    """
    column = finite("amounts", amounts, (None,))
    if groups < 2 or not column.size:
        raise CheckBroken("amounts and at least 2 segments expected", got=f"{column.size} and {groups}")
    edges = np.quantile(column, np.arange(1, groups) / groups, method="inverted_cdf")
    return np.searchsorted(edges, column, side="left").astype(np.int64)


def by_users(found: PerUser, segment: ArrayLike, groups: int) -> tuple[PerUser, ...]:
    """A metric of each segment of users; segment (U,) of all test users. `left_out` are those of the segment."""
    label = _segment(segment, groups)
    total = found.users.size + found.left_out
    if label.size != total:
        raise CheckBroken("a segment of every test user expected", expected=str(total), got=str(label.size))
    mine = label[found.users]
    sizes = np.bincount(label, minlength=groups)
    parts = [mine == number for number in range(groups)]
    return tuple(
        PerUser(values=found.values[part], users=found.users[part], left_out=int(size - part.sum()))
        for part, size in zip(parts, sizes, strict=True)
    )


def by_items(
    found: HeldRanks, segment: ArrayLike, groups: int, k: int, metric: Callable[[HeldRanks, int], PerUser] = ndcg
) -> tuple[PerUser, ...]:
    """A metric restricted to the held-out items of each segment of items; segment (I,).

    Only these count as relevant, in the sum and in its ideal, but they stand where the whole catalogue puts them: other
    held-out items above them cost places, so 1 may be out of reach. A user with none of them is left out there.
    """
    label = _segment(segment, groups)
    return tuple(metric(found.of_items(label == number), k) for number in range(groups))


def coverage(shown: ArrayLike) -> float:
    """Share in [0, 1] of the I items that are in at least one list; `shown` (I,) is an exposure."""
    return float((_counts("exposure", shown) > 0).mean())


def gini(shown: ArrayLike) -> float:
    """Gini index of exposure (I,), in [0, 1]: 0 when all items are shown alike, 1 when one item has it all.

    Σ (2j − I − 1)·c₍ⱼ₎ / ((I − 1)·Σ c), counts ascending (Shani and Gunawardana 2011, section on diversity).
    Raises CheckBroken when nothing is shown or there is one item.
    """
    counts = np.sort(_counts("exposure", shown))
    items, total = counts.size, float(counts.sum())
    if items < 2 or total <= 0:
        raise CheckBroken("two items and something shown expected", got=f"{items} items, {total:g} places")
    return float((2 * np.arange(1, items + 1) - items - 1) @ counts / ((items - 1) * total))


def novelty(shown: ArrayLike, popularity: ArrayLike, users: int) -> float:
    """Mean self-information in bits of what is shown, over all places of all lists: higher = less popular items.

    −log₂((p + 1)/(n + 1)) of an item that p of n training `users` have; Zhou et al. 2010 use p/n, which is infinite for
    an item that nobody has. `shown` (I,) is an exposure, `popularity` (I,) the p. Raises CheckBroken if nothing is shown.
    """
    counts = _counts("exposure", shown)
    known = _counts("popularity", popularity)
    if known.size != counts.size or known.max(initial=0) > users or counts.sum() <= 0:
        raise CheckBroken("exposure and popularity of the same items expected", got=f"{counts.size}, {known.size}")
    return float(-np.log2((known + 1) / (users + 1)) @ counts / counts.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivityGap:
    """`gap`: mean of the most active users minus mean of the least active, with its interval; `least` and `most` are the
    two means, None where a segment has nobody to measure."""

    gap: Bounds
    least: float | None
    most: float | None
    n_least: int
    n_most: int


def activity_gap(found: PerUser, segment: ArrayLike, groups: int, *, alpha: float = 0.05) -> ActivityGap:
    """How much better the most active test users are served than the least active, in units of the metric.

    Mean over segment groups − 1 minus mean over segment 0, signed, users with equal weight, segments between the two
    ignored; Welch's interval at 1 − alpha. Above 0: active users are served better. The comparison of CURE4Rec's A-IGF
    (active − inactive NDCG; Chen et al. 2024), which cuts the users differently. With a PerUser of differences after −
    before it is the change of the gap, on the same users. No numbers and a reason where a segment has fewer than 2.
    """
    if not 0 < alpha < 1:
        raise CheckBroken("alpha in (0, 1) expected", got=str(alpha))
    parts = by_users(found, segment, groups)
    low, high = parts[0].values, parts[-1].values
    return ActivityGap(
        gap=_welch(high, low, alpha),
        least=float(low.mean()) if low.size else None,
        most=float(high.mean()) if high.size else None,
        n_least=low.size,
        n_most=high.size,
    )


def _welch(first: Floats, second: Floats, alpha: float) -> Bounds:
    method = "Welch"
    if min(first.size, second.size) < 2:
        reason = f"segments of {second.size} and {first.size} users; 2 in each are needed"
        return Bounds(estimate=None, low=None, high=None, level=1 - alpha, method=method, reason=reason)
    gap = float(first.mean() - second.mean())
    parts = [float(values.var(ddof=1)) / values.size for values in (first, second)]
    error = math.sqrt(sum(parts))
    if error <= 0:
        return Bounds(estimate=gap, low=gap, high=gap, level=1 - alpha, method="no spread")
    freedom = error**4 / sum(part**2 / (n - 1) for part, n in zip(parts, (first.size, second.size), strict=True))
    half = float(special.stdtrit(freedom, 1 - alpha / 2)) * error
    return Bounds(estimate=gap, low=gap - half, high=gap + half, level=1 - alpha, method=method)


def _segment(segment: ArrayLike, groups: int) -> Ints:
    label = integers("segments", segment)
    if groups < 2 or (label.size and not (label.min() >= 0 and label.max() < groups)):
        raise CheckBroken("segment numbers expected", expected=f"0..{groups - 1}, at least 2", got=str(label)[:60])
    return label


def _counts(name: str, values: ArrayLike) -> Floats:
    """Counts (I,) of at least one item, as float64."""
    column = finite(name, values, (None,))
    if not column.size or column.min() < 0:
        raise CheckBroken(f"{name} is not a count of each item", got=f"{column.size} items")
    return column
