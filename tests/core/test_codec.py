"""Canonical JSON against its twin rfc8785, and the strictness of reading."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Literal

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from expunge.core.codec import (
    MAX_INT,
    canonical,
    decimal,
    decode,
    digest_of,
    encode,
    loads,
    parse_timestamp,
    sha256_hex,
    timestamp,
)
from expunge.core.errors import InputError, InputProblems
from expunge.core.finding import Condition, Finding, Interval, Verdict
from expunge.core.plan import CheckSpec, Numerics

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | TEXT
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


@given(JSON)
def test_canonical_equals_rfc8785(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(JSON)
def test_reading_back_gives_the_same_value(value: object) -> None:
    assert loads(canonical(value)) == value
    assert canonical(loads(json.dumps(value, indent=1))) == canonical(value)


def test_keys_sort_by_utf16_not_by_code_point() -> None:
    keys = {"\U0001f600": 1, "\ufb33": 2, "a": 3, "\u20ac": 4, "\r": 5, "1": 6}
    assert list(json.loads(canonical(keys))) == ["\r", "1", "a", "\u20ac", "\U0001f600", "\ufb33"]
    assert sorted(keys) != list(json.loads(canonical(keys)))  # the trap


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        {"x": 0.5},
        MAX_INT + 1,
        -MAX_INT - 1,
        {1: 2},
        "\ud800",
        ["\udfff"],
        {"\ud800": 1},
        {1, 2},
        b"x",
    ],
)
def test_what_is_not_canonical_json(value: object) -> None:
    with pytest.raises(InputError):
        canonical(value)


def test_deep_nesting_is_bad_input_not_a_crash() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InputError, match="nested"):
        canonical(deep)
    with pytest.raises(InputError):
        loads("[" * 100_000 + "]" * 100_000)
    while deep:  # unpicked by hand: freeing it recursively is what this test is about
        deep = deep[0]  # type: ignore[assignment]


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,"a":2}',
        '{"x":{"a":1,"a":2}}',
        "1.0",
        "1e3",
        "NaN",
        "Infinity",
        "-Infinity",
        "9007199254740992",
        "-9007199254740992",
        "9" * 5000,
        "",
        "{",
        "01",
        "{'a':1}",
        "[1,]",
        "1 2",
    ],
)
def test_strict_reading_refuses(text: str) -> None:
    with pytest.raises(InputError):
        loads(text)
    with pytest.raises(InputError):
        loads(text.encode())


def test_bytes_that_are_not_utf8() -> None:
    for raw in (b'"\xff"', b"\xff\xfe1\x00", '"é"'.encode("latin-1"), b"\xef\xbb\xbf1"):
        with pytest.raises(InputError):
            loads(raw)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_decimal_reads_back_as_the_same_double(number: float) -> None:
    assert float(decimal(number)) == number
    assert decode(float, decimal(number)) == number


@pytest.mark.parametrize(
    ("number", "text"), [(0.0, "0"), (-0.0, "0"), (3.0, "3"), (0.1, "0.1"), (1e-7, "1e-07"), (1e22, "1e+22")]
)
def test_decimal_is_short(number: float, text: str) -> None:
    assert decimal(number) == text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_no_nan_in_a_record(number: float) -> None:
    with pytest.raises(InputError):
        encode({"x": number})


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=3))]),
                    min_value=datetime(1000, 1, 2), max_value=datetime(9999, 12, 30)))  # fmt: skip
def test_timestamps_round_trip_in_utc(moment: datetime) -> None:
    text = timestamp(moment)
    assert text.endswith("Z")
    assert len(text) == 27
    assert parse_timestamp(text) == moment


def test_naive_times_are_refused() -> None:
    with pytest.raises(InputError, match="zone"):
        timestamp(datetime(2026, 1, 1))
    with pytest.raises(InputProblems):
        decode(datetime, "2026-01-01T00:00:00")


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    name: str
    number: int
    share: float
    colour: Colour
    flags: frozenset[str]
    pair: tuple[int, str]
    table: Mapping[str, float]
    kind: Literal["a", "b"]
    when: datetime | None = None


NOUN = Noun(
    name="n",
    number=3,
    share=0.25,
    colour=Colour.RED,
    flags=frozenset({"y", "x"}),
    pair=(1, "z"),
    table={"k": 1.5},
    kind="a",
    when=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
)


def test_nouns_round_trip_through_canonical_json() -> None:
    plain = encode(NOUN)
    assert plain["share"] == "0.25"
    assert plain["flags"] == ["x", "y"]
    assert plain["when"] == "2026-01-02T03:04:05.000006Z"
    assert decode(Noun, loads(canonical(plain))) == NOUN
    assert digest_of(NOUN) == "sha256:" + sha256_hex(rfc8785.dumps(plain))


def test_real_nouns_round_trip() -> None:
    finding = Finding(
        check="membership",
        question="q",
        statistic="s",
        verdict=Verdict.PASS,
        reason="r",
        estimate=-0.125,
        interval=Interval(low=-1.0, high=1e-9, level=0.95, method="t"),
        n=3,
        conditions=(Condition(name="a", verdict=Verdict.FAIL, limit=0.1),),
        details={"k": "v"},
    )
    numerics = Numerics(precision="bf16", threads=2, device="cpu", instruction_set="AVX2", build="torch 2.13.0")
    for noun in (finding, numerics, CheckSpec(check="c", limits={"alpha": "0.025"})):
        assert decode(type(noun), loads(canonical(encode(noun)))) == noun


def test_all_problems_of_a_noun_come_at_once() -> None:
    plain = encode(NOUN) | {"number": "3", "share": 0.25, "colour": "blue", "kind": "c", "pair": [1], "extra": 1}
    del plain["name"]
    with pytest.raises(InputProblems) as caught:
        decode(Noun, plain)
    problems = "\n".join(caught.value.problems)
    for path in ("$.number", "$.share", "$.colour", "$.kind", "$.pair", "$.extra: unknown field", "$.name: missing"):
        assert path in problems
    assert len(caught.value.problems) == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("number", True),
        ("number", "1"),
        ("share", "nan"),
        ("share", "1."),
        ("share", ".5"),
        ("share", "0x10"),
        ("share", " 1"),
        ("name", None),
        ("flags", "xy"),
        ("table", []),
        ("table", {"k": None}),
        ("when", "yesterday"),
        ("when", 5),
    ],
)
def test_wrong_types_are_refused(field: str, value: object) -> None:
    with pytest.raises(InputProblems, match=field):
        decode(Noun, encode(NOUN) | {field: value})


@given(JSON)
def test_decoding_anything_never_crashes(value: object) -> None:
    try:
        decode(Noun, value)
    except InputProblems:
        return
    raise AssertionError("only the right shape decodes")
