"""Model files of other libraries that keep users inside: matrices of histories, and ids."""

from __future__ import annotations

import io
import mmap
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from expunge.connect._place_pickles import Histories, histories_in, ids_in, pickle_member, read_model
from expunge.connect._places import copied, is_one, opened, users_of, wanted, written
from expunge.core.errors import DataError
from expunge.core.places import Traces

_WHAT = "a model file of RecBole, Cornac, LensKit or implicit"
_MOST = 2**33  # bytes


class Model:
    """Checkpoints and pickles of RecBole, Cornac and LensKit, and implicit's and scipy's npz. Nothing is unpickled: a small
    machine reads opcodes and knows arrays, and any global outside these libraries ends the reading.

    Traces: a row of a stored matrix (RecBole's `interaction_matrix`, Cornac's `U`, LensKit's relations, a matrix in an
    npz) with exactly the items of a user's history, in whatever row, because libraries number users in their own ways;
    and the user's id in Cornac's `uid_map` and LensKit's vocabulary of users. Items have the workspace's numbers plus
    `item_offset`; a matrix over another number of items is refused, since its rows could not be compared. A retained
    user with the very same items is found as well: that errs on the safe side.
    Control: the arrays of a stored matrix are overwritten within the file, same length, so that its first rows are the
    made-up users'; where that cannot be done (no matrix, or too small), an npz with such rows takes the file's place, and
    shows no more than that rows are compared rightly. Nothing is scrubbed: export the weights, or train anew.
    Where it fails: items numbered in another order look like other histories; rows that were shuffled or hashed; user
    factors, for which the kind `table` is there.
    """

    scrubs: bool = False

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """`item_offset`: columns before the first item (RecBole pads one: 1); -1 = 0 or 1, as the width says. `extra`: how
        many more columns a matrix may have (Cornac: items of the test set)."""

        item_offset: int = -1
        extra: int = 0

    def __init__(self, config: Config) -> None:
        self._config = config

    def count(self, path: Path, traces: Traces) -> int:
        """Rows and ids of the users."""
        names = wanted(traces)
        with opened(path, _WHAT, most=_MOST) as (stream, size):
            value = read_model(stream, size)
            found = sum(is_one(name, names) for name in ids_in(value))
            for matrix in self._comparable(value, traces):
                offset = self._offset(path, matrix, traces)
                found += sum(_rows_like(matrix, np.asarray(own) + offset) for own in traces.columns)
        return found

    def plant(self, path: Path, out: Path, traces: Traces) -> int:
        """Rows of made-up users, in a matrix of the file if there is one that can take them."""
        users_of(traces)
        wanted_rows = [np.asarray(own) for own in traces.columns if len(own)]
        with opened(path, _WHAT, most=_MOST) as (stream, size):
            matrices = list(self._comparable(read_model(stream, size), traces))
            for matrix in matrices:
                offset = self._offset(path, matrix, traces)
                made = _with_rows(matrix, [own + offset for own in wanted_rows])
                stream.seek(0)
                if made is not None and _overwritten(stream, size, path, out, matrix, made):
                    return len(wanted_rows)
        rows = [np.sort(own + max(self._config.item_offset, 0)) for own in wanted_rows]
        with written(out, path) as file:
            _write_npz(file, rows, traces.items + max(self._config.item_offset, 0))
        return len(rows)

    def scrub(self, path: Path, out: Path, traces: Traces) -> int:
        """Refused."""
        raise DataError(f"{path.name}: a model file is not scrubbed", hint="export its weights alone, or train anew")

    def _comparable(self, value: Any, traces: Traces) -> Iterator[Histories]:
        """Matrices with entries; plain arrays only if they are as wide as the items: others are weights."""
        widest = traces.items + max(self._config.item_offset, 1) + self._config.extra
        for matrix in histories_in(value):
            if len(matrix.indices) and (not matrix.dense or traces.items <= matrix.items <= widest):
                yield matrix

    def _offset(self, path: Path, matrix: Histories, traces: Traces) -> int:
        """Columns before the first item. Raises DataError where the matrix is over other items."""
        more, said = matrix.items - traces.items, self._config.item_offset
        if not matrix.items:
            return max(said, 0)
        offset = said if said >= 0 else min(more, 1) if more in (0, 1) else 0
        if not 0 <= more - offset <= self._config.extra:
            raise DataError(
                f"{path.name} keeps histories over {matrix.items} items",
                expected=f"{traces.items} items, one more with padding",
                got=f"{more} more",
                hint="say `item_offset` and `extra` if the items have the same order, else export the weights alone",
            )
        return offset


def _rows_like(matrix: Histories, own: NDArray[Any]) -> int:
    """Rows with exactly these columns."""
    if not len(own):
        return 0
    lengths = np.diff(matrix.indptr)
    target, found = np.sort(own), 0
    for row in np.flatnonzero(lengths == len(own)):
        part = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        found += bool(np.array_equal(np.sort(part), target))
    return found


def _with_rows(matrix: Histories, rows: Sequence[NDArray[Any]]) -> Histories | None:
    """The same sizes, with `rows` first and filler in the others; None where they do not fit."""
    users, entries = len(matrix.indptr) - 1, len(matrix.indices)
    rest, left = users - len(rows), entries - sum(map(len, rows))
    if rest < 0 or left < 0 or (left and not rest) or left > rest * matrix.items:
        return None
    base, more = divmod(left, rest) if rest else (0, 0)
    if base + 1 > matrix.items:
        return None
    lengths = [len(own) for own in rows] + [base + (number < more) for number in range(rest)]
    filler = [np.arange(length) for length in lengths[len(rows) :]]
    indices = np.concatenate([*[np.sort(own) for own in rows], *filler]).astype(matrix.indices.dtype)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(matrix.indptr.dtype)
    return Histories(indices, indptr, matrix.items)


def _overwritten(stream: IO[bytes], size: int, path: Path, out: Path, old: Histories, new: Histories) -> bool:
    """Whether the old arrays' bytes, where they first are in the file, could be replaced by the new ones'."""
    pairs = [(old.indices.tobytes(), new.indices.tobytes()), (old.indptr.tobytes(), new.indptr.tobytes())]
    if stream.read(2) == b"PK":
        return _in_zip(stream, path, out, pairs)
    stream.seek(0)
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as held:
        spots = [(held.find(before), after) for before, after in pairs]
    if any(at < 0 for at, _ in spots):
        return False
    with written(out, path) as file:
        copied(stream, file, size)
        for at, after in spots:
            file.seek(at)
            file.write(after)
        file.seek(size)
    return True


def _in_zip(stream: IO[bytes], path: Path, out: Path, pairs: Sequence[tuple[bytes, bytes]]) -> bool:
    """The same within a torch checkpoint's pickle, with the archive written anew."""
    stream.seek(0)
    with zipfile.ZipFile(stream) as archive:
        try:
            name = pickle_member(archive)
        except ValueError:
            return False
        data = archive.read(name)
        if any(before not in data for before, _ in pairs):
            return False
        for before, after in pairs:
            data = data.replace(before, after, 1)
        with written(out, path) as file, zipfile.ZipFile(file, "w") as target:
            for entry in archive.infolist():
                target.writestr(entry.filename, data if entry.filename == name else archive.read(entry))
    return True


def _write_npz(file: IO[bytes], rows: Sequence[NDArray[Any]], items: int) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "data": np.ones(sum(map(len, rows)), np.float32),
        "indices": np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64),
        "indptr": np.concatenate([[0], np.cumsum([len(own) for own in rows])]).astype(np.int64),
        "shape": np.array([len(rows), items], np.int64),
    }
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            made = io.BytesIO()
            np.lib.format.write_array(made, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", made.getvalue())
