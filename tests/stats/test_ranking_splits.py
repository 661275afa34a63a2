import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.errors import CheckBroken
from expunge.stats.ranking import ItemLists
from expunge.stats.ranking_splits import fold_in, fold_numbers, global_time_split, leave_last_out
from oracle import naive


def rows_of(mask, indptr):
    return [mask[a:b] for a, b in pairwise(indptr)]


def csr(histories):
    return np.cumsum([0, *(len(h) for h in histories)]), np.array([c for h in histories for c in h], dtype=int)


def slow_fold_in(name, columns, key, fraction):
    """One user, by the words of the docstring."""
    if len(columns) < 2:
        return set()
    count = max(1, int(fraction * len(columns) + 1e-9))
    text = f"expunge/fold-in/v1|{len(key.encode())}|{key}|{name}".encode()
    words = np.random.Philox(key=int.from_bytes(hashlib.sha256(text).digest()[:16], "big")).random_raw(len(columns))
    return {column for _, column in sorted(zip(words.tolist(), sorted(columns), strict=True))[:count]}


HISTORIES = st.lists(st.lists(st.integers(0, 60), max_size=15, unique=True), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(HISTORIES, st.text(max_size=5), st.floats(0.01, 0.99))
def test_fold_in_is_its_slow_twin_user_by_user(histories, key, fraction):
    indptr, indices = csr(histories)
    mask = fold_in([f"u{n}" for n in range(len(histories))], indptr, indices, key=key, fraction=fraction)
    for n, (history, held) in enumerate(zip(histories, rows_of(mask, indptr), strict=True)):
        assert {c for c, out in zip(history, held, strict=True) if out} == slow_fold_in(f"u{n}", history, key, fraction)
        assert not held.all() or not history  # something is always left to fold in
        assert held.any() == (len(history) >= 2)


@settings(max_examples=50, deadline=None)
@given(HISTORIES, st.data())
def test_a_users_split_does_not_move_when_others_are_deleted_reordered_or_their_events_permuted(histories, data):
    names = [f"user {n}" for n in range(len(histories))]
    whole = rows_of(fold_in(names, *csr(histories), key="k"), csr(histories)[0])
    chosen = data.draw(st.permutations(range(len(histories))).map(lambda p: p[: max(1, len(p) // 2)]))
    mixed = {n: data.draw(st.permutations(range(len(histories[n])))) for n in chosen}
    part = [[histories[n][i] for i in mixed[n]] for n in chosen]
    mask = rows_of(fold_in([names[n] for n in chosen], *csr(part), key="k"), csr(part)[0])
    for n, held in zip(chosen, mask, strict=True):
        assert held.tolist() == [whole[n][i] for i in mixed[n]]


def test_fold_in_is_fixed_for_ever():
    mask = fold_in(["ada", "bob"], [0, 10, 20], [*range(10)] * 2, key="test/v1")
    assert np.flatnonzero(mask).tolist() == [2, 7, 11, 15]


def test_another_key_another_split_and_key_and_id_do_not_run_together():
    indptr, indices = [0, 40], np.arange(40)
    one, two = (fold_in(["u"], indptr, indices, key=key) for key in ("a", "b"))
    assert (one != two).any()
    assert (fold_in(["b|c"], indptr, indices, key="a") != fold_in(["c"], indptr, indices, key="a|b")).any()
    assert (fold_in(["u"], indptr, indices, key="a") == one).all()


def test_every_event_is_held_out_equally_often():
    users = 4000
    mask = fold_in([str(n) for n in range(users)], np.arange(users + 1) * 10, np.tile(np.arange(10), users), key="k")
    table = mask.reshape(users, 10)
    assert (table.sum(axis=1) == 2).all()
    assert all(naive.within(hits, users, 0.2, level=0.9999) for hits in table.sum(axis=0))
    pairs = (table[:, :, None] & table[:, None, :]).sum(axis=0)[np.triu_indices(10, 1)]
    assert all(naive.within(hits, users, 1 / 45, level=0.9999) for hits in pairs)


def test_rounding_does_not_lose_an_event():
    assert fold_in(["u"], [0, 100], np.arange(100), key="k", fraction=0.29).sum() == 29


def test_a_split_makes_two_disjoint_lists():
    lists = ItemLists.of_lists([[1, 5, 7], [2], [0, 3, 4, 6, 8, 9, 10, 11, 12, 13]], 14)
    mask = fold_in(["a", "b", "c"], lists.indptr, lists.indices, key="k")
    assert lists.where(mask).sizes.tolist() == [1, 0, 2]
    assert lists.where(~mask).sizes.tolist() == [2, 1, 8]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), max_size=8, unique_by=lambda e: e[1])))
def test_leave_last_out_takes_the_latest_event_and_the_larger_column_of_a_tie(users):
    indptr, columns = csr([[column for _, column in events] for events in users])
    times = np.array([time for events in users for time, _ in events], dtype=int)
    mask = leave_last_out(indptr, columns, times)
    for events, held in zip(users, rows_of(mask, indptr), strict=True):
        expected = [max(events)] if len(events) >= 2 else []
        assert [event for event, out in zip(events, held, strict=True) if out] == expected


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=30), st.floats(0.05, 0.95))
def test_a_global_split_parts_past_and_future_at_one_moment(times, quantile):
    cut = sorted(times)[int(np.floor((len(times) - 1) * quantile))]
    if cut == max(times):
        with pytest.raises(CheckBroken, match="after the split"):
            global_time_split(times, quantile)
        return
    mask = global_time_split(times, quantile)
    assert mask.tolist() == [time > cut for time in times]
    assert max(np.array(times)[~mask]) < min(np.array(times)[mask])


@pytest.mark.parametrize("call", [
    lambda: fold_in(["a", "b"], [0, 2], [0, 1], key="k"),
    lambda: fold_in(["a"], [0, 2], [0, 1], key="k", fraction=1.0),
    lambda: fold_in(["a"], [0, 2], [0, 1], key="k", fraction=float("nan")),
    lambda: fold_in(["a"], [0, 3], [0, 1], key="k"),
    lambda: leave_last_out([0, 2], [0, 1], [5]),
    lambda: leave_last_out([0, 2], [0, 1], [5.5, np.nan]),
    lambda: global_time_split([], 0.5),
    lambda: global_time_split([1, 2], 1.0),
])  # fmt: skip
def test_malformed_input_breaks_the_check(call):
    with pytest.raises(CheckBroken):
        call()


def slow_fold_numbers(name, columns, key, folds):
    """One user, by the words of the docstring: in the order that `fold_in` draws, one round after the other."""
    order = [
        next(iter(slow_first(name, columns, key, count + 1) - slow_first(name, columns, key, count)))
        for count in range(len(columns))
    ]
    return {column: place % folds for place, column in enumerate(order)}


def slow_first(name, columns, key, count):
    """The `count` columns with the lowest words."""
    text = f"expunge/fold-in/v1|{len(key.encode())}|{key}|{name}".encode()
    words = np.random.Philox(key=int.from_bytes(hashlib.sha256(text).digest()[:16], "big")).random_raw(len(columns))
    return {column for _, column in sorted(zip(words.tolist(), sorted(columns), strict=True))[:count]}


@settings(max_examples=50, deadline=None)
@given(HISTORIES, st.text(max_size=5), st.integers(2, 7))
def test_fold_numbers_are_their_slow_twin_and_leave_every_event_out_once(histories, key, folds):
    indptr, indices = csr(histories)
    found = fold_numbers([f"u{n}" for n in range(len(histories))], indptr, indices, key=key, folds=folds)
    for number, (columns, mine) in enumerate(zip(histories, rows_of(found, indptr), strict=True)):
        assert dict(zip(columns, mine.tolist(), strict=True)) == slow_fold_numbers(f"u{number}", columns, key, folds)
        sizes = np.bincount(mine, minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_fold_numbers_of_a_user_do_not_depend_on_who_else_is_there():
    indptr, indices = csr([[3, 1, 7, 4], [2, 5], []])
    alone, length = csr([[3, 1, 7, 4]])
    both = fold_numbers(["a", "b", None], indptr, indices, key="k", folds=5)
    assert both[:4].tolist() == fold_numbers(["a"], alone, length, key="k", folds=5).tolist()
    for ids, folds in ((["a", "b"], 5), (["a", "b", "c"], 1)):
        with pytest.raises(CheckBroken, match="2 folds expected"):
            fold_numbers(ids, indptr, indices, key="k", folds=folds)
