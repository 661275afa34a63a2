"""Data sets that this process has opened: decoding images costs ten seconds of CPU on CIFAR-10, so it is done once.

A pool of workers gets what its parent has opened, through a file that never has a name.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from expunge.core import registry
from expunge.core.codec import canonical, digest_of, encode, loads
from expunge.data._records import Dataset
from expunge.data._shared import packed, unpacked

KEPT = 2
_opened: dict[bytes, Any] = {}


def open_data(named: Mapping[str, Any], items: Sequence[str] | None = None) -> Any:
    """Data set by source name and options, as the source gives it; over these items, for a source of interactions."""
    key = canonical(encode(named)) + (b"" if items is None else digest_of(list(items)).encode())
    if key not in _opened:
        source = registry.load("data", named["source"])(**loads(canonical(encode(dict(named["options"])))))
        found = source.open() if items is None else source.open(items=items)
        while len(_opened) >= KEPT:
            del _opened[next(iter(_opened))]
        _opened[key] = found
    return _opened[key]


@contextmanager
def shared() -> Iterator[Connection | None]:
    """What this process has opened, as a file without a name that a spawned worker can read; None if there is none.

    A killed run leaves no copy behind: the file exists only as long as a process holds it open. It is wrapped as a
    connection because that is what multiprocessing hands on to a spawned process.
    """
    connection = _nameless({key: data for key, data in _opened.items() if isinstance(data, Dataset)})
    try:
        yield connection
    finally:
        if connection is not None:
            connection.close()


def _nameless(found: Mapping[bytes, Dataset]) -> Connection | None:
    """None where there is nothing, or no room for it: workers then open the source themselves."""
    if not found:
        return None
    try:
        with tempfile.TemporaryFile() as file:
            file.write(packed(found))
            file.flush()
            return Connection(os.dup(file.fileno()), writable=False)
    except OSError:
        return None


def adopt(connection: Connection | None) -> None:
    """In a worker: what its parent has opened. The file's offset is shared with other workers, hence the map."""
    if connection is None:
        return
    with connection, mmap.mmap(connection.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _opened.update(unpacked(bytes(data)))


def forget() -> None:
    """Open everything again when it is asked for next."""
    _opened.clear()
