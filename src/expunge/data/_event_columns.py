"""Columns of text and numbers become numbers, a batch at a time: ids as they come, half stars, seconds since 1970.

Only the distinct values of a batch are looked at one by one, so memory holds ids once and 17 bytes an event. Cells that
cannot be read are all counted, and the first are named by row and column; nothing is repaired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from expunge.core.errors import DataError
from expunge.data._events import SHOWN, Events, half_stars

LONGEST_ID = 200
AFTER = 253_402_300_800  # seconds: the year 10000; milliseconds of any day since 1978 are beyond
_BAD = -1
_DECIMAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,30})?(?:[eE]\+?[0-9]{1,2})?\Z")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file as batches of columns by role: `user`, `item`, and where it has them `rating` and `time`.

    names: role -> column as the file calls it.
    """

    file: str
    names: Mapping[str, str]
    batches: Iterable[Mapping[str, Any]]


class Problems:
    """Bad cells of a file: how many, and the first of them."""

    def __init__(self, file: str) -> None:
        self.file, self.count = file, 0
        self.shown: list[str] = []
        self.expected: dict[str, None] = {}
        self.hints: dict[str, None] = {}

    def add(self, rows: NDArray[np.int64], cells: Any, column: str, expected: str, hint: str | None) -> None:
        """Cells of one column; `rows` counts from 1, `cells` are their values."""
        self.count += len(rows)
        for row, cell in list(zip(rows.tolist(), cells, strict=False))[: SHOWN - len(self.shown)]:
            text = ascii(cell[:40] + "…" * (len(cell) > 40) if isinstance(cell, str) else cell)
            self.shown.append(f"row {row}, {column}: {text}")
        self.expected[expected] = None
        if hint:
            self.hints[hint] = None

    def check(self) -> None:
        """Raises DataError if there were any."""
        if self.count:
            more = f" (+{self.count - len(self.shown)} more)" if self.count > len(self.shown) else ""
            raise DataError(
                f"{self.file} has {self.count} bad cells: {'; '.join(self.shown)}{more}",
                expected="; ".join(self.expected),
                hint="; ".join(self.hints) or "correct the file; rows count from 1, without the header",
            )


class IdBook:
    """Ids in the order in which they came. `accept` says which text is an id."""

    def __init__(self, accept: Callable[[str], bool], expected: str) -> None:
        self.accept, self.expected = accept, expected
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int | None:
        """The number of an id, a new one if need be; None for what is no id."""
        known = self.numbers.get(text)
        if known is None and self.accept(text):
            known = self.numbers[text] = len(self.numbers)
        return known

    def number_all(self, texts: Sequence[Any]) -> list[int | None]:
        """The same for many distinct texts, of which most are known; None for None."""
        found = list(map(self.numbers.get, texts))
        for place, text in enumerate(texts):
            if found[place] is None and text is not None:
                found[place] = self.number(text)
        return found


def plain_ids() -> IdBook:
    """Ids of any text that a terminal, a log and a spreadsheet show as it is."""
    return IdBook(is_plain_id, f"an id of 1..{LONGEST_ID} printable characters, no space around it, no = before it")


def is_plain_id(text: str) -> bool:
    """Printable, short, without outer spaces (a user erased under one spelling would stay under the other)."""
    return 0 < len(text) <= LONGEST_ID and text.isprintable() and text == text.strip() and not text.startswith("=")


def collect(table: Table, *, user: IdBook, item: IdBook, top: int, hint: str | None = None) -> Events:
    """All events of a table. `top`: the highest rating in half stars; `hint`: what to do about ratings that are none.

    Raises DataError with every bad cell counted.
    """
    problems, row = Problems(table.file), 0
    parts: dict[str, list[NDArray[Any]]] = {role: [] for role in table.names}
    stars = f"a multiple of .5 from .5 to {top / 2:g}"
    for batch in table.batches:
        for role, column in batch.items():
            told = partial(_told, problems, row, column, table.names[role])
            if role in ("user", "item"):
                book = user if role == "user" else item
                parts[role].append(
                    told(_by_word(_as_text(column), book.number_all), book.expected, None).astype(np.int32)
                )
            elif role == "rating":
                twice = told(_by_word(column, lambda words: [half_stars(word, top) for word in words]), stars, hint)
                parts[role].append(twice.astype(np.uint8))
            else:
                moments = told(_seconds(column), "seconds since 1970, or a date", "milliseconds? divide them by 1000")
                parts[role].append(moments)
        row += len(batch["user"])
    problems.check()
    return _joined(table.file, parts, list(user.numbers), list(item.numbers))


def _joined(file: str, parts: dict[str, list[NDArray[Any]]], users: list[str], items: list[str]) -> Events:
    kinds = {"user": np.int32, "item": np.int32, "rating": np.uint8, "time": np.int64}
    # Popped, so that one column at a time is there twice.
    whole = {role: np.concatenate([np.zeros(0, kinds[role]), *parts.pop(role)]) for role in tuple(parts)}
    implicit = "rating" not in whole
    value = np.ones(len(whole["user"]), np.uint8) if implicit else whole["rating"]
    return Events(
        file=file, users=users, items=items, user=whole["user"], item=whole["item"], value=value,
        time=whole.get("time"), scale="implicit" if implicit else "half-stars",
    )  # fmt: skip


def _told(
    problems: Problems, row: int, column: Any, name: str, found: NDArray[np.int64], expected: str, hint: str | None
) -> NDArray[np.int64]:
    """The numbers; those that could not be read are told first."""
    bad = np.flatnonzero(found == _BAD)
    if len(bad):
        problems.add(row + bad + 1, column.take(pa.array(bad[:SHOWN])).to_pylist(), name, expected, hint)
    return found


def _by_word(column: Any, parse: Callable[[list[Any]], list[int | None]]) -> NDArray[np.int64]:
    """What `parse` makes of the distinct values, for each row; -1 for None, and where the cell is empty."""
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    coded = plain.dictionary_encode()  # anew, so that the dictionary has what occurs and nothing else
    numbers = [_BAD if number is None else number for number in parse(coded.dictionary.to_pylist())]
    codes = coded.indices.cast(pa.int64()).fill_null(len(numbers)).to_numpy(zero_copy_only=False)
    found: NDArray[np.int64] = np.array([*numbers, _BAD], np.int64)[codes]
    return found


def _as_text(column: Any) -> Any:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return column.cast(pa.string()) if pa.types.is_integer(kind) else column


def _seconds(column: Any) -> NDArray[np.int64]:
    """Whole seconds since 1970, fractions cut off; -1 for what is none."""
    kind = column.type
    if pa.types.is_floating(kind):
        exact = column.cast(pa.float64()).fill_null(_BAD).to_numpy(zero_copy_only=False)
        return np.where((exact >= 0) & (exact < AFTER), exact, _BAD).astype(np.int64)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        column = column.cast(pa.timestamp("s"), safe=False)
    elif not pa.types.is_integer(kind) and not _all_digits(column):
        return _by_word(column, lambda words: [_second(word) for word in words])
    found = column.cast(pa.int64(), safe=False).fill_null(_BAD).to_numpy(zero_copy_only=False)
    return np.where((found >= 0) & (found < AFTER), found, _BAD).astype(np.int64, copy=False)


def _all_digits(column: Any) -> bool:
    # Arrow's own cast reads hexadecimal numbers too.
    return bool(pc.all(pc.match_substring_regex(column, "^[0-9]{1,15}$").fill_null(False)).as_py())


def _second(word: object) -> int | None:
    """Seconds from a decimal number, or from an ISO date, which is UTC unless it says otherwise."""
    if not isinstance(word, str) or len(word) > 60:
        return None
    try:
        if _DECIMAL.match(word):
            found = int(Decimal(word))
        else:
            moment = datetime.fromisoformat(word)
            found = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found < AFTER else None
