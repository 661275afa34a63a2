"""Opens files that nobody vouches for: regular files only, sizes known before memory is taken, one kind of error."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from expunge.core.errors import DataError

CODE = "unsafe-artefact"
MAX_BYTES = 2**33
"""8 GiB: the float64 weights of 30,000 items and as much again."""
MAX_ENTRIES = 10_000
_WRONG = (
    OSError,
    ValueError,  # with UnicodeError
    EOFError,
    OverflowError,
    RuntimeError,  # zipfile: encrypted; with NotImplementedError
    RecursionError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def opened(path: Path, what: str) -> Iterator[tuple[IO[bytes], int]]:
    """A regular file and its size. Whatever the bytes make a parser raise becomes one DataError."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a regular file")
        if not 0 < found.st_size <= MAX_BYTES:
            raise ValueError(f"{found.st_size} bytes; 1 to {MAX_BYTES} are read")
        with path.open("rb") as stream:
            yield stream, found.st_size
    except _WRONG as error:
        said = (str(error) or type(error).__name__)[:200]
        raise DataError(f"{path.name} is not {what}", got=said, hint="was the file copied whole?") from error


def starts_with(path: Path, length: int) -> bytes:
    """The first bytes of a regular file, or none; never raises."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return b""
        with path.open("rb") as stream:
            return stream.read(length)
    except (OSError, ValueError):
        return b""


def only(files: tuple[Path, ...], layout: str) -> Path:
    """The one file. Raises DataError on none or several."""
    if len(files) != 1:
        raise DataError("one file expected", expected=layout, got=f"{len(files)} files")
    return files[0]


def entries_of(archive: zipfile.ZipFile, size: int, expansion: int) -> dict[str, zipfile.ZipInfo]:
    """The members by name. Raises ValueError on names that leave the archive, twins, encryption, and on members that
    unpack to more than `expansion` times the size of the file."""
    held: dict[str, zipfile.ZipInfo] = {}
    listed = archive.infolist()
    if len(listed) > MAX_ENTRIES:
        raise ValueError(f"{len(listed)} members; at most {MAX_ENTRIES} are read")
    for entry in listed:
        name = entry.filename
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise ValueError(f"the member {name[:60]!r} has a path that leaves the archive")
        if name in held:
            raise ValueError(f"the member {name[:60]!r} comes twice")
        held[name] = entry
    total = sum(entry.file_size for entry in listed)
    if total > expansion * size:
        raise ValueError(f"the members unpack to {total} bytes, {total // size} times the file")
    return held
