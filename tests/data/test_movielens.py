"""MovieLens in its three layouts, from small files that are written here; and the real set where it is."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expunge.core import registry
from expunge.core.errors import DataError, InputError
from expunge.data.movielens import Movielens

HEADER = "userId,movieId,rating,timestamp"
ROWS = [
    ("1", "31", "2.5", "1260759144"),
    ("1", "1029", "3.0", "1260759179"),
    ("10", "31", "4", "835355493"),
    ("2", "10", "0.5", "835355493"),
    ("2", "31", "5.0", "835355681"),
]
LAYOUTS = {
    "ratings.csv": lambda rows: "\n".join([HEADER, *(",".join(row) for row in rows)]) + "\n",
    "ratings.dat": lambda rows: "".join("::".join(row) + "\n" for row in rows),
    "u.data": lambda rows: "".join("\t".join(row) + "\n" for row in rows),
}


def written(folder: Path, rows: Any = ROWS, name: str = "ratings.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(LAYOUTS[name](rows))
    return folder


def opened(folder: Path, **options: Any) -> Any:
    return Movielens(path=str(folder), **options).open()


def changed(row: int, column: int, cell: str) -> list[tuple[str, ...]]:
    rows = [list(found) for found in ROWS]
    rows[row][column] = cell
    return [tuple(found) for found in rows]


def as_dict(histories: Any) -> dict[str, dict[str, int]]:
    return {
        name: {
            histories.items[c]: int(v) for c, v in zip(*(part.tolist() for part in histories.row(slot)), strict=True)
        }
        for slot, name in enumerate(histories.ids)
    }


# What is read.


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_three_layouts_hold_the_same(tmp_path: Path, name: str) -> None:
    for place in (written(tmp_path / "ml", name=name), tmp_path / "ml" / name):
        data = opened(place)
        assert data.train.ids == ("user/1", "user/2", "user/10"), "by number"
        assert data.items == ("movie/10", "movie/31", "movie/1029")
        assert data.train.matrix("rating").toarray().tolist() == [[0, 5, 6], [1, 10, 0], [0, 8, 0]]
        assert data.train.times.tolist() == [1260759144, 1260759179, 835355493, 835355681, 835355493]
        assert (data.source, data.scale, len(data.test)) == ("movielens", "half-stars", 0)
        assert data.note == f"MovieLens (ml/{name})"


@pytest.mark.parametrize("text", ["\r\n", "\n"])
def test_line_ends_a_missing_last_one_and_a_byte_order_mark(tmp_path: Path, text: str) -> None:
    body = LAYOUTS["ratings.csv"](ROWS).rstrip("\n").replace("\n", text)
    (tmp_path / "ratings.csv").write_bytes(b"\xef\xbb\xbf" + body.encode())
    assert opened(tmp_path).train.events == len(ROWS)


def test_columns_in_another_order(tmp_path: Path) -> None:
    lines = ["timestamp,rating,movieId,userId", *(",".join(row[::-1]) for row in ROWS)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines))
    assert as_dict(opened(tmp_path).train) == as_dict(opened(written(tmp_path / "other")).train)


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    one, other = opened(written(tmp_path / "a")), opened(written(tmp_path / "b", ROWS[::-1]))
    assert as_dict(one.train) == as_dict(other.train)
    assert (one.train.ids, one.items) == (other.train.ids, other.items)


# Options.


def test_low_ratings_are_dropped_before_anything(tmp_path: Path) -> None:
    for least in (4, "4", "4.0", 4.0):
        data = opened(written(tmp_path), min_rating=least)
        assert as_dict(data.train) == {"user/2": {"movie/31": 10}, "user/10": {"movie/31": 8}}
        assert "ratings of 4 and more" in data.note


def test_binary_events(tmp_path: Path) -> None:
    data = opened(written(tmp_path), kind="binary")
    assert set(data.train.values.tolist()) == {1}
    assert data.scale == "implicit"


def test_rare_films_leave_the_vocabulary_and_users_keep_their_place(tmp_path: Path) -> None:
    rows = [*ROWS, ("4", "10", "3.0", "1")]
    data = opened(written(tmp_path, rows), min_item_events=3)
    assert data.items == ("movie/31",)
    assert as_dict(data.train)["user/4"] == {}


def test_test_users_do_not_count_for_the_vocabulary(tmp_path: Path) -> None:
    rows = [(str(user), str(film), "3.0", "1") for user in range(20) for film in (user, 50)]
    data = opened(written(tmp_path, rows), test_users=5)
    assert (len(data.test), len(data.train)) == (5, 15)
    assert set(data.test.ids).isdisjoint(data.train.ids)
    assert {f"movie/{name.rpartition('/')[2]}" for name in data.test.ids}.isdisjoint(data.items)
    assert all(row == {"movie/50": 6} for row in as_dict(data.test).values())


def test_test_users_are_those_of_the_smallest_hashes(tmp_path: Path) -> None:
    rows = [(str(user), "1", "3.0", "1") for user in range(200)]
    data = opened(written(tmp_path, rows), test_users=30)
    ranked = sorted((hashlib.sha256(f"expunge/test-users/v1|user/{n}".encode()).digest(), n) for n in range(200))
    assert set(data.test.ids) == {f"user/{n}" for _, n in ranked[:30]}


def test_a_user_who_leaves_the_file_changes_nobody_else(tmp_path: Path) -> None:
    """Who is tested on does not change, and over the frozen vocabulary all histories stay what they were."""
    rows = [(str(user), str(film), "3.0", "1") for user in range(30) for film in (user, user % 7 + 100)]
    before = opened(written(tmp_path / "a", rows), test_users=6)
    gone = before.train.ids[3]
    left = written(tmp_path / "b", [row for row in rows if f"user/{row[0]}" != gone])
    assert opened(left, test_users=6).items != before.items, "alone, the file has a smaller vocabulary"
    after = Movielens(path=str(left), test_users=6).open(before.items)
    assert after.items == before.items
    assert after.test.ids == before.test.ids
    erased = before.train.without([3])
    assert after.train.ids == tuple(name for name in erased.ids if name)
    for slot, name in enumerate(after.train.ids):
        assert after.train.content_digest(slot) == before.train.content_digest(before.train.slot_of[name])
    found = after.aligned(erased.ids, erased.blocks).train
    assert (found.matrix() != erased.matrix()).nnz == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 8), st.integers(1, 10)), min_size=1, max_size=60,
        unique_by=lambda event: event[:2],
    ),
    st.integers(1, 10), st.integers(0, 4), st.integers(0, 5),
)  # fmt: skip
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_twin_of_dictionaries(tmp_path: Path, events: Any, least: int, rare: int, test: int) -> None:
    written(tmp_path, [(str(u), str(i), f"{v / 2}", "7") for u, i, v in events])
    kept = [event for event in events if event[2] >= least]
    users = {user for user, _, _ in kept}
    if test >= max(len(users), 1) or not kept:
        with pytest.raises(InputError):
            opened(tmp_path, min_rating=least / 2, min_item_events=rare, test_users=test)
        return
    ranked = sorted(users, key=lambda u: hashlib.sha256(f"expunge/test-users/v1|user/{u}".encode()).digest())
    tested = set(ranked[:test])
    counts = Counter(item for user, item, _ in kept if user not in tested)
    items = {item for _, item, _ in events} if rare == 0 else {i for i, n in counts.items() if n >= rare}
    if not items:
        with pytest.raises(DataError, match="no item has"):
            opened(tmp_path, min_rating=least / 2, min_item_events=rare, test_users=test)
        return
    data = opened(tmp_path, min_rating=least / 2, min_item_events=rare, test_users=test)
    assert data.items == tuple(f"movie/{item}" for item in sorted(items))
    for part, chosen in ((data.train, users - tested), (data.test, tested)):
        twin: dict[str, dict[str, int]] = {f"user/{user}": {} for user in chosen}
        for user, item, value in kept:
            if user in chosen and item in items:
                twin[f"user/{user}"][f"movie/{item}"] = value
        assert as_dict(part) == twin
        assert part.ids == tuple(f"user/{user}" for user in sorted(chosen))


# What is refused.


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(
    "cell", ["5.5", "0", "0.0", "-1.0", "3.7", "nan", "inf", "", "four", "=1+1", "1e0", "0x4", " 4"]
)
def test_ratings_that_are_none(tmp_path: Path, name: str, cell: str) -> None:
    written(tmp_path, changed(3, 2, cell), name)
    with pytest.raises(
        DataError, match=rf"{name} has 1 bad cells: row 4, rating: '{cell.replace('+', '.')}'"
    ) as caught:
        opened(tmp_path)
    assert caught.value.expected == "a multiple of .5 from .5 to 5"


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("cell", ["", "01", "-1", "1.0", "x", "=2", "١", "99999999999"])
def test_ids_that_are_none(tmp_path: Path, name: str, column: int, cell: str) -> None:
    written(tmp_path, changed(1, column, cell), name)
    with pytest.raises(DataError, match="1 bad cells: row 2, ") as caught:
        opened(tmp_path)
    assert "without leading zeros" in str(caught.value.expected)


@pytest.mark.parametrize("cell", ["", "-5", "1260759144000", "nan", "yesterday"])
def test_times_that_are_none(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=f"row 5, timestamp: '{cell}'") as caught:
        opened(written(tmp_path, changed(4, 3, cell)))
    assert "milliseconds" in str(caught.value.hint)


def test_all_bad_cells_are_counted_and_ten_are_shown(tmp_path: Path) -> None:
    rows = [(str(n), "x" if n % 3 == 0 else "7", "9.5", "1") for n in range(1, 31)]
    with pytest.raises(DataError, match=r"has 40 bad cells: .*\(\+30 more\)") as caught:
        opened(written(tmp_path, rows))
    assert caught.value.message.count("row ") == 10
    assert "leading zeros" in str(caught.value.expected)
    assert "from .5 to 5" in str(caught.value.expected)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_film_twice(tmp_path: Path, name: str) -> None:
    rows = [*ROWS, ("2", "31", "1.0", "3"), ("1", "31", "2.5", "1260759144")]
    with pytest.raises(DataError) as caught:
        opened(written(tmp_path, rows, name), min_rating=4)
    assert "2 repeated events" in caught.value.message
    assert "rows 1 and 7 (user '1', item '31'); rows 5 and 6 (user '2', item '31')" in caught.value.message


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ratings.csv", "", "no header"),
        ("ratings.csv", HEADER, "cannot be read as a table|no events"),
        ("ratings.csv", HEADER + "\n", "no events"),
        ("ratings.csv", HEADER + "\n1,2,3.0\n1,3,3.0,4,5\n", "row 1 has 3 columns"),
        ("ratings.csv", "user,movieId,rating,timestamp\n1,2,3.0,4\n", "other columns"),
        ("ratings.csv", HEADER + ",comment\n1,2,3.0,4,x\n", "other columns"),
        ("ratings.csv", HEADER + '\n1,2,3.0,"4\n1,3,3.0,5\n', "bad cells|has . columns"),
        ("ratings.dat", "1::2::3\n", "has . columns"),
        ("ratings.dat", "1:9:2::3::4\n", "more than a separator in column 2"),
        ("ratings.dat", "1,2,3,4\n", "has . columns"),
        ("u.data", "1 2 3 4\n", "has . columns"),
        ("u.data", "", "cannot be read as a table|no events"),
    ],
)
def test_files_that_are_not_movielens(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        opened(tmp_path)


def test_folders_that_are_not_movielens(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a path"):
        Movielens()
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError, match="not one file of ratings") as caught:
            opened(place)
        assert caught.value.got == "none"
    written(written(tmp_path / "two"), name="u.data")
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "two")
    assert caught.value.got == "ratings.csv, u.data"
    (tmp_path / "other.csv").write_text("x")
    with pytest.raises(DataError, match="not one file"):
        opened(tmp_path / "other.csv")


@pytest.mark.parametrize(
    "options",
    [
        {"test_users": -1}, {"test_users": True}, {"test_users": "3"}, {"min_item_events": 1.5}, {"min_rating": 0},
        {"min_rating": 3.7}, {"min_rating": float("nan")}, {"min_rating": True}, {"kind": "stars"},
    ],
)  # fmt: skip
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="1 problem: " + next(iter(options))):
        Movielens(path="x", **options)


def test_too_many_test_users(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too many test users"):
        opened(written(tmp_path), test_users=3)


def test_the_registry_finds_it() -> None:
    assert registry.load("data", "movielens") is Movielens


# The real set.


@pytest.mark.shared
def test_ml_latest_small(shared: Path) -> None:
    folder = shared / "ml-latest-small"
    data = opened(folder)
    assert (len(data.train), len(data.items), data.train.events) == (610, 9_724, 100_836)
    with (folder / "ratings.csv").open(newline="") as file:
        twin: dict[str, dict[str, int]] = {}
        for row in csv.DictReader(file):
            twin.setdefault(f"user/{row['userId']}", {})[f"movie/{row['movieId']}"] = int(2 * float(row["rating"]))
    assert as_dict(data.train) == twin
    assert len(opened(folder, min_item_events=10).items) == 2_269


@pytest.mark.shared
def test_ml_latest_small_split(shared: Path) -> None:
    data = opened(shared / "ml-latest-small", min_item_events=10, test_users=150)
    assert (len(data.train), len(data.test)) == (460, 150)
    assert set(data.train.ids).isdisjoint(data.test.ids)
    assert min(data.train.matrix().sum(axis=0).tolist()[0]) >= 10
