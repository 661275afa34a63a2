"""Files of events as the tests write them, and how they are opened and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from expunge.core.errors import DataError
from expunge.data.interactions import InteractionsFile

Event = tuple[str, str, float, int]
EVENTS: list[Event] = [
    ("ann", "tea", 4.5, 1_500_000_000), ("ann", "milk", 3.0, 1_500_000_005), ("bob", "tea", 0.5, 1_400_000_000),
    ("bob", "a, b", 127.0, 1_400_000_001), ('o"neil', "tea", 2.0, 0), ("zoë", "日本", 1.0, 3),
]  # fmt: skip
PLAIN = [event for event in EVENTS if '"' not in event[0] and "," not in event[1]]


def as_set(histories: Any) -> set[tuple[str | None, str, int, int | None]]:
    found = set()
    for slot, name in enumerate(histories.ids):
        columns, values = histories.row(slot)
        times = [None] * len(columns) if histories.times is None else histories.times[histories.span(slot)].tolist()
        for column, value, time in zip(columns.tolist(), values.tolist(), times, strict=True):
            found.add((name, histories.items[column], value, time))
    return found


def expected(events: list[Event], *, timed: bool = True) -> set[tuple[str, str, int, int | None]]:
    return {(f"user/{u}", f"item/{i}", int(2 * r), t if timed else None) for u, i, r, t in events}


def quoted(cell: object, delimiter: str) -> str:
    text = str(cell)
    return '"' + text.replace('"', '""') + '"' if delimiter in text or '"' in text else text


def lines(events: Any, header: str = "user_id,item_id,rating,timestamp", delimiter: str = ",") -> bytes:
    rows = [delimiter.join(quoted(cell, delimiter) for cell in event) for event in events]
    return ("\n".join([header.replace(",", delimiter), *rows]) + "\n").encode()


def file(folder: Path, content: bytes, name: str = "events.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def opened(path: Path, **options: Any) -> Any:
    return InteractionsFile(path=str(path), **options).open()


def refused(path: Path, said: str = ".", **options: Any) -> DataError:
    with pytest.raises(DataError, match=said) as caught:
        opened(path, **options)
    return caught.value


def table(events: Any = EVENTS, **changes: Any) -> pa.Table:
    columns: list[Any] = [list(column) for column in zip(*events, strict=True)]
    return pa.table(dict(zip(("user_id", "item_id", "rating", "timestamp"), columns, strict=True)) | changes)


def parquet(folder: Path, found: pa.Table, name: str = "events.parquet", **named: Any) -> Path:
    pq.write_table(found, folder / name, **named)
    return folder / name


def matrix(events: Any = None, kind: Any = np.float32) -> Any:
    data = np.array([[4.5, 0, 3], [0, 0, 0], [0, 1, 127]] if events is None else events, kind)
    return sparse.csr_matrix(data)


def npz(folder: Path, **arrays: Any) -> Path:
    plain = matrix()
    found = {
        "indptr": plain.indptr,
        "indices": plain.indices,
        "data": plain.data,
        "shape": plain.shape,
        "format": b"csr",
    }
    np.savez(folder / "m.npz", **{k: v for k, v in (found | arrays).items() if v is not None})
    return folder / "m.npz"
