"""Tables from ids to numbers: encoders, category maps, key tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.connect._place_parquet import count_parquet, plant_parquet, scrub_parquet
from expunge.connect._place_tables import USER, Columns, Layout, count_rows, is_parquet, plant_rows, scrub_rows
from expunge.connect._places import (
    Span,
    is_one,
    json_text,
    quoted,
    reading,
    spans,
    starts,
    top_level,
    users_of,
    wanted,
    with_more,
    without,
    written,
)
from expunge.core.places import Traces

_WHAT = "a JSON map of ids, or a table with a column of ids"


@dataclass(frozen=True, slots=True)
class _Map:
    """Where the ids are: `keys` of an object, `values` of an object from numbers, or elements of a `list`."""

    text: str
    entries: list[Span]
    form: str
    at: int


class IdMap:
    """JSON or a table. A trace is an id that still has a number.

    JSON: `{"id": 3}`, `{"3": "id"}`, `["id", ...]` where the place is the number, and either of them under the key
    `users`. Tables: CSV, TSV and parquet with a column of ids (Merlin's `unique.user_id.parquet`, exported encoders). A
    scrubbed entry goes; where the place is the number (a list, a parquet map, a table of one column) its id becomes
    null or an empty cell, because dropping it would give everybody after it another user's number. Everything else
    keeps its bytes. The number of a deleted user is not to be given to anybody again.
    Where single events go the users keep their numbers, so it is left alone: a map of ids holds no event.
    Control: made-up ids with numbers of their own. Not seen: maps that hash ids (Bloom filters, hashed features).
    """

    scrubs: bool = True
    shortens: bool = True
    holds_events: bool = False

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """`key`: the member of the JSON object that has the map, if there is one. `column`: the ids' column of a table;
        empty = one of user_id, userId, userID, user, uid, id. `delimiter`: empty = found in the first row."""

        key: str = "users"
        column: str = ""
        delimiter: str = ""

    def __init__(self, config: Config) -> None:
        self._key = config.key
        self._columns = Columns(name=config.column, aliases=(*USER, "id"), delimiter=config.delimiter)

    def count(self, path: Path, traces: Traces) -> int:
        """Ids of the users that are in it."""
        if _is_json(path):
            names = wanted(traces)
            found = self._map(path)
            return sum(_holds(found, span, names) for span in found.entries)
        return (count_parquet if is_parquet(path) else count_rows)(path, self._columns, traces)

    def plant(self, path: Path, out: Path, traces: Traces) -> int:
        """Entries of the made-up users at the end, numbered by their slots."""
        users_of(traces)
        if _is_json(path):
            found = self._map(path)
            more = [_entry(found.form, name, slot) for name, slot in zip(traces.names, traces.slots, strict=True)]
            return _write(path, out, with_more(found.text, found.entries, found.at, more), len(more))
        each: Sequence[int] = [1] * len(traces.names)
        return (plant_parquet if is_parquet(path) else plant_rows)(path, out, self._columns, traces, each)

    def scrub(self, path: Path, out: Path, traces: Traces) -> int:
        """Without the users' ids."""
        if _is_json(path):
            return self._scrub_json(path, out, wanted(traces))
        if is_parquet(path):
            return scrub_parquet(path, out, self._columns, traces, blank=True)
        return scrub_rows(path, out, self._columns, traces, _one_column)

    def _scrub_json(self, path: Path, out: Path, names: frozenset[str]) -> int:
        found = self._map(path)
        gone = [span for span in found.entries if _holds(found, span, names)]
        if found.form == "list":
            text = found.text
            for span in reversed(gone):
                text = f"{text[: span.at]}null{text[span.end :]}"
        else:
            ids = {id(span) for span in gone}
            text, _ = without(found.text, found.entries, lambda span: id(span) in ids)
        return _write(path, out, text, len(gone))

    def _map(self, path: Path) -> _Map:
        text = json_text(path, _WHAT)
        with reading(path, _WHAT):
            entries, at = top_level(text)
            for span in entries:
                if span.key == self._key and isinstance(span.value, dict | list):
                    entries, at = spans(text, span.at)[0], span.at
                    break
            return _Map(text, entries, _form(entries, text[at]), at)


def _is_json(path: Path) -> bool:
    start = starts(path, 4096, _WHAT).removeprefix(b"\xef\xbb\xbf").lstrip()
    return start[:1] in (b"{", b"[")


def _form(entries: Sequence[Span], opening: str) -> str:
    """Raises ValueError on a map of anything but ids and numbers."""
    values: list[Any] = [span.value for span in entries]
    if opening == "[":
        if all(value is None or _is_id(value) for value in values):
            return "list"
    elif all(type(value) is int for value in values):
        return "keys"
    elif all(isinstance(value, str) or value is None for value in values):
        return "values"
    raise ValueError("a map of something other than ids and whole numbers")


def _is_id(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _holds(found: _Map, span: Span, names: frozenset[str]) -> bool:
    return is_one(span.key if found.form == "keys" else span.value, names)


def _entry(form: str, name: str, slot: int) -> str:
    if form == "list":
        return quoted(name)
    return f"{quoted(name)}: {slot}" if form == "keys" else f"{quoted(str(slot))}: {quoted(name)}"


def _one_column(layout: Layout) -> bool:
    return layout.width == 1


def _write(path: Path, out: Path, text: str, count: int) -> int:
    with written(out, path) as file:
        file.write(text.encode("utf-8"))
    return count
