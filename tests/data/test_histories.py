"""The recommender's nouns against twins made of dictionaries: what is erased is gone, and nothing else has moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.errors import DataError, InputProblems
from expunge.data._interactions import Histories, Interactions, from_events, split_users

Twin = dict[str, dict[str, tuple[int, int]]]  # user -> item -> (value, time)
QUICK = settings(max_examples=60, deadline=None)
USERS = st.sampled_from([f"user/{n}" for n in range(8)])
ITEMS = st.sampled_from([f"item/{n}" for n in range(6)])
CELLS = st.tuples(st.integers(1, 255), st.integers(0, 10**10))
TWINS = st.dictionaries(USERS, st.dictionaries(ITEMS, CELLS, max_size=6), min_size=1, max_size=8)


def built(
    twin: Twin, *, users: list[str] | None = None, items: list[str] | None = None, timed: bool = True
) -> Histories:
    users = sorted(twin) if users is None else users
    items = [f"item/{n}" for n in range(6)] if items is None else items
    events = [(users.index(u), items.index(i), *cell) for u, row in twin.items() for i, cell in row.items()]
    table = np.array(events, np.int64).reshape(-1, 4)
    return from_events(users, items, table[:, 0], table[:, 1], table[:, 2], table[:, 3] if timed else None)


def as_twin(histories: Histories) -> Twin:
    """Back to a dictionary, through the row of each user."""
    found: Twin = {}
    assert histories.times is not None
    for slot, name in enumerate(histories.ids):
        columns, values = histories.row(slot)
        assert (np.diff(columns) > 0).all()
        times = histories.times[histories.span(slot)]
        row = {
            histories.items[c]: (int(v), int(t))
            for c, v, t in zip(columns.tolist(), values.tolist(), times.tolist(), strict=True)
        }
        assert name is not None or not row, "an erased slot is empty"
        if name is not None:
            found[name] = row
    return found


def wrapped(train: Histories) -> Interactions:
    return Interactions(source="s", note="n", scale="half-stars", train=train, test=split_users(train, [])[1])


@given(TWINS)
@QUICK
def test_events_become_rows(twin: Twin) -> None:
    histories = built(twin)
    assert as_twin(histories) == twin
    assert histories.events == sum(map(len, twin.values()))
    assert (histories.indptr.dtype, histories.indices.dtype, histories.values.dtype) == (np.int64, np.int32, np.uint8)
    dense = histories.matrix("rating").toarray()
    for slot, name in enumerate(histories.ids):
        for column, item in enumerate(histories.items):
            assert dense[slot, column] == twin[name].get(item, (0, 0))[0]
    assert ((dense > 0) == histories.matrix().toarray()).all()


@given(TWINS, st.randoms(use_true_random=False))
@QUICK
def test_the_order_of_events_does_not_matter(twin: Twin, random: Any) -> None:
    shuffled = list(twin.items())
    random.shuffle(shuffled)
    one, other = built(twin), built(dict(shuffled))
    for name in ("indptr", "indices", "values", "times"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(TWINS, st.randoms(use_true_random=False))
@QUICK
def test_the_digest_does_not_depend_on_columns_or_slots(twin: Twin, random: Any) -> None:
    items, users = [f"item/{n}" for n in range(6)] + ["item/nobody's"], sorted(twin)
    random.shuffle(items)
    random.shuffle(users)
    one, other = built(twin), built(twin, users=users, items=items)
    assert all(one.content_digest(one.slot_of[u]) == other.content_digest(other.slot_of[u]) for u in twin)


def test_the_digest_changes_with_everything_in_a_history() -> None:
    row = {"item/0": (8, 100), "item/1": (4, 200)}
    others: list[Any] = [
        {},
        {"item/0": (8, 100)},
        {"item/0": (7, 100), "item/1": (4, 200)},
        {"item/0": (8, 101), "item/1": (4, 200)},
        {"item/0": (8, 100), "item/2": (4, 200)},
        {"item/0": (4, 200), "item/1": (8, 100)},
    ]
    digests = {built({"u": found}).content_digest(0) for found in [row, *others]}
    assert len(digests) == len(others) + 1
    assert built({"u": row}, timed=False).content_digest(0) not in digests
    assert built({"u": row}).content_digest(0) == built({"another": row}).content_digest(0), "content has no owner"


def test_ids_with_the_separators_of_the_digest_are_not_confused() -> None:
    names = ["a", "a|1|5|1:b", "b", "1:a"]
    digests = set()
    for chosen in (["a", "b"], ["a|1|5|1:b"], ["1:a"], ["a"], ["b"]):
        twin: Twin = {"u": dict.fromkeys(chosen, (1, 5))}
        digests.add(built(twin, items=names).content_digest(0))
    assert len(digests) == 5


@given(TWINS, st.data())
@QUICK
def test_without_empties_rows_and_moves_nobody(twin: Twin, data: Any) -> None:
    histories = built(twin)
    gone = data.draw(st.sets(st.integers(0, len(histories) - 1)))
    left = histories.without(sorted(gone))
    erased = {histories.ids[slot] for slot in gone}
    assert as_twin(left) == {name: row for name, row in twin.items() if name not in erased}
    assert as_twin(histories) == twin, "the original is as it was"
    for slot, name in enumerate(histories.ids):
        assert left.ids[slot] == (None if slot in gone else name)
        assert left.blocks[slot] == ("" if slot in gone else name)
        if slot not in gone:
            assert left.content_digest(slot) == histories.content_digest(slot)
    assert left.items == histories.items
    again = histories.without(sorted(gone)[: len(gone) // 2]).without(sorted(gone))
    np.testing.assert_array_equal(again.indices, left.indices)
    assert again.ids == left.ids


@given(TWINS, st.data())
@QUICK
def test_split_users_gives_each_row_to_one_side(twin: Twin, data: Any) -> None:
    histories = built(twin)
    chosen = data.draw(st.sets(st.integers(0, len(histories) - 1)))
    train, test = split_users(histories, sorted(chosen))
    assert set(train.ids).isdisjoint(test.ids)
    assert as_twin(test) == {histories.ids[slot]: twin[histories.ids[slot] or ""] for slot in chosen}
    assert as_twin(train) | as_twin(test) == twin
    assert train.items == test.items == histories.items
    assert [n for n in histories.ids if n in train.slot_of] == list(train.ids), "in the order they had"


@given(TWINS, st.data())
@QUICK
def test_aligned_puts_users_where_the_book_has_them(twin: Twin, data: Any) -> None:
    histories = built(twin)
    order = data.draw(st.permutations(range(len(histories))))
    gone = data.draw(st.sets(st.sampled_from(order)))
    ids = [None if row in gone else histories.ids[row] for row in order]
    found = wrapped(histories).aligned(ids, ["" if name is None else name for name in ids]).train
    assert found.ids == tuple(ids)
    assert as_twin(found) == {name: twin[name] for name in ids if name is not None}
    for slot, name in enumerate(ids):
        if name is not None:
            assert found.content_digest(slot) == histories.content_digest(histories.slot_of[name])


def test_aligned_names_users_that_the_source_lost() -> None:
    data = wrapped(built({"user/1": {"item/0": (1, 1)}}))
    with pytest.raises(DataError, match="2 retained users are missing") as caught:
        data.aligned(["user/7", None, "user/1", "user/8"], ["", "", "", ""])
    assert caught.value.got == "user/7, user/8"


def test_unknown_users_are_all_named() -> None:
    with pytest.raises(InputProblems, match="2 problems: 'x'; 'y'") as caught:
        built({"user/1": {}}).slots(["x", "user/1", "y"])
    assert caught.value.code == "unknown-id"


EMPTY = np.zeros(0, np.int64)


@pytest.mark.parametrize(
    ("users", "columns", "said"),
    [
        (["a"], ([0], [0], [1, 1]), "different lengths"),
        (["a", "a"], ([0], [0], [1]), "come twice"),
        (["a"], ([1], [0], [1]), "user numbers out of range"),
        (["a"], ([-1], [0], [1]), "user numbers out of range"),
        (["a"], ([0], [3], [1]), "item numbers out of range"),
        (["a"], ([0], [0], [0]), "values out of range"),
        (["a"], ([0], [0], [256]), "values out of range"),
        (["a"], ([0, 0], [1, 1], [1, 2]), "1 events repeat"),
        (["a"], ([0.0], [0], [1]), "not whole numbers"),
        (["a"], ([0], [0], [1.5]), "not whole numbers"),
    ],
)
def test_events_that_are_none(users: list[str], columns: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        from_events(users, ["i", "j"], *(np.array(column) for column in columns))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64])
def test_any_kind_of_whole_number_will_do(kind: Any) -> None:
    found = from_events(["a", "b"], ["i", "j"], *(np.array(c, kind) for c in ([1, 0], [0, 1], [3, 4])))
    assert found.matrix("rating").toarray().tolist() == [[0, 4], [3, 0]]


def test_nothing_at_all() -> None:
    nobody = from_events([], [], EMPTY, EMPTY, EMPTY)
    assert (len(nobody), nobody.events, nobody.matrix().shape) == (0, 0, (0, 0))
    assert [len(part) for part in split_users(nobody, [])] == [0, 0]
