"""The generator: exact counts, the shape it claims, the distribution it claims, and the same bytes every time."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core import registry
from expunge.core.errors import InputError
from expunge.data import powerlaw
from expunge.data._interactions import Histories
from expunge.data.powerlaw import Powerlaw, _apportioned, _drawn

QUICK = settings(max_examples=40, deadline=None)


def degrees(histories: Histories) -> Any:
    return np.diff(histories.indptr)


def digest(histories: Histories) -> str:
    found = hashlib.sha256()
    for name in histories.ids + histories.items:
        found.update(f"{name}\n".encode())
    for array in (histories.indptr, histories.indices, histories.values):
        found.update(array.tobytes())
    return found.hexdigest()


@cache
def middle() -> Any:
    return Powerlaw(users=6_000, items=3_000, test_users=600).open()


def test_a_small_world() -> None:
    data = Powerlaw(users=50, items=40).open()
    assert data.train.ids[::49] == ("user/000001", "user/000050")
    assert data.items[::39] == ("item/00001", "item/00040")
    assert data.train.events == 400
    assert (data.source, data.scale, len(data.test), data.train.times) == ("powerlaw", "implicit", 0, None)
    assert set(data.train.values.tolist()) == {1}
    assert degrees(data.train).min() == 5
    assert data.note == "synthetic, 400 events of 50 users on 40 items, seed 0, 2 heavy users"


@given(
    st.integers(10, 200), st.integers(10, 80), st.floats(0, 1), st.integers(0, 3), st.integers(1, 30), st.integers(0, 5),
    st.integers(0, 2**53 - 1), st.sampled_from(["binary", "rating"]),
)  # fmt: skip
@QUICK
def test_counts_are_exact(
    users: int, items: int, fill: float, heavy: int, clusters: int, test: int, seed: int, kind: str
) -> None:
    planted = 2 * items // 5 * heavy
    low, high = planted + users - heavy, planted + (users - heavy) * (items // 3)
    events = low + int(fill * (high - low))
    source = Powerlaw(
        users=users,
        items=items,
        events=events,
        heavy_users=heavy,
        clusters=clusters,
        test_users=test,
        seed=seed,
        kind=kind,
    )
    data = source.open()
    assert data.train.events + data.test.events == events
    assert (len(data.train), len(data.test)) == (users - test, test)
    assert set(data.train.ids) | set(data.test.ids) == {f"user/{n:06d}" for n in range(1, users + 1)}
    for part in (data.train, data.test):
        for slot in range(len(part)):
            assert (np.diff(part.row(slot)[0]) > 0).all(), "an item comes once"
        assert degrees(part).min(initial=1) >= 1
        assert part.values.min(initial=1) >= 1
        assert part.values.max(initial=1) <= (1 if kind == "binary" else 10)
    assert len(source.heavy) == heavy
    for name in source.heavy:
        assert len(data.train.row(data.train.slot_of[name])[0]) == 2 * items // 5


def test_the_same_seed_is_the_same_data() -> None:
    one, again = Powerlaw(users=9_000, items=300, seed=7).open(), Powerlaw(users=9_000, items=300, seed=7).open()
    assert digest(one.train) == digest(again.train)
    assert digest(Powerlaw(users=9_000, items=300, seed=8).open().train) != digest(one.train)
    rated = Powerlaw(users=9_000, items=300, seed=7, kind="rating").open()
    assert (rated.train.matrix() != one.train.matrix()).nnz == 0, "ratings are drawn after the events"


def test_a_pinned_world() -> None:
    """A change of these bytes is a change of the product: every result on synthetic data has to be measured again."""
    data = Powerlaw(users=50, items=40, test_users=10, seed=1, kind="rating").open()
    assert digest(data.train) == "0337092c2a8173e11087651fabe2cab12dc233aa010e1892bad077ef4f07807d"


def test_test_users_do_not_change_what_anybody_has() -> None:
    whole, split = Powerlaw(users=300, items=100).open(), Powerlaw(users=300, items=100, test_users=40).open()
    for part in (split.train, split.test):
        for slot, name in enumerate(part.ids):
            assert part.content_digest(slot) == whole.train.content_digest(whole.train.slot_of[name])
    assert set(split.train.ids).isdisjoint(split.test.ids)
    more = Powerlaw(users=300, items=100, test_users=80).open()
    assert set(split.test.ids) < set(more.test.ids)


# Its shape.


def test_popularity_falls_like_a_power() -> None:
    """Ranks beyond the flat head: a slope of -TAIL in logarithms, less what drawing without replacement takes off."""
    data = middle()
    popular = np.sort(np.bincount(data.train.indices, minlength=len(data.items)))[::-1]
    rank = np.arange(1, len(popular) + 1) + len(popular) / powerlaw.HEAD
    some = slice(100, 1500)
    slope, _ = np.polyfit(np.log(rank[some]), np.log(popular[some]), 1)
    assert -powerlaw.TAIL - 0.05 < slope < -1.0
    assert popular[-1] > 0
    assert not (np.diff(np.bincount(data.train.indices)) <= 0).all(), "columns are not in the order of popularity"


def test_degrees_have_the_spread_of_ml_20m() -> None:
    """E[d] = 73.2 and E[d^2] = 15,900 (ML-20M as Liang et al. prepare it); degrees cost little, events are not drawn."""
    source = Powerlaw()
    found = source._degrees(source._user_ids()).astype(float)
    assert found.sum() == 10_000_000
    assert (found**2).mean() == pytest.approx(15_900, rel=0.02)
    assert np.median(found) == pytest.approx(44, abs=1)
    assert sorted(found.tolist())[-2:] == [8043, 8043]
    small = Powerlaw(users=2_000, items=2_000)
    assert (degrees(small.open().train) == small._degrees(small._user_ids())).all()


def test_heavy_users_are_the_heaviest_and_are_trained_on() -> None:
    source = Powerlaw(users=500, items=200, heavy_users=4, test_users=490)
    data = source.open()
    found = {name: len(data.train.row(slot)[0]) for name, slot in data.train.slot_of.items()}
    heaviest = sorted(found, key=lambda name: -found[name])[:4]
    assert set(heaviest) == set(source.heavy)
    assert {found[name] for name in heaviest} == {80}
    assert max([*(found[name] for name in found if name not in source.heavy), *degrees(data.test).tolist()]) <= 66


def test_tastes_can_be_learned() -> None:
    """EASE (Steck 2019) finds what is hidden of test users, a third more of it than popularity does."""
    data = Powerlaw(users=3_000, items=800, test_users=400).open()
    train, test = data.train.matrix().astype(float), data.test.matrix().toarray().astype(float)
    popularity = np.asarray(train.sum(axis=0)).ravel()
    hidden = np.random.Generator(np.random.Philox(5)).random(test.shape) < 0.2
    seen = test * ~hidden
    inverse = np.linalg.inv((train.T @ train).toarray() + 200 * np.eye(len(data.items)))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    hits = []
    for score in (seen @ weights, np.broadcast_to(popularity, test.shape)):
        top = np.argsort(-np.where(seen > 0, -np.inf, score), axis=1)[:, :20]
        hits.append(np.take_along_axis(test * hidden, top, axis=1).sum() / (test * hidden).sum())
    assert hits[0] > 1.3 * hits[1]


def test_ratings_are_higher_where_the_taste_is() -> None:
    data = Powerlaw(users=2_000, items=2_000, kind="rating").open()
    assert data.scale == "half-stars"
    assert 6.5 < data.train.values.mean() < 7.5
    assert set(data.train.values.tolist()) == set(range(1, 11))


# Its distribution.


@pytest.mark.parametrize(
    ("rounds", "many"), [(6, 10**9), (60, 0), (1, 0), (0, 0)], ids=["at once", "again", "both", "rest"]
)
def test_draws_are_without_replacement_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, rounds: int, many: int
) -> None:
    """Against the exact probability that an item is among four of nine, by summing over all ordered draws."""
    monkeypatch.setattr(powerlaw, "_ROUNDS", rounds)
    monkeypatch.setattr(powerlaw, "_MANY", many)
    market = Powerlaw(users=100, items=10, clusters=1)._market()
    weight = np.array([5, 3, 1, 1, 2, 2, 9, 1, 1]) / 25
    cluster = np.repeat([0, 1, 2], 3)
    upper = np.cumsum(weight)
    upper[-1] = 1.0
    high = upper[[2, 5, 8]]
    market = type(market)(
        weight=weight,
        upper=upper,
        low=np.append(0, high[:-1]),
        high=high,
        cluster=cluster,
        item=np.arange(9, dtype=np.int32),
    )
    users = 30_000
    rng = np.random.Generator(np.random.Philox(11))
    place = _drawn(rng, market, np.ones(users, np.int64), np.full(users, 4)).reshape(users, 4)
    assert (np.sort(place)[:, 1:] > np.sort(place)[:, :-1]).all()
    share = powerlaw.TASTE * weight * (cluster == 1) / weight[cluster == 1].sum() + (1 - powerlaw.TASTE) * weight
    exact = _inclusion(tuple(share.tolist()), 4)
    found = np.bincount(place.ravel(), minlength=9) / users
    assert (np.abs(found - exact) < 5 * np.sqrt(exact * (1 - exact) / users)).all()


def _inclusion(share: tuple[float, ...], count: int) -> Any:
    found = np.zeros(len(share))

    def draw(taken: tuple[int, ...], chance: float) -> None:
        if len(taken) == count:
            found[list(taken)] += chance
            return
        left = 1 - sum(share[place] for place in taken)
        for place, weight in enumerate(share):
            if place not in taken:
                draw((*taken, place), chance * weight / left)

    draw((), 1.0)
    return found


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30), st.floats(0, 1), st.integers(0, 3), st.integers(3, 40))
@QUICK
def test_apportioned_numbers_sum_up(size: list[float], fill: float, low: int, high: int) -> None:
    total = low * len(size) + int(fill * (high - low) * len(size))
    found = _apportioned(np.array(size), total, low, high)
    assert found.sum() == total
    assert low <= found.min() <= found.max() <= high
    order = np.argsort(size)
    assert (np.diff(found[order]) >= -1).all(), "who is larger has as many, but for rounding"


# What is refused.


@pytest.mark.parametrize(
    "options",
    [
        {"path": "x"}, {"users": 9}, {"users": 50.0}, {"items": 9}, {"items": True}, {"events": 0}, {"events": 49},
        {"events": 1500}, {"seed": -1}, {"seed": 2**53}, {"clusters": 0}, {"heavy_users": -1}, {"heavy_users": 50},
        {"test_users": 49}, {"test_users": "1"}, {"kind": "stars"},
    ],
)  # fmt: skip
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Powerlaw(**({"users": 50, "items": 40} | options))


def test_the_full_shape_is_ml_20m() -> None:
    source = Powerlaw()
    assert (source.users, source.items, source.events) == (136_677, 20_108, 10_000_000)


def test_the_registry_finds_it() -> None:
    assert registry.load("data", "powerlaw") is Powerlaw
