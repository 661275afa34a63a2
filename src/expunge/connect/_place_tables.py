"""Tables with a column of users: CSV, TSV, RecBole's .inter and parquet, rewritten row by row, never held as a whole."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from expunge.connect._places import Sought, opened, users_of, written
from expunge.core.errors import DataError
from expunge.core.places import Traces

USER = ("user_id", "userId", "userID", "user", "uid")
ITEM = ("item_id", "itemId", "movieId", "iid", "item")
WHAT = "a table of events: CSV, TSV, .inter or parquet"
_DELIMITERS = (",", "\t", ";", "|", "::")
_ROW = 1 << 20  # bytes; no row may be longer
_PARQUET = b"PAR1"

Blank = Callable[["Layout"], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """How to find the users: a header's name (or one of `aliases`), or column `position` from 1 without a header.

    `item`, `item_position`: the same of the items, which are looked for only where single events are.
    """

    name: str
    aliases: tuple[str, ...] = USER
    position: int = 0
    delimiter: str = ""
    item: str = ""
    item_position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Of a text table. `place` is the users' column from 0, `item` the items' where it is needed, `width` its columns."""

    delimiter: str
    quoted: bool
    place: int
    width: int
    header: bool
    item: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    raw: bytes
    cells: list[str]


def is_parquet(path: Path) -> bool:
    """By its first bytes. Raises DataError on what is no regular file."""
    with opened(path, WHAT) as (stream, _):
        return stream.read(4) == _PARQUET


def count_rows(path: Path, columns: Columns, traces: Traces) -> int:
    """Rows of the users in a text table. Raises DataError, naming the row, on a table that is none."""
    sought = Sought(traces)
    with opened(path, WHAT) as (stream, _):
        rows, layout = _rows(stream, path, columns, items=sought.events)
        return sum(sought.row(row.cells[layout.place], row.cells[layout.item]) for row in rows if row.cells)


def scrub_rows(path: Path, out: Path, columns: Columns, traces: Traces, blank: Blank) -> int:
    """The table without the users' rows, all others byte for byte; where `blank(layout)`, their row stays, empty."""
    sought, gone = Sought(traces), 0
    with opened(path, WHAT) as (stream, _), written(out, path) as file:
        rows, layout = _rows(stream, path, columns, items=sought.events)
        file.write(_head(stream, layout))
        for row in rows:
            if row.cells and sought.row(row.cells[layout.place], row.cells[layout.item]):
                gone += 1
                file.write(b'""' + _ending(row.raw) if blank(layout) else b"")
            else:
                file.write(row.raw)
    return gone


def plant_rows(path: Path, out: Path, columns: Columns, traces: Traces, each: Sequence[int]) -> int:
    """The table with `each[k]` more rows of made-up user k, otherwise like its last row; where events are looked for, the
    k-th row of all has the k-th event's item."""
    users_of(traces)
    items = [item for _, item in traces.events]
    with opened(path, WHAT) as (stream, _), written(out, path) as file:
        rows, layout = _rows(stream, path, columns, items=bool(items))
        head = _head(stream, layout)
        file.write(head)
        last = _Row(head, [])
        for last in rows:
            file.write(last.raw)
        ending = _ending(head) or _ending(last.raw) or b"\n"
        if last.raw and not _ending(last.raw):
            file.write(ending)
        cells = last.cells or [""] * layout.width
        for k, name in enumerate(repeated(traces, each)):
            cells[layout.place] = name
            if items:
                cells[layout.item] = items[k]
            file.write(_line(cells, layout) + ending)
    return sum(each)


def repeated(traces: Traces, each: Sequence[int]) -> list[str]:
    """The users' names, each as often as it has rows. Raises ValueError where there are other events than rows."""
    names = [name for name, times in zip(traces.names, each, strict=True) for _ in range(times)]
    if traces.events and len(names) != len(traces.events):
        raise ValueError("one row an event expected")
    return names


def _rows(stream: IO[bytes], path: Path, columns: Columns, *, items: bool) -> tuple[Iterator[_Row], Layout]:
    """The data rows, and the layout, read off the first row. Raises ValueError and DataError."""
    start = stream.readline(_ROW + 1)
    if len(start) > _ROW or not start.strip():
        raise ValueError("no first row that could be a header")
    layout = _layout(start.removeprefix(b"\xef\xbb\xbf"), path, columns, items=items)
    stream.seek(len(start) if layout.header else 0)
    return _records(stream, layout), layout


def _layout(start: bytes, path: Path, columns: Columns, *, items: bool) -> Layout:
    line = start.decode("utf-8").rstrip("\r\n")
    if "\0" in line or "\r" in line:
        raise ValueError("its first row is not text that ends with a line feed")
    inter = path.suffix == ".inter"
    choices = [columns.delimiter] if columns.delimiter else ["\t"] if inter else list(_DELIMITERS)
    quoted = {one: not inter and len(one) == 1 for one in choices}
    delimiter = max(choices, key=lambda one: len(_cells(line, one, quoted[one])))
    header = _cells(line, delimiter, quoted[delimiter])
    place = _place(header, path, columns) if not columns.position else columns.position - 1
    if not 0 <= place < len(header):
        raise DataError(f"{path.name} has {len(header)} columns", expected=f"a column {columns.position}")
    item = _item_place(header, path, columns) if items else 0
    return Layout(
        delimiter=delimiter,
        quoted=quoted[delimiter],
        place=place,
        width=len(header),
        header=not columns.position,
        item=item,
    )


def _item_place(header: Sequence[str], path: Path, columns: Columns) -> int:
    """Where the items are: by name under a header, by number without one. Raises DataError."""
    if not columns.position:
        return _place(header, path, items_of(columns), "item")
    if not 0 < columns.item_position <= len(header):
        raise DataError(
            f"whose items are in which column of {path.name} is not said",
            expected="a number from 1",
            got=str(columns.item_position),
            hint="say which with the option `item_position`",
        )
    return columns.item_position - 1


def items_of(columns: Columns) -> Columns:
    """How to find the items."""
    return Columns(name=columns.item, aliases=ITEM)


def _place(header: Sequence[str], path: Path, columns: Columns, whose: str = "user") -> int:
    return named_column([name.partition(":")[0] if ":" in name else name for name in header], path, columns, whose)


def named_column(header: Sequence[str], path: Path, columns: Columns, whose: str = "user") -> int:
    """Where the users are, from 0. Raises DataError on none and on several."""
    names = (columns.name,) if columns.name else columns.aliases
    found = [place for place, name in enumerate(header) if name.strip() in names]
    if len(found) != 1:
        raise DataError(
            f"{path.name} has {len(found)} columns for the {whose}",
            expected=f"one of {', '.join(names)}",
            got=ascii(", ".join(header))[1:-1][:200],
            hint=f"say which with the option `{'column' if whose == 'user' else 'item'}`, or `position` in a file without "
            "a header",
        )
    return found[0]


def _records(stream: IO[bytes], layout: Layout) -> Iterator[_Row]:
    """Rows with their line ends. Blank ones have no cells. Raises ValueError on a row that cannot be one."""
    number = 0
    while raw := stream.readline(_ROW + 1):
        number += 1
        while layout.quoted and raw.count(b'"') % 2 and len(raw) <= _ROW:
            more = stream.readline(_ROW + 1)
            if not more:
                raise ValueError(f"row {number} has a quote that is never closed")
            raw += more
        if len(raw) > _ROW:
            raise ValueError(f"row {number} is longer than {_ROW} bytes, or has a quote that is never closed")
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        cells = _cells(text, layout.delimiter, layout.quoted) if text else []
        if text and len(cells) != layout.width:
            raise ValueError(f"row {number} has {len(cells)} columns where the first row has {layout.width}")
        yield _Row(raw, cells)


def _cells(text: str, delimiter: str, quoted: bool) -> list[str]:
    if "\0" in text:
        raise ValueError("a row with a byte 0")
    if quoted and '"' in text:
        try:
            found = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise ValueError(f"a row that is no CSV: {str(error)[:80]}") from error
        if len(found) != 1:
            raise ValueError("a row that breaks into several")
        return found[0]
    if "\r" in text:
        raise ValueError("a row with a carriage return inside: other readers make two rows of it")
    return text.split(delimiter)


def _head(stream: IO[bytes], layout: Layout) -> bytes:
    """The header's bytes; the stream is left after them."""
    stream.seek(0)
    return stream.readline() if layout.header else b""


def _ending(raw: bytes) -> bytes:
    return raw[len(raw.rstrip(b"\r\n")) :]


def _line(cells: Sequence[str], layout: Layout) -> bytes:
    if layout.quoted:
        made = io.StringIO()
        csv.writer(made, delimiter=layout.delimiter, lineterminator="").writerow(cells)
        return made.getvalue().encode("utf-8")
    if any(layout.delimiter in cell or "\n" in cell or "\r" in cell for cell in cells):
        raise DataError(
            "a made-up name has the table's delimiter in it", expected=f"a name without {layout.delimiter!r}"
        )
    return layout.delimiter.join(cells).encode("utf-8")
