"""Opens npy, npz and JSON files that nobody vouches for: nothing is executed, sizes are known before memory is taken.

The header of every array is parsed first. Objects, structures, strings, an unknown shape, a size that the file does not
have, or one that is too large are problems; so are NaN, infinity and duplicates. All problems are reported at once.
"""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from expunge.connect._npy import read_array
from expunge.core.errors import InputProblems
from expunge.stats.arrays import Bools, Floats

MAX_VALUES = 2**28
"""Numbers in one file: 2 GiB as float64."""
MAX_JSON_BYTES = 2**28
MAX_NAMES = 1000
_HINT = "correct the files, or pass the reader that fits them with --reader"
Array = NDArray[Any]


class Intake:
    """Opens the files of one run and gathers what is wrong; `done` raises it all."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.problems: list[str] = []

    def wrong(self, problem: str) -> None:
        """Note one problem and go on."""
        self.problems.append(problem)

    def done(self) -> None:
        """Raise InputProblems if there were any."""
        if self.problems:
            raise InputProblems(self.what, self.problems, hint=_HINT)

    def npy(self, path: Path) -> Array | None:
        """The array of one npy file, or None and a problem."""
        try:
            with _open(path) as (stream, size):
                return read_array(stream, size, most=MAX_VALUES)
        except (OSError, ValueError) as error:
            self.wrong(f"{path.name}: {_said(error)}")
            return None

    def npz(self, path: Path, names: Sequence[str]) -> dict[str, Array]:
        """Those of the named arrays that the archive holds."""
        try:
            with _open(path) as (stream, _), zipfile.ZipFile(stream) as archive:
                return self._members(path, archive, names)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            self.wrong(f"{path.name}: {_said(error)}")
            return {}

    def _members(self, path: Path, archive: zipfile.ZipFile, names: Sequence[str]) -> dict[str, Array]:
        held = _entries(archive)
        wanted = {name: held[name] for name in names if name in held}
        if sum(entry.file_size for entry in wanted.values()) > 8 * MAX_VALUES:
            raise ValueError(f"the arrays take more than {8 * MAX_VALUES} bytes when unpacked")
        found = {}
        for name, entry in wanted.items():
            try:
                with archive.open(entry) as stream:
                    found[name] = read_array(stream, entry.file_size, most=MAX_VALUES)
            except (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
                self.wrong(f"{path.name}[{name}]: {_said(error)}")
        return found

    def json(self, path: Path) -> dict[str, Any]:
        """The object of one JSON file; NaN, infinity and a key that comes twice are problems."""
        try:
            with _open(path) as (stream, size):
                if size > MAX_JSON_BYTES:
                    raise ValueError(f"larger than {MAX_JSON_BYTES} bytes")
                text = stream.read().decode("utf-8")
            found = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_twins)
        except (OSError, ValueError, RecursionError) as error:
            self.wrong(f"{path.name}: {_said(error)}")
            return {}
        if not isinstance(found, dict):
            self.wrong(f"{path.name}: a JSON object expected, got {type(found).__name__}")
            return {}
        return found

    def numbers(self, name: str, array: Any, dimensions: int) -> Floats | None:
        """The array as float64 with this many dimensions, not empty, all finite; else None and a problem."""
        if array is None:
            return None
        try:
            values: Floats = np.asarray(array, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            self.wrong(f"{name}: not an array of numbers")
            return None
        if values.ndim != dimensions or not values.size:
            self.wrong(f"{name}: {dimensions} dimensions and at least one value expected, got {values.shape}")
            return None
        bad = int(values.size - np.isfinite(values).sum())
        if bad:
            self.wrong(f"{name}: NaN or infinity in {bad} of {values.size} values")
            return None
        return values

    def mask(self, name: str, array: Any, dimensions: int) -> Bools | None:
        """The array as bool; it must hold nothing but False and True, or 0 and 1."""
        values = self.numbers(name, array, dimensions)
        if values is None:
            return None
        if not ((values == 0) | (values == 1)).all():
            self.wrong(f"{name}: a membership mask of 0 and 1 expected")
            return None
        return np.asarray(values == 1, dtype=np.bool_)

    def varies(self, name: str, values: Floats | None) -> None:
        """A constant says nothing about anybody."""
        if values is not None and values.size > 1 and float(np.ptp(values)) == 0:
            self.wrong(f"{name}: all {values.size} values are the same")

    def no_row_twice(self, name: str, values: Floats | None) -> None:
        """A model that comes twice would be counted as two."""
        if values is None:
            return
        seen: dict[bytes, int] = {}
        for index, row in enumerate(values):
            first = seen.setdefault(row.tobytes(), index)
            if first != index:
                self.wrong(f"{name}: model {index} is a copy of model {first}")


def names_in(path: Path) -> frozenset[str]:
    """Names of the arrays of an npz file; none when it is no such file. Opens no array."""
    try:
        with _open(path) as (stream, _), zipfile.ZipFile(stream) as archive:
            return frozenset(_entries(archive))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return frozenset()


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > MAX_NAMES:
        raise ValueError(f"more than {MAX_NAMES} arrays")
    held: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name in held:
            raise ValueError(f"the array {name!r} comes twice")
        held[name] = entry
    return held


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """A regular file and its size; a pipe or a device is refused before it is opened."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    with path.open("rb") as stream:
        yield stream, path.stat().st_size


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not a number a score can be")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _said(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:200]
