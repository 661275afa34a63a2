"""Synthetic events of the shape of MovieLens 20M, for when there is no file that may be passed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from expunge.core.errors import DataError, InputError, InputProblems
from expunge.data._events import held_out, keyed_order
from expunge.data._interactions import Interactions, from_events, split_users

SHAPE = (136_677, 20_108, 10_000_000)  # users, items, events of ML-20M as Liang et al. 2018 prepare it
SPREAD = 1.016  # of log degree; with two heavy users E[d^2] is 15,900 at this shape, as in ML-20M, where E[d] is 73
TAIL, HEAD = 1.5, 170  # an item is drawn in proportion to (rank + items/HEAD)^-TAIL
TASTE = 0.8  # of the draws go to the user's own cluster
FEWEST = 5  # events a user, where there are as many
_CHUNK = 4096  # users; with the seed it is what a draw depends on
_ROUNDS = 6  # of drawing again, before what is missing is drawn at once
_MANY = 8  # a user of more than items/_MANY events is drawn at once
_DENSE = 1 << 22  # cells of users x items at a time
_STREAMS = {"popularity": 0, "degree": 1, "taste": 2}


@dataclass(frozen=True, kw_only=True)
class _Market:
    """Items by place: those of a cluster side by side. weight (I,), upper (I,) its running sum up to 1.

    low, high (C,): where a cluster's part of the running sum is. cluster (I,). item (I,): place -> column.
    """

    weight: NDArray[np.float64]
    upper: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    cluster: NDArray[np.int64]
    item: NDArray[np.int32]


class Powerlaw:
    """Users with a log-normal number of events, on items of power-law popularity, with tastes to learn.

    Every item belongs to one of `clusters`, every user likes one of them: 80 % of the draws come from there, the others
    from all items, and an item that the user has already is drawn again (so the number of a user's events is exact).
    The same seed and options give the same events on the same build of numpy. Ids are `user/000001`, `item/00001`.

    Options: users, items, events (default: 73 a user as in ML-20M, or a fifth of the items if that is less), seed,
    clusters (default 20; never fewer than ten items in one). heavy_users (default 2): so many of the training users
    have two fifths of all items, and nobody else more than a third; `heavy` names them. test_users: this many users are
    set apart, those whose ids have the smallest hashes. kind: `binary` (events), or `rating` (half a star to five,
    higher within the user's cluster).

    The default shape takes 9.6 seconds on one core (benchmarks/recommender/ml20m.json); its most popular item has 18,000 events.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        users: int = SHAPE[0],
        items: int = SHAPE[1],
        events: int | None = None,
        seed: int = 0,
        clusters: int = 20,
        heavy_users: int = 2,
        test_users: int = 0,
        kind: str = "binary",
    ) -> None:
        if path is not None:
            raise InputError("powerlaw is generated and takes no path", got=path)
        limits = {
            "users": (users, 10, 10_000_000),
            "items": (items, 10, 1_000_000),
            "seed": (seed, 0, 2**53 - 1),
            "clusters": (clusters, 1, 1_000_000),
            "heavy_users": (heavy_users, 0, 1000),
            "test_users": (test_users, 0, 10_000_000),
            "events": (1 if events is None else events, 1, 2_000_000_000),
        }
        problems = [
            f"{name} is a whole number in {low}..{high}, not {got!r}"
            for name, (got, low, high) in limits.items()
            if type(got) is not int or not low <= got <= high
        ]
        problems += [f"kind is binary or rating, not {kind!r}"] if kind not in ("binary", "rating") else []
        if problems:
            raise InputProblems("options of powerlaw", problems)
        self.users, self.items, self.seed, self.kind = users, items, seed, kind
        self.events = min(users * SHAPE[2] // SHAPE[0], users * items // 5) if events is None else events
        self.clusters = min(clusters, max(1, items // 10))
        self.heavy_users, self.test_users = heavy_users, test_users
        self._check_shape()

    def open(self, items: Sequence[str] | None = None) -> Interactions:
        """The data set, generated. The vocabulary follows from the options, so `items` can only be that."""
        ids = self._user_ids()
        market, degree = self._market(), self._degrees(ids)
        taste = _integers(self._stream("taste").random(self.users), self.clusters)
        item, value = [], []
        for start in range(0, self.users, _CHUNK):
            some = slice(start, start + _CHUNK)
            rng = self._stream(start)
            place = _drawn(rng, market, taste[some], degree[some])
            item.append(market.item[place])
            own = market.cluster[place] == np.repeat(taste[some], degree[some])
            value.append(_ratings(rng, own) if self.kind == "rating" else np.ones(len(place), np.uint8))
        user = np.repeat(np.arange(self.users, dtype=np.int32), degree)
        width = max(5, len(str(self.items)))
        names = [f"item/{number:0{width}d}" for number in range(1, self.items + 1)]
        if items is not None and list(items) != names:
            raise DataError("the vocabulary is another one", expected=f"{len(names)} items of powerlaw")
        histories = from_events(ids, names, user, np.concatenate(item), np.concatenate(value))
        train, test = split_users(histories, held_out(ids, self.test_users))
        scale = "implicit" if self.kind == "binary" else "half-stars"
        return Interactions(source="powerlaw", note=self._note(), scale=scale, train=train, test=test)

    @property
    def heavy(self) -> tuple[str, ...]:
        """Ids of the planted heavy users, ascending. They are the last who would be tested on."""
        ids = self._user_ids()
        return tuple(ids[row] for row in self._heavy_rows(ids))

    def _check_shape(self) -> None:
        """Raises InputError where so many events, heavy users and test users do not fit."""
        if self.test_users + self.heavy_users >= self.users:
            got = f"{self.test_users} and {self.heavy_users}"
            raise InputError("too many test and heavy users", expected=f"fewer than {self.users} together", got=got)
        heavy, others = self.heavy_users * self._heavy_degree, self.users - self.heavy_users
        low, high = heavy + others, heavy + others * self._most
        if not low <= self.events <= high:
            expected = f"{low}..{high} for {self.users} users and {self.items} items"
            raise InputError("events out of range", expected=expected, got=str(self.events))

    @property
    def _heavy_degree(self) -> int:
        return 2 * self.items // 5

    @property
    def _most(self) -> int:
        return self.items // 3

    def _note(self) -> str:
        parts = [f"synthetic, {self.events} events of {self.users} users on {self.items} items, seed {self.seed}"]
        parts += [f"{self.heavy_users} heavy users"] if self.heavy_users else []
        parts += [f"{self.test_users} test users"] if self.test_users else []
        return ", ".join(parts)

    def _stream(self, name: str | int) -> np.random.Generator:
        """Draws of a purpose, or of the users from this row on. Only uniform numbers, which do not change with numpy."""
        place = _STREAMS[name] if isinstance(name, str) else 8 + name
        return np.random.Generator(np.random.Philox(key=np.array([self.seed, place], np.uint64)))

    def _user_ids(self) -> list[str]:
        width = max(6, len(str(self.users)))
        return [f"user/{number:0{width}d}" for number in range(1, self.users + 1)]

    def _heavy_rows(self, ids: list[str]) -> list[int]:
        return sorted(keyed_order(ids)[self.users - self.heavy_users :])

    def _market(self) -> _Market:
        rank = np.arange(1, self.items + 1, dtype=np.float64)
        weight: NDArray[np.float64] = np.power(rank + max(5.0, self.items / HEAD), -TAIL)
        weight /= weight.sum()
        cluster = np.arange(self.items) % self.clusters  # by rank, so that clusters are about equally popular
        place = np.argsort(cluster, kind="stable")
        weight, cluster = weight[place], cluster[place]
        upper = np.cumsum(weight)
        upper /= upper[-1]
        ends = np.append(np.flatnonzero(np.diff(cluster)), self.items - 1)
        high = upper[ends]
        column = np.argsort(self._stream("popularity").random(self.items), kind="stable").astype(np.int32)
        low = np.append(0.0, high[:-1])
        return _Market(weight=weight, upper=upper, low=low, high=high, cluster=cluster, item=column[place])

    def _degrees(self, ids: list[str]) -> NDArray[np.int64]:
        """(U,) events of each user, `events` in all."""
        heavy = np.zeros(self.users, bool)
        heavy[self._heavy_rows(ids)] = True
        others = self.users - self.heavy_users
        total = self.events - self.heavy_users * self._heavy_degree
        size = np.exp(SPREAD * ndtri(self._stream("degree").random(others) * (1 - 2e-12) + 1e-12))
        degree = np.full(self.users, self._heavy_degree, np.int64)
        degree[~heavy] = _apportioned(size, total, min(FEWEST, total // others), self._most)
        return degree


def _apportioned(size: NDArray[np.float64], total: int, low: int, high: int) -> NDArray[np.int64]:
    """Whole numbers in low..high, in proportion to `size` as far as the limits allow, that sum to `total`."""
    least, most = 0.0, float(high) / float(size.min())
    for _ in range(200):
        scale = (least + most) / 2
        if np.clip(size * scale, low, high).sum() > total:
            most = scale
        else:
            least = scale
    exact = np.clip(size * least, low, high)
    whole = np.floor(exact).astype(np.int64)
    missing = total - int(whole.sum())
    room = np.where(whole < high, exact - whole, -1.0)
    whole[np.argsort(-room, kind="stable")[:missing]] += 1
    return whole


def _drawn(
    rng: np.random.Generator, market: _Market, taste: NDArray[np.int64], degree: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Places of the items of each user, by user: draws one after the other, those the user has already are skipped.

    A user who would need many draws gets the rest at once, by `_rest`, which has the same distribution.
    """
    users, count = len(degree), len(market.item)
    user, place = np.zeros(0, np.int64), np.zeros(0, np.int64)
    done = []
    active = degree * _MANY <= count
    missing = np.where(active, degree, 0)
    for attempt in range(_ROUNDS):
        if not active.any():
            break
        fresh = np.repeat(np.arange(users), np.where(active, missing * (5 + 2 * attempt) // 4 + 2, 0))
        user = np.concatenate([user, fresh])
        place = np.concatenate([place, _with_replacement(rng, market, taste[fresh])])
        user, place = _first_of_each(user, place, degree, count)
        missing = np.where(active, degree - np.bincount(user, minlength=users), 0)
        ready = missing[user] == 0
        done.append((user[ready], place[ready]))
        active &= missing > 0
        user, place = user[~ready], place[~ready]
    done.append((user, place))
    short = np.flatnonzero(active | (degree * _MANY > count))
    done += [_rest(rng, market, taste, degree, (user, place), some) for some in _batches(short, count)]
    user, place = (np.concatenate(column) for column in zip(*done, strict=True))
    return place[np.argsort(user, kind="stable")]


def _batches(rows: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    step = max(1, _DENSE // count)
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _with_replacement(rng: np.random.Generator, market: _Market, taste: NDArray[np.int64]) -> NDArray[np.int64]:
    """A place for each draw: within the cluster with probability TASTE, anywhere otherwise."""
    own, where = rng.random(len(taste)) < TASTE, rng.random(len(taste))
    low, high = market.low[taste], market.high[taste]
    where = np.where(own, low + where * (high - low), where)
    return np.minimum(np.searchsorted(market.upper, where, side="right"), len(market.item) - 1)


def _first_of_each(
    user: NDArray[np.int64], place: NDArray[np.int64], degree: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each user the first draws that are different, `degree` at most, in the order of the draws."""
    pair = user * count + place
    order = np.argsort(pair, kind="stable")
    first = np.append(True, pair[order[1:]] != pair[order[:-1]])
    kept = np.sort(order[first])
    kept = kept[np.argsort(user[kept], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(user[kept], minlength=len(degree)))])
    rank = np.arange(len(kept)) - starts[user[kept]]
    kept = kept[rank < degree[user[kept]]]
    return user[kept], place[kept]


def _rest(
    rng: np.random.Generator,
    market: _Market,
    taste: NDArray[np.int64],
    degree: NDArray[np.int64],
    has: tuple[NDArray[np.int64], NDArray[np.int64]],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What these users still need, drawn without replacement: the smallest exponential waiting times of all items.

    has: (user, place) of what they and others have.
    """
    boost = TASTE / (market.high - market.low)[taste[rows]][:, None] * (market.cluster == taste[rows][:, None])
    waiting = -np.log1p(-rng.random((len(rows), len(market.item)))) / (market.weight * (1 - TASTE + boost))
    local = np.full(len(degree), -1, np.int64)
    local[rows] = np.arange(len(rows))
    theirs = local[has[0]] >= 0
    waiting[local[has[0][theirs]], has[1][theirs]] = np.inf
    need = degree[rows] - np.bincount(local[has[0][theirs]], minlength=len(rows))
    soonest = [np.argpartition(row, n - 1)[:n] for row, n in zip(waiting, need.tolist(), strict=True)]
    return np.repeat(rows, need), np.concatenate(soonest)


def _ratings(rng: np.random.Generator, own: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Half stars: four stars on average in the cluster of the user's taste, three elsewhere."""
    twice = np.rint(np.where(own, 8.0, 6.0) + 2.0 * ndtri(rng.random(len(own)) * (1 - 2e-12) + 1e-12))
    found: NDArray[np.uint8] = np.clip(twice, 1, 10).astype(np.uint8)
    return found


def _integers(uniform: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    return np.minimum((uniform * count).astype(np.int64), count - 1)
