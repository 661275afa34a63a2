"""What foreign model files keep of users, read without unpickling: matrices of histories, and tables of user ids."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from expunge.connect._npy import read_array
from expunge.connect.recommenders._arrow import column, strings_of
from expunge.connect.recommenders._builders import (
    BUILDERS,
    TORCH_BUILDERS,
    Sparse,
    Storage,
    array_of,
    check_csr,
)
from expunge.connect.recommenders._files import entries_of
from expunge.connect.recommenders._names import ARROW_PICKLES
from expunge.connect.recommenders._opcodes import Allowed, Record, read_pickle, walk

_ALLOWED = Allowed(
    names=ARROW_PICKLES | {"torch.device", "yaml.loader.FullLoader"},
    packages=("lenskit", "cornac", "recbole", "implicit"),
)
_PARTS = ("data", "indices", "indptr", "shape")
_EXPANSION = 100


@dataclass(frozen=True, slots=True)
class Histories:
    """A stored matrix of users by items, as CSR: `indices` (n,), `indptr` (U + 1,); `items` 0 = nobody says how many.

    `dense`: it was a plain array, which may be anything; only its width tells.
    """

    indices: NDArray[Any]
    indptr: NDArray[Any]
    items: int
    dense: bool = False


def read_model(stream: IO[bytes], size: int) -> Any:
    """The value of a torch checkpoint, a pickle, or an npz (arrays by name). Raises ValueError and DataError."""
    start = stream.read(2)
    stream.seek(0)
    if start == b"PK":
        with zipfile.ZipFile(stream) as archive:
            held = entries_of(archive, size, _EXPANSION)
            if any(name.endswith("/data.pkl") for name in held):
                return _torch(archive, held)
            return {name.removesuffix(".npy"): _member(archive, entry) for name, entry in held.items()}
    if start[:1] == b"\x80":
        return read_pickle(stream, size, allowed=_ALLOWED, builders=BUILDERS)
    raise ValueError("neither a torch checkpoint nor a pickle nor an npz")


def pickle_member(archive: zipfile.ZipFile) -> str:
    """The name of a torch checkpoint's one pickle. Raises ValueError."""
    found = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(found) != 1:
        raise ValueError(f"{len(found)} pickles in a torch checkpoint")
    return found[0]


def histories_in(value: Any) -> Iterator[Histories]:
    """Every matrix or relation in it that may hold users' rows."""
    if isinstance(value, dict) and all(isinstance(part, np.ndarray) for part in value.values()):
        yield from _from_arrays(value)
        return
    for _, part in walk(value):
        if isinstance(part, Sparse):
            yield Histories(part.indices, part.indptr, part.shape[1])
        elif isinstance(part, Record) and part.made_by.name == "MatrixRelationshipSet":
            with contextlib.suppress(ValueError):
                yield _relation(part)
        elif (dense := array_of(part)) is not None and dense.ndim == 2 and dense.dtype.kind in "biuf":
            yield _from_dense(dense)


def ids_in(value: Any) -> Iterator[str]:
    """Ids of users in Cornac's maps and LensKit's vocabularies."""
    for path, part in walk(value) if not _plain(value) else ():
        if isinstance(part, dict | list) and path.rpartition("/")[2].endswith(("uid_map", "__user_ids")):
            yield from (str(key) for key in part)
        elif isinstance(part, Record) and part.made_by.name == "Vocabulary" and part.attributes().get("name") == "user":
            with contextlib.suppress(ValueError):
                yield from strings_of(part.attributes().get("array"))


def _plain(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(part, np.ndarray) for part in value.values())


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> Iterator[Histories]:
    for name in arrays:
        prefix = name.removesuffix("indptr")
        if name.endswith("indptr") and all(f"{prefix}{part}" in arrays for part in _PARTS) and "K" not in arrays:
            data, indices, indptr, shape = (arrays[f"{prefix}{part}"] for part in _PARTS)
            if shape.shape != (2,) or shape.dtype.kind not in "iu" or {data.ndim, indices.ndim, indptr.ndim} != {1}:
                raise ValueError("a sparse matrix in an unknown form")
            check_csr(data, indices, indptr, (int(shape[0]), int(shape[1])))
            yield Histories(indices, indptr, int(shape[1]))
    for array in arrays.values():
        if array.ndim == 2 and array.dtype.kind in "biuf":
            yield _from_dense(array)


def _from_dense(rows: NDArray[Any]) -> Histories:
    filled = rows != 0
    ends = np.concatenate([[0], np.cumsum(filled.sum(1))])
    # Rows that are full are weights, not histories: their places would take eight times the file.
    if rows.size and filled.mean() > 0.5:
        return Histories(np.zeros(0, np.int64), np.zeros(len(rows) + 1, np.int64), rows.shape[1], dense=True)
    return Histories(np.nonzero(filled)[1], ends, rows.shape[1], dense=True)


def _relation(part: Record) -> Histories:
    """LensKit's table of pairs as rows. Raises ValueError."""
    table = part.attributes().get("table")
    users, items = column(table, "user_num"), column(table, "item_num")
    if len(users) != len(items) or (len(users) and min(users.min(), items.min()) < 0) or users.max(initial=0) > 2**31:
        raise ValueError("a table of pairs that do not fit")
    order = np.lexsort((items, users))
    ends = np.searchsorted(users[order], np.arange(users.max(initial=-1) + 2))
    return Histories(items[order], ends, 0)


def _torch(archive: zipfile.ZipFile, held: dict[str, zipfile.ZipInfo]) -> Any:
    name = pickle_member(archive)
    root = name.removesuffix("data.pkl")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in held.values()):
        raise ValueError("a torch checkpoint with compressed members: torch writes none")
    if f"{root}byteorder" in held and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("a checkpoint in big-endian order")

    def storage(reference: object) -> Storage:
        if not isinstance(reference, tuple) or len(reference) != 5 or reference[0] != "storage":
            raise ValueError("it refers to something other than a tensor's storage")
        kind, key, count = reference[1], reference[2], reference[4]
        if not isinstance(key, str) or not key.isdecimal() or f"{root}data/{key}" not in held:
            raise ValueError("it refers to a storage that is not there")
        return Storage(kind, archive.read(f"{root}data/{key}"), count)

    with archive.open(name) as stream:
        size = held[name].file_size
        return read_pickle(stream, size, allowed=_ALLOWED, builders=TORCH_BUILDERS, persistent=storage)


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(entry) as member:
        return read_array(member, entry.file_size, kinds="biufUS")
