"""Files of events as batches of columns: CSV, TSV, RecBole's .inter, MovieLens and parquet, none of it held as a whole.

A line break inside a quoted cell is refused wherever it is, also in a column that is not read: an unclosed quote would
otherwise swallow the rows after it without a word.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from expunge.core.errors import DataError
from expunge.data._event_columns import Table

ALIASES: Mapping[str, tuple[str, ...]] = {
    "user": ("user_id", "userId", "userID", "user", "uid"),
    "item": ("item_id", "movieId", "itemId", "iid", "item"),
    "rating": ("rating", "weight", "score"),
    "time": ("timestamp", "unixReviewTime", "datetime", "ts"),
}
NEEDED = ("user", "item")
_BLOCK = 1 << 20  # bytes, of which Arrow reads some 40 ahead; no row may be longer
_HEADER = 1 << 16
_BATCH = 1 << 16  # rows of parquet
_ERRORS = (pa.ArrowException, OSError, ValueError, MemoryError)
_INTER_TYPES = {"user": ("token",), "item": ("token",), "rating": ("float",), "time": ("float",)}

_RAGGED = re.compile(r"Row #(\d+): Expected (\d+) columns, got (\d+)")

Finder = Callable[[Sequence[str], str], dict[str, int]]


def by_alias(header: Sequence[str], file: str) -> dict[str, int]:
    """role -> column, by the names that such files have. Raises DataError on a missing or an ambiguous one."""
    found: dict[str, int] = {}
    for role, aliases in ALIASES.items():
        places = [place for place, name in enumerate(header) if name in aliases]
        if len(places) > 1:
            names = ", ".join(header[place] for place in places)
            raise DataError(f"{file} has {len(places)} columns for the {role}", got=names, hint="leave one of them")
        if places:
            found[role] = places[0]
    missing = [role for role in NEEDED if role not in found]
    if missing:
        expected = "; ".join(f"{role}: one of {', '.join(ALIASES[role])}" for role in missing)
        got = ascii(", ".join(header))[1:-1][:200]
        raise DataError(f"{file} has no column for the {' and '.join(missing)}", expected=expected, got=got)
    return found


def by_typed_alias(header: Sequence[str], file: str) -> dict[str, int]:
    """The same for RecBole's `name:type` headers."""
    found = by_alias([name.partition(":")[0] for name in header], file)
    for role, place in found.items():
        kind = header[place].partition(":")[2]
        if kind not in _INTER_TYPES[role]:
            expected = f"{header[place].partition(':')[0]}:{_INTER_TYPES[role][0]}"
            raise DataError(f"{file} has a column of another type", expected=expected, got=ascii(header[place])[:80])
    return found


def text_table(
    path: Path, *, delimiters: str = ",", quoted: bool = True, find: Finder = by_alias, skip: Sequence[str] = ()
) -> Table:
    """A text file with a header. The delimiter is the one that makes most columns of it. `skip`: roles not to read."""
    line = _first_line(path)
    try:
        headers = {d: next(csv.reader([line], delimiter=d), []) if quoted else line.split(d) for d in delimiters}
    except csv.Error as error:
        raise DataError(f"{path.name} has no readable header", got=str(error)[:80]) from error
    delimiter = max(headers, key=lambda one: len(headers[one]))
    header = headers[delimiter]
    used = {role: place for role, place in find(header, path.name).items() if role not in skip}
    batches = _text_batches(path, len(header), used, delimiter=delimiter, quoted=quoted, skipped=1)
    return Table(file=path.name, names={role: header[place] for role, place in used.items()}, batches=batches)


def bare_table(path: Path, *, delimiter: str, roles: Mapping[str, int], width: int) -> Table:
    """A text file without header and quotes: `width` columns, of which those without a role must be empty."""
    batches = _text_batches(path, width, roles, delimiter=delimiter, quoted=False, skipped=0)
    return Table(file=path.name, names={role: role for role in roles}, batches=batches)


def parquet_table(path: Path, *, skip: Sequence[str] = ()) -> Table:
    """A parquet file; ids are text or whole numbers. `skip`: roles not to read."""
    try:
        schema = pq.read_schema(path)
    except _ERRORS as error:
        raise DataError(f"{path.name} cannot be read as parquet", got=ascii(str(error))[:200]) from error
    used = {role: place for role, place in by_alias(schema.names, path.name).items() if role not in skip}
    names = {role: schema.names[place] for role, place in used.items()}
    for role, name in names.items():
        _check_type(path.name, role, name, schema.field(used[role]).type)
    return Table(file=path.name, names=names, batches=_parquet_batches(path, names))


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER)
        line = start.replace(b"\r", b"\n").partition(b"\n")[0]
        found = line.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read as UTF-8 text", got=str(error)[:120]) from error
    if not found or len(line) == _HEADER:
        raise DataError(f"{path.name} has no header", expected="column names in the first line")
    return found


def _text_batches(
    path: Path, width: int, roles: Mapping[str, int], *, delimiter: str, quoted: bool, skipped: int
) -> Iterator[dict[str, Any]]:
    """Columns as text; raises DataError on anything that is not `width` columns of UTF-8 a row."""
    names = [f"c{place}" for place in range(width)]
    wanted = {names[place]: role for role, place in roles.items()}
    kinds = {name: pa.string() if name in wanted else pa.binary() for name in names}
    try:
        reader = pv.open_csv(
            path,
            read_options=pv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=names, skip_rows=skipped),
            parse_options=pv.ParseOptions(
                delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted
            ),
            convert_options=pv.ConvertOptions(include_columns=names, column_types=kinds, strings_can_be_null=False),
        )
        for batch in reader:
            _check_unread(path.name, batch, wanted, empty=not skipped)
            yield {role: batch.column(name) for name, role in wanted.items()}
    except _ERRORS as error:
        raise _unreadable(path.name, str(error), delimiter, skipped) from error


def _unreadable(file: str, said: str, delimiter: str, skipped: int) -> DataError:
    """Arrow's message without what it quotes from the file, which may be long, and about people."""
    ragged = _RAGGED.search(said)
    if ragged:
        row = int(ragged[1]) - skipped
        return DataError(
            f"{file}: row {row} has {ragged[3]} columns", expected=f"{ragged[2]} columns", got=f"{ragged[3]} columns"
        )
    return DataError(
        f"{file} cannot be read as a table",
        got=ascii(said)[1:-1][:200],
        hint=f"UTF-8, {delimiter!r} between columns, no row beyond {_BLOCK >> 20} MB",
    )


def _check_unread(file: str, batch: Any, wanted: Mapping[str, str], *, empty: bool) -> None:
    """Columns without a role hold no line break, or nothing at all."""
    for place, name in enumerate(batch.schema.names):
        if name in wanted:
            continue
        column = batch.column(name)
        bad = pc.greater(pc.binary_length(column), 0) if empty else pc.match_substring_regex(column, r"[\r\n]")
        if pc.any(bad).as_py():
            what = "more than a separator" if empty else "a line break inside a cell, or a quote that is never closed"
            raise DataError(
                f"{file} has {what} in column {place + 1}", hint="write a file of the columns that are needed"
            )


def _parquet_batches(path: Path, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(names.values()), use_threads=False):
                batch.validate(full=True)  # text that is not UTF-8 is found here
                yield {role: batch.column(name) for role, name in names.items()}
    except (*_ERRORS, KeyError) as error:
        raise DataError(f"{path.name} cannot be read as parquet", got=ascii(str(error))[:200]) from error


def _check_type(file: str, role: str, name: str, kind: Any) -> None:
    """Text and whole numbers for ids, numbers and text for ratings, those and dates for times."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(plain) or pa.types.is_large_string(plain)
    good = text or pa.types.is_integer(plain)
    if role in ("rating", "time"):
        good = good or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    if role == "time":
        good = (good and plain == kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    if not good:
        kinds = {"rating": "numbers", "time": "whole numbers or dates"}.get(role, "text or whole numbers")
        raise DataError(f"{file} has a column {name} of another type", expected=kinds, got=ascii(str(kind))[:80])
