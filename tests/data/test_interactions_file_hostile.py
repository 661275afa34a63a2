"""Files of events that lie: a typed error that says where, never a crash, never a row that is lost without a word."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from event_files import (
    EVENTS,
    file,
    lines,
    matrix,
    opened,
    parquet,
    refused,
    table,
)
from expunge.core.errors import InputError

SLOW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize(
    "cell",
    [
        "",
        " ",
        " a",
        "a ",
        "a\tb",
        "a\x00",
        "\x1b[2J",
        "a\x7f",
        "\u202eabc",
        "\u200b",
        "\ufeff",
        "x" * 201,
        "=1+1",
        "=cmd|' /C calc'!A0",
    ],
)
def test_ids_that_could_mislead(tmp_path: Path, column: int, cell: str) -> None:
    event: list[Any] = ["ann", "tea", 3, 1]
    event[column] = cell
    error = refused(file(tmp_path, lines([EVENTS[0], event])), "1 bad cells: row 2, (user_id|item_id)")
    assert error.message.isascii() or "…" in error.message
    assert error.message.isprintable()
    assert "printable" in str(error.expected)
    found = table([EVENTS[0], tuple(event)])
    refused(parquet(tmp_path, found), "1 bad cells: row 2, (user_id|item_id)")


def test_no_id_that_comes_out_starts_a_formula(tmp_path: Path) -> None:
    data = opened(file(tmp_path, lines([("+1", "@tea", 3, 1), ("-1", "x" * 200, 3, 1)])))
    assert data.train.ids == ("user/+1", "user/-1")
    assert data.items[0] == "item/@tea"


@pytest.mark.parametrize(
    "cell", ["", "0", "0.0", "127.5", "128", "4.2", "4.05", "nan", "inf", "=4", "4,5", "0x8", "٤", "4\x00", "1e1"]
)
def test_ratings_that_are_none(tmp_path: Path, cell: str) -> None:
    error = refused(file(tmp_path, lines([EVENTS[0], ("ann", "milk", cell, 1)])), "1 bad cells: row 2, rating: ")
    assert error.expected == "a multiple of .5 from .5 to 127"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -1.0, 0.0, 4.2, 1e300])
def test_numbers_that_are_no_ratings(tmp_path: Path, value: Any) -> None:
    found = table(rating=pa.array([1.0, value, 3.0, 3.0, 3.0, 3.0], "float64"))
    refused(parquet(tmp_path, found), "1 bad cells: row 2, rating")


@pytest.mark.parametrize("value", [None, -5, 2**62, 1_500_000_000_000])
def test_numbers_that_are_no_times(tmp_path: Path, value: Any) -> None:
    found = table(timestamp=pa.array([1, 1, 1, value, 1, 1], "int64"))
    refused(parquet(tmp_path, found), "1 bad cells: row 4, timestamp")
    found = table(timestamp=pa.array([1, 1, 1, float("nan") if value is None else float(value), 1, 1], "float64"))
    refused(parquet(tmp_path, found), "1 bad cells: row 4, timestamp")


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": [1.0] * 6}, {"user_id": [True] * 6}, {"user_id": [[1]] * 6}, {"user_id": [b"a"] * 6},
        {"user_id": [{"a": 1}] * 6}, {"user_id": pa.nulls(6)}, {"item_id": [date(2020, 1, 1)] * 6}, {"rating": [True] * 6},
        {"rating": [[1]] * 6}, {"rating": [b"1"] * 6}, {"rating": pa.array([1.0] * 6, "float16")}, {"timestamp": [b"1"] * 6},
        {"timestamp": [True] * 6}, {"timestamp": [{"t": 1}] * 6}, {"timestamp": pa.array([1] * 6, pa.duration("s"))},
    ],
)  # fmt: skip
def test_parquet_of_other_types(tmp_path: Path, changes: dict[str, Any]) -> None:
    refused(parquet(tmp_path, table(**changes)), "of another type")


def test_nulls_among_ids(tmp_path: Path) -> None:
    refused(
        parquet(tmp_path, table(user_id=["a", None, "b", "c", None, "d"])), "2 bad cells: row 2, user_id: None; row 5"
    )


def test_text_in_parquet_that_is_not_utf8(tmp_path: Path) -> None:
    good = parquet(tmp_path, table(user_id=["ann", "ann", "bob", "bob", "QQQQ", "zoe"]), compression="none")
    good.write_bytes(good.read_bytes().replace(b"QQQQ", b"\xff\xfe\xfd\xfc"))
    refused(good, "cannot be read as parquet")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no header"),
        (b"\n\n", "no header"),
        (b"user,item\n", "no events"),
        (b"a,b\n1,2\n", "no column for the user and item"),
        (b"user,thing\n1,2\n", "no column for the item"),
        (b"user,userId,item\n1,2,3\n", "2 columns for the user"),
        (b"item,item,user\n1,2,3\n", "2 columns for the item"),
        (b"user,item\n1,2\n3\n4,5,6\n", "row 2 has 1 columns"),
        (b"user,item\n1,\xff\xfe\n", "cannot be read as a table"),
        ("user,item\nzoë,tea\n".encode("latin-1"), "cannot be read as a table"),
        ("user,item\na,b\n".encode("utf-16"), "UTF-8"),
        ("user,item\na,b\n".encode("utf-16-le"), "no column"),
        (b"\x00" * 200, "no column"),
        (b"user,item\n" + b"\x00" * 200, "has . columns"),
        (b"user,item\na," + b"x" * (3 << 20) + b"\n", "cannot be read as a table"),
        (b"user,item\na," + b"x" * (1 << 19) + b"\n", "1 bad cells: row 1, item: 'x{40}"),
        (b"user,item" + b"," * (1 << 17) + b"\n", "no header"),
        (b'user,item\na,"b\nc,d\n', "bad cells|has . columns"),
        (b'user,item,note\na,b,"x\nc,d,y\n', "a line break inside a cell, or a quote that is never closed in column 3"),
        (b'user,item,note\na,b,"x\ny"\nc,d,y\n', "a line break inside a cell"),
        (b"PK\x03\x04" + b"\x00" * 100, "no column"),
        (b"user;item\na;b;c\n", "has . columns"),
    ],
)
def test_text_files_that_lie(tmp_path: Path, content: bytes, said: str) -> None:
    refused(file(tmp_path, content), said)


@pytest.mark.parametrize(
    "header",
    [
        "user_id,item_id",
        "user_id:token_seq,item_id:token",
        "user_id:token,item_id:float",
        "user_id:token,item_id:token,rating:token",
    ],
)
def test_types_of_recbole(tmp_path: Path, header: str) -> None:
    content = lines([("a", "b", 3)[: header.count(",") + 1]], header, "\t")
    refused(file(tmp_path, content, "e.inter"), "of another type")


@pytest.mark.parametrize("name", ["e.csv", "e.xlsx", "e.pkl", "folder.csv"])
def test_files_that_are_none(tmp_path: Path, name: str) -> None:
    if name == "folder.csv":
        (tmp_path / name).mkdir()
    elif name != "e.csv":
        (tmp_path / name).write_bytes(b"user,item\na,b\n")
    refused(tmp_path / name, "no file of interactions")


@pytest.mark.parametrize("name", ["e.parquet", "e.npz"])
@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1PAR1", b"PK\x05\x06" + b"\x00" * 18, b"\x80\x04N.", b"\x93NUMPY"]
)
def test_binary_files_that_lie(tmp_path: Path, name: str, content: bytes) -> None:
    refused(file(tmp_path, content, name))


def only_typed(path: Path, **options: Any) -> None:
    """Either a data set whose ids are harmless, or a typed error that can be shown."""
    said: list[str] = []
    try:
        data = opened(path, **options)
    except InputError as error:
        said = error.lines()
    else:
        assert all(name.isprintable() and len(name) <= 205 for name in (*data.train.slot_of, *data.items))
        assert data.train.events > 0
    assert all(line.isprintable() for line in said), said


SPICE = [
    b"\x00",
    b'"',
    b"\n",
    b"\r",
    b",",
    b"\t",
    b"\xff",
    b"\xc3",
    b"=",
    b"nan",
    b"-",
    b"1e999",
    b"\xef\xbb\xbf",
    b"::",
    b";",
]


@given(st.lists(st.sampled_from([*SPICE, b"user", b"item", b"rating", b"timestamp", b"a", b"4.5", b"7"]), max_size=60))
@SLOW
def test_fuzz_text(tmp_path: Path, pieces: list[bytes]) -> None:
    for name, start in (
        ("e.csv", b""),
        ("e.csv", b"user,item,rating,timestamp\n"),
        ("e.inter", b"uid:token\tiid:token\n"),
    ):
        only_typed(file(tmp_path, start + b"".join(pieces), name))


@given(st.integers(0, 2**32), st.sampled_from(["csv", "parquet", "plain", "npz", "stored"]), st.booleans())
@SLOW
def test_fuzz_damage(tmp_path: Path, seed: int, kind: str, cut: bool) -> None:
    """A good file, a few of whose bytes are other bytes, or that ends early."""
    name = {"csv": "e.csv", "parquet": "e.parquet", "plain": "e.parquet"}.get(kind, "e.npz")
    path = tmp_path / name
    if kind == "csv":
        path.write_bytes(lines(EVENTS))
    elif name == "e.parquet":
        parquet(
            tmp_path, table(), name, compression="none" if kind == "plain" else "snappy", use_dictionary=kind != "plain"
        )
    else:
        sparse.save_npz(path, matrix(), compressed=kind == "npz")
    content, draw = bytearray(path.read_bytes()), random.Random(seed)
    for _ in range(draw.randint(1, 4)):
        content[draw.randrange(len(content))] = draw.choice([draw.randrange(256), *b'\x00",\n\xff'])
    path.write_bytes(content[: draw.randrange(len(content))] if cut else content)
    only_typed(path)
