"""Files of events in every format: the same events come out, and a file that lies gives a typed error, never a crash."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from event_files import (
    EVENTS,
    as_set,
    expected,
    file,
    lines,
    matrix,
    npz,
    opened,
    parquet,
    refused,
    table,
)
from expunge.core import registry
from expunge.core.errors import InputError
from expunge.data import _event_tables
from expunge.data._event_tables import ALIASES
from expunge.data.interactions import InteractionsFile

SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

# What is read.


@pytest.mark.parametrize(
    ("name", "delimiter", "header"),
    [
        ("e.csv", ",", "user_id,item_id,rating,timestamp"),
        ("e.csv", ";", "user_id,item_id,rating,timestamp"),
        ("e.csv", "\t", "user_id,item_id,rating,timestamp"),
        ("e.tsv", "\t", "user_id,item_id,rating,timestamp"),
        ("e.INTER", "\t", "user_id:token,item_id:token,rating:float,timestamp:float"),
    ],
)
def test_text_formats_hold_the_same(tmp_path: Path, name: str, delimiter: str, header: str) -> None:
    data = opened(file(tmp_path, lines(EVENTS, header, delimiter), name))
    assert as_set(data.train) == expected(EVENTS)
    assert data.train.ids == ("user/ann", "user/bob", 'user/o"neil', "user/zoë")
    assert (data.source, data.scale, data.note) == ("interactions", "half-stars", name)


@pytest.mark.parametrize("kind", ["string", "large_string", "dictionary"])
@pytest.mark.parametrize("rating", ["float64", "float32", "string"])
def test_parquet_holds_the_same(tmp_path: Path, kind: str, rating: str) -> None:
    found = table()
    for column in ("user_id", "item_id"):
        chunks = found[column]
        cast = chunks.dictionary_encode() if kind == "dictionary" else chunks.cast(kind)
        found = found.set_column(found.schema.get_field_index(column), column, cast)
    ratings = [str(event[2]) for event in EVENTS] if rating == "string" else [event[2] for event in EVENTS]
    found = found.set_column(2, "rating", pa.array(ratings, rating))
    assert as_set(opened(parquet(tmp_path, found, name="e.pq")).train) == expected(EVENTS)


def test_whole_numbers_are_ids_in_parquet_and_sort_as_numbers(tmp_path: Path) -> None:
    found = table(user_id=pa.array([10, 10, 9, 9, 1, 2], "int32"), item_id=pa.array([7, 8, 7, 8, 7, 100], "uint64"))
    data = opened(parquet(tmp_path, found))
    assert data.train.ids == ("user/1", "user/2", "user/9", "user/10")
    assert data.items == ("item/7", "item/8", "item/100")


@pytest.mark.parametrize(("user", "item"), list(product(ALIASES["user"], ALIASES["item"])))
def test_names_of_the_user_and_the_item(tmp_path: Path, user: str, item: str) -> None:
    content = lines([("x", *event[:2]) for event in EVENTS], f"session,{user},{item}")
    data = opened(file(tmp_path, content))
    assert (len(data.train), data.train.events, data.scale, data.train.times) == (4, 6, "implicit", None)
    assert set(data.train.values.tolist()) == {1}


@pytest.mark.parametrize(("rating", "time"), list(product(ALIASES["rating"], ALIASES["time"])))
def test_names_of_the_rating_and_the_time(tmp_path: Path, rating: str, time: str) -> None:
    assert as_set(opened(file(tmp_path, lines(EVENTS, f"uid,iid,{rating},{time}"))).train) == expected(EVENTS)


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    one = opened(file(tmp_path, lines(EVENTS)))
    other = opened(file(tmp_path, lines(EVENTS[::-1]), "other.csv"))
    assert (one.train.ids, one.items) == (other.train.ids, other.items)
    np.testing.assert_array_equal(one.train.indices, other.train.indices)
    np.testing.assert_array_equal(one.train.times, other.train.times)


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("1500000000", 1_500_000_000), ("1500000000.9", 1_500_000_000), ("1.5e9", 1_500_000_000), ("0", 0),
        ("2017-07-14T02:40:00", 1_500_000_000), ("2017-07-14 02:40:00", 1_500_000_000), ("2017-07-14", 1_499_990_400),
        ("2017-07-14T04:40:00+02:00", 1_500_000_000), ("2017-07-14T02:40:00.999Z", 1_500_000_000),
    ],
)  # fmt: skip
def test_times_as_text(tmp_path: Path, cell: str, seconds: int) -> None:
    assert opened(file(tmp_path, lines([("u", "i", 1, cell)]))).train.times.tolist() == [seconds]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2017, 7, 14, 2, 40)], pa.timestamp("ns")),
        pa.array([datetime(2017, 7, 14, 2, 40)], pa.timestamp("us", tz="Europe/Vienna")),
        pa.array([1.5e9], "float64"), pa.array([1_500_000_000], "uint32"), pa.array(["1500000000"]),
    ],
)  # fmt: skip
def test_times_in_parquet(tmp_path: Path, column: Any) -> None:
    found = pa.table({"user": ["u"], "item": ["i"], "ts": column})
    assert opened(parquet(tmp_path, found)).train.times.tolist() == [1_500_000_000]
    days = pa.table({"user": ["u"], "item": ["i"], "ts": pa.array([date(2017, 7, 14)])})
    assert opened(parquet(tmp_path, days)).train.times.tolist() == [1_499_990_400]


# Larger than memory.


def test_many_batches_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [(f"u{n % 97}", f"i{n // 97}", 1 + n % 7 / 2, n) for n in range(5_000)]
    whole = opened(file(tmp_path, lines(events)))
    monkeypatch.setattr(_event_tables, "_BLOCK", 777)
    monkeypatch.setattr(_event_tables, "_BATCH", 123)
    found = parquet(tmp_path, table(events), row_group_size=777)
    for path in (tmp_path / "events.csv", found):
        other = opened(path)
        assert as_set(other.train) == as_set(whole.train) == expected(events)
        assert (other.train.ids, other.items) == (whole.train.ids, whole.items)
    bad = [*events, ("u1", "new", 0.3, 1)]
    assert "row 5001, rating: '0.3'" in refused(file(tmp_path, lines(bad), "bad.csv")).message
    assert "row 5001, rating: 0.3" in refused(parquet(tmp_path, table(bad), "bad.parquet")).message


STREAM = """
import sys, pyarrow as pa
from expunge.data.interactions import InteractionsFile
data = InteractionsFile(path=sys.argv[1], kind="binary").open()
print(data.train.events, pa.default_memory_pool().max_memory())
"""


@pytest.mark.parametrize("name", ["large.csv", "large.parquet"])
def test_text_of_a_large_file_is_never_held(tmp_path: Path, name: str) -> None:
    """An id of 190 characters in each of 400,000 rows: 80 MB of text, of which Arrow may hold a few batches."""
    users, items = [f"{n:0>95}" for n in range(640)], [f"{n:0>95}" for n in range(625)]
    if name.endswith("csv"):
        content = "user,item\n" + "\n".join(f"{u},{i}" for u in users for i in items)
        path = file(tmp_path, content.encode(), name)
        assert path.stat().st_size > 75e6
    else:
        found = pa.table({"user": np.repeat(users, 625).tolist(), "item": items * 640})
        path = parquet(tmp_path, found, name, row_group_size=20_000, use_dictionary=False, compression="none")
        assert path.stat().st_size > 75e6
    done = subprocess.run([sys.executable, "-c", STREAM, str(path)], capture_output=True, text=True, check=True)
    events, most = map(int, done.stdout.split())
    assert events == 400_000
    assert most < 45e6, "Arrow had more than its read-ahead"


# A scipy matrix.


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_csr_matrix(tmp_path: Path, kind: Any, compressed: bool) -> None:
    sparse.save_npz(tmp_path / "m.npz", matrix(kind=kind), compressed=compressed)
    data = opened(tmp_path / "m.npz")
    assert as_set(data.train) == {
        ("user/0", "item/0", 9, None), ("user/0", "item/2", 6, None),
        ("user/2", "item/1", 2, None), ("user/2", "item/2", 254, None),
    }  # fmt: skip
    assert data.train.ids == ("user/0", "user/2"), "a row without events is nobody"
    assert data.scale == "half-stars"


@pytest.mark.parametrize("kind", [np.int8, np.bool_, np.float64, np.uint16])
def test_ones_are_events(tmp_path: Path, kind: Any) -> None:
    sparse.save_npz(tmp_path / "m.npz", matrix([[1, 0], [1, 1]], kind))
    data = opened(tmp_path / "m.npz")
    assert (data.scale, data.train.values.tolist()) == ("implicit", [1, 1, 1])


def test_counts_are_refused_with_a_way_out(tmp_path: Path) -> None:
    sparse.save_npz(tmp_path / "m.npz", matrix([[300, 0], [1, 1]]))
    error = refused(tmp_path / "m.npz", "1 bad values: event 1: 300")
    assert "kind=binary" in str(error.hint)
    assert opened(tmp_path / "m.npz", kind="binary").train.values.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "ids",
    [
        {"users": ["ann", "bob", "zoë"], "items": ["tea", "milk", 7]},
        {"users": {"bob": 1, "ann": 0, "zoë": 2}, "items": {"tea": 0, "milk": 1, "7": 2}},
    ],
)
def test_ids_of_a_matrix(tmp_path: Path, ids: Any) -> None:
    sparse.save_npz(tmp_path / "m.npz", matrix())
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    data = opened(tmp_path / "m.npz", ids="ids.json")
    assert data.train.ids == ("user/ann", "user/zoë")
    assert ("user/zoë", "item/milk", 2, None) in as_set(data.train)
    assert opened(tmp_path / "m.npz", ids=str(tmp_path / "ids.json"), min_item_events=0).items == (
        "item/7", "item/milk", "item/tea"
    )  # fmt: skip


@pytest.mark.parametrize(
    "ids",
    [
        "", "[1", "[]", "{}", '{"users": [], "items": []}', '{"users": ["a", "b"], "items": ["x", "y", "z"]}',
        '{"users": ["a", "b", "b"], "items": ["x", "y", "z"]}', '{"users": ["a", "b", ""], "items": ["x", "y", "z"]}',
        '{"users": ["a", "b", "\\u202e"], "items": ["x", "y", "z"]}', '{"users": ["a", "b", null], "items": ["x", "y", "z"]}',
        '{"users": {"a": 0, "b": 1, "c": 3}, "items": ["x", "y", "z"]}',
        '{"users": {"a": 0, "b": 1, "c": true}, "items": ["x", "y", "z"]}',
        '{"users": {"a": 0, "b": 1, "a": 2}, "items": ["x", "y", "z"]}',
        '{"users": ["a", "b", 1.5], "items": ["x", "y", "z"]}', '{"users": 7, "items": ["x", "y", "z"]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_ids_of_a_matrix_that_are_none(tmp_path: Path, ids: str) -> None:
    sparse.save_npz(tmp_path / "m.npz", matrix())
    (tmp_path / "ids.json").write_text(ids)
    with pytest.raises(InputError, match=r"ids.json") as caught:
        opened(tmp_path / "m.npz", ids="ids.json")
    assert caught.value.code == "bad-data"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"indptr": None}, "no indptr"),
        ({"format": b"csc"}, "not in the format csr"),
        ({"format": np.array([1])}, "not in the format csr"),
        ({"indptr": [0, 2, 2, 3]}, "indptr does not divide"),
        ({"indptr": [0, 3, 2, 4]}, "indptr does not divide"),
        ({"indptr": [1, 2, 2, 4]}, "indptr does not divide"),
        ({"indptr": [0.0, 2, 2, 4]}, "indptr is float64"),
        ({"indptr": np.array([], np.int64)}, "indptr does not divide"),
        ({"indices": [0, 2, 1, 3]}, "indices outside"),
        ({"indices": [0, -1, 1, 2]}, "indices outside"),
        ({"indices": [0, 2, 1]}, "3 indices for 4 values"),
        ({"indices": [[0, 2, 1, 2]]}, "shape"),
        ({"data": [1, 2, 3j, 4]}, "data is complex128"),
        ({"data": ["a", "b", "c", "d"]}, "data is <U1"),
        ({"data": np.array([1, None, 2, 3], object)}, "cannot be read as npz"),
        ({"data": [4.5, np.nan, 1, 1]}, "1 bad values: event 2: nan"),
        ({"data": [4.5, np.inf, 0, -1]}, "3 bad values"),
        ({"shape": [3]}, "shape is"),
        ({"shape": [3, 0]}, "out of range"),
        ({"shape": [2**62, 3]}, "out of range"),
        ({"shape": [-1, 3]}, "out of range"),
        ({"indices": [0, 0, 1, 2]}, r"1 repeated events: events 1 and 2 \(user '0', item '0'\)"),
    ],
)
def test_matrices_that_are_none(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    refused(npz(tmp_path, **arrays), said)


def test_a_header_that_promises_a_petabyte(tmp_path: Path) -> None:
    """Shapes are checked against the bytes that are there before anything is allocated."""
    import zipfile

    sparse.save_npz(tmp_path / "m.npz", matrix(), compressed=False)
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    raw = members["data.npy"]
    members["data.npy"] = raw.replace(b"(4,), }             ", b"(1125899906842624,), }")
    members["data.npy"] = members["data.npy"][: len(raw)]
    assert members["data.npy"] != raw
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    refused(tmp_path / "m.npz", "cannot be read as npz")


# Options.


def test_duplicates_are_refused(tmp_path: Path) -> None:
    error = refused(file(tmp_path, lines([*EVENTS, ("bob", "tea", 3, 4)])), "1 repeated events: rows 3 and 7")
    assert "duplicates=last" in str(error.hint)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(1, 20), st.integers(0, 3)), min_size=1
    )
)
@SLOW
def test_the_last_of_duplicates_by_time_then_row(tmp_path: Path, events: Any) -> None:
    last: dict[tuple[str, str], tuple[int, int]] = {}
    untimed: dict[tuple[str, str], int] = {}
    for user, item, value, time in events:
        if time >= last.get((user, item), (0, -1))[1]:
            last[user, item] = (value, time)
        untimed[user, item] = value
    rows = [(u, i, v / 2, t) for u, i, v, t in events]
    data = opened(file(tmp_path, lines(rows)), duplicates="last")
    assert as_set(data.train) == {(f"user/{u}", f"item/{i}", *cell) for (u, i), cell in last.items()}
    data = opened(file(tmp_path, lines([row[:3] for row in rows], "user,item,score")), duplicates="last")
    assert as_set(data.train) == {(f"user/{u}", f"item/{i}", v, None) for (u, i), v in untimed.items()}


def test_somebody_who_changed_their_mind_is_taken_at_their_last_word(tmp_path: Path) -> None:
    events = [("ann", "tea", 5, 1), ("ann", "tea", 2, 2), ("bob", "tea", 5, 1)]
    data = opened(file(tmp_path, lines(events)), duplicates="last", min_rating=4)
    assert data.train.ids == ("user/bob",)


def test_test_users_and_vocabulary(tmp_path: Path) -> None:
    events = [(f"u{n}", f"i{m}", 1 + n % 4, n) for n in range(40) for m in range(10) if (n * m) % 7 < 3]
    data = opened(file(tmp_path, lines(events)), test_users=12, min_item_events=9, min_rating=2)
    liked = [event for event in events if event[2] >= 2]
    assert len(data.test) == 12
    assert set(data.test.ids) | set(data.train.ids) == {f"user/{event[0]}" for event in liked}
    assert set(data.test.ids).isdisjoint(data.train.ids)
    counts: dict[str, int] = {}
    for user, item, *_ in liked:
        counts[item] = counts.get(item, 0) + (f"user/{user}" in data.train.slot_of)
    assert data.items == tuple(f"item/{item}" for item in sorted(counts) if counts[item] >= 9)
    assert 0 < len(data.items) < 10


def test_binary_does_not_read_ratings_unless_it_must(tmp_path: Path) -> None:
    path = file(tmp_path, lines([("ann", "tea", "many", 1), ("bob", "tea", "-3", 1)]))
    data = opened(path, kind="binary")
    assert (data.scale, data.train.values.tolist(), data.note) == ("implicit", [1, 1], "events.csv, binary")
    assert "kind=binary" in str(refused(path, "2 bad cells: row 1, rating: 'many'").hint)
    refused(path, "2 bad cells", kind="binary", min_rating=3)


def test_min_rating_without_ratings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ratings"):
        opened(file(tmp_path, b"user,item\na,b\n"), min_rating=3)


@pytest.mark.parametrize(
    "options",
    [
        {"path": None},
        {"ids": "ids.json"},
        {"duplicates": "first"},
        {"duplicates": True},
        {"kind": "x"},
        {"min_rating": 128},
    ],
)
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        InteractionsFile(**({"path": "e.csv"} | options))


def test_the_registry_finds_it() -> None:
    assert registry.load("data", "interactions") is InteractionsFile
