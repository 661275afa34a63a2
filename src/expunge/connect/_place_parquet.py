"""Parquet tables with a column of users, rewritten batch by batch. Statistics, page indices and dictionaries are made
anew, because each of them would keep a deleted user's name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from expunge.connect._place_tables import Columns, items_of, named_column, repeated
from expunge.connect._places import Sought, opened, unreadable, users_of, written
from expunge.core.errors import DataError
from expunge.core.places import Traces

_BATCH = 1 << 16  # rows
_WHAT = "a parquet table with a column of users"


def count_parquet(path: Path, columns: Columns, traces: Traces) -> int:
    """Rows of the users. Raises DataError."""
    sought = Sought(traces)
    with _table(path) as file:
        names = file.schema_arrow.names
        places = _places(file, path, columns, sought)
        batches = file.iter_batches(batch_size=_BATCH, columns=[names[place] for place in places], use_threads=False)
        return sum(_sum(_going([batch.column(names[place]) for place in places], sought)) for batch in batches)


def scrub_parquet(path: Path, out: Path, columns: Columns, traces: Traces, *, blank: bool = False) -> int:
    """The table without the users' rows; with `blank` their names become null and the rows stay where they are."""
    sought, gone = Sought(traces), 0
    with _table(path) as file, written(out, path) as target, _writer(file, target) as writer:
        places = _places(file, path, columns, sought)
        for batch in file.iter_batches(batch_size=_BATCH, use_threads=False):
            mask = _going([batch.column(place) for place in places], sought)
            gone += _sum(mask)
            writer.write_batch(_fresh(_emptied(batch, places[0], mask) if blank else batch.filter(pc.invert(mask))))
    return gone


def plant_parquet(path: Path, out: Path, columns: Columns, traces: Traces, each: Sequence[int]) -> int:
    """The table with `each[k]` more rows of made-up user k, otherwise like its last row; where events are looked for, the
    k-th row of all has the k-th event's item."""
    users_of(traces)
    rows = [repeated(traces, each), [item for _, item in traces.events]]
    with _table(path) as file, written(out, path) as target, _writer(file, target) as writer:
        places, last = _places(file, path, columns, Sought(traces)), None
        for batch in file.iter_batches(batch_size=_BATCH, use_threads=False):
            writer.write_batch(_fresh(batch))
            last = batch.slice(len(batch) - 1) if len(batch) else last
        writer.write_batch(_fresh(_made(file.schema_arrow, last, dict(zip(places, rows, strict=False)))))
    return len(rows[0])


def _places(file: Any, path: Path, columns: Columns, sought: Sought) -> list[int]:
    """The users' column, and the items' where single events are looked for."""
    names = file.schema_arrow.names
    place = named_column(names, path, columns)
    return [place, named_column(names, path, items_of(columns), "item")] if sought.events else [place]


def _going(columns: Sequence[Any], sought: Sought) -> Any:
    """Which rows go."""
    if not sought.events:
        return _mask(columns[0], _texts(sought.users))
    users, items = (_plain(column) for column in columns)
    theirs = _mask(columns[1], _texts(sought.items | {item for _, item in sought.pairs})).to_pylist()
    texts = zip(users.to_pylist(), items.to_pylist(), theirs, strict=True)
    return pa.array([bool(mine) and sought.row(str(user), str(item)) for user, item, mine in texts], pa.bool_())


@contextmanager
def _table(path: Path) -> Iterator[Any]:
    with opened(path, _WHAT) as (stream, _):
        try:
            with pq.ParquetFile(stream, page_checksum_verification=True) as file:
                yield file
        except (pa.ArrowException, KeyError, TypeError) as error:
            raise unreadable(path, _WHAT, error) from error


@contextmanager
def _writer(file: Any, target: IO[bytes]) -> Iterator[Any]:
    """With the schema, its metadata and the codec of the file."""
    codec = file.metadata.row_group(0).column(0).compression if file.metadata.num_row_groups else "SNAPPY"
    codec = "NONE" if codec == "UNCOMPRESSED" else codec
    with pq.ParquetWriter(target, file.schema_arrow, compression=codec) as writer:
        yield writer


def _texts(names: frozenset[str]) -> Any:
    return pa.array(sorted(names), pa.string())


def _mask(column: Any, names: Any) -> Any:
    """Which rows are the users'; null is nobody."""
    plain = _plain(column)
    return pc.or_(pc.is_in(pc.utf8_trim_whitespace(plain), value_set=names), pc.is_in(plain, value_set=names))


def _plain(column: Any) -> Any:
    """A column as texts. Raises DataError on what cannot be ids."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    good = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_binary)
    if not any(test(kind) for test in good):
        raise DataError("a column of users of another type", expected="text or whole numbers", got=str(kind)[:80])
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    plain.validate(full=True)
    return plain.cast(pa.string())


def _sum(mask: Any) -> int:
    return int(pc.sum(mask).as_py() or 0)


def _emptied(batch: Any, place: int, mask: Any) -> Any:
    column = batch.column(place)
    decoded = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    made = pc.if_else(mask, pa.scalar(None, decoded.type), decoded)
    return _replaced(batch, {place: made})


def _fresh(batch: Any) -> Any:
    """Dictionaries hold what occurs, no more: a filtered batch would keep the names of rows that went."""
    kinds = {place: kind for place, kind in enumerate(batch.schema.types) if pa.types.is_dictionary(kind)}
    return _replaced(batch, {place: batch.column(place).dictionary_decode() for place in kinds})


def _replaced(batch: Any, columns: dict[int, Any]) -> Any:
    arrays = list(batch.columns)
    for place, array in columns.items():
        kind = batch.schema.types[place]
        if pa.types.is_dictionary(kind):
            made = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
            arrays[place] = pa.DictionaryArray.from_arrays(
                made.indices.cast(kind.index_type), made.dictionary.cast(kind.value_type), ordered=kind.ordered
            )
        else:
            arrays[place] = array
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def _made(schema: Any, last: Any, rows: dict[int, list[str]]) -> Any:
    """A batch of the made-up rows, by column. Raises DataError where a name cannot stand in the column."""
    if last is None:
        last = pa.RecordBatch.from_arrays([pa.nulls(1, kind) for kind in schema.types], schema=schema)
    batch = last.take(pa.array([0] * max(map(len, rows.values())), pa.int64()))
    return _replaced(batch, {place: _named(schema.types[place], names) for place, names in rows.items()})


def _named(kind: Any, names: list[str]) -> Any:
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    try:
        return pa.array(names, pa.string()).cast(plain)
    except pa.ArrowInvalid as error:
        raise DataError("a made-up name that the column cannot hold", expected=str(plain)[:80], got="text") from error
