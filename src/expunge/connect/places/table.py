"""Matrices with one row a user: factors, embeddings, optimiser moments, averages of weights, stored histories."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from expunge.connect._npy import read_array
from expunge.connect._places import copied, opened, users_of, value_of, written
from expunge.connect.recommenders._builders import check_csr
from expunge.connect.recommenders._files import entries_of
from expunge.core.errors import DataError
from expunge.core.places import Traces

Rows = NDArray[Any]
_WHAT = "an npy, npz or safetensors file with a row a user"
_KNOWN = ("user_factors", "user_embedding", "user_embeddings", "user_embedding.weight", "users")
_CSR = ("data", "indices", "indptr", "shape")
_MOST = 2**33  # bytes
_EXPANSION = 100
_GROW = 1 << 20  # rows that a control may add
_TENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}


@dataclass(frozen=True, slots=True)
class _Dense:
    """One matrix (U, ...) and the part of the file (or of the archive's member) where its bytes are."""

    rows: Rows
    name: str
    start: int


@dataclass(frozen=True, slots=True)
class _Sparse:
    """A CSR matrix in an npz, its arrays called `prefix` + data, indices, indptr, shape."""

    arrays: Mapping[str, Rows]
    prefix: str


class Table:
    """npy, npz (also scipy's CSR, `user_items` for one) or safetensors. A trace is a non-zero row at a user's slot.

    NaN is not zero. Of a CSR matrix a row counts when it has entries, whatever their values: where they are is the
    history. A scrubbed row is zeroed (emptied, in CSR) and stays where it is, so nobody gets another number; npy and
    safetensors keep every other byte, of an npz the other arrays keep theirs. A slot beyond the last row has no row and
    no trace. Objects are never unpickled; 8 GiB at most, an archive that unpacks to more than 100 times its size is
    refused.
    Control: rows of ones at the slots of made-up users (their histories, in CSR), the matrix grown where need be.
    Not seen: a table whose rows are numbered otherwise; say `offset`, or check a planted row of your own.
    """

    scrubs: bool = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """`array`: name of the array in an npz or safetensors file, or the prefix of a CSR matrix's; empty = the only one,
        or one that is called user_factors or the like. `offset`: row = slot + offset (RecBole pads one row: 1)."""

        array: str = ""
        offset: int = 0

    def __init__(self, config: Config) -> None:
        self._name, self._offset = config.array, config.offset

    def count(self, path: Path, traces: Traces) -> int:
        """Users whose row is not zero."""
        slots = self._slots(traces)
        with opened(path, _WHAT, most=_MOST) as (stream, size):
            found = self._load(stream, size)
            return sum(_filled(found, slot) for slot in slots)

    def plant(self, path: Path, out: Path, traces: Traces) -> int:
        """Rows of made-up users; how many of them have something to show."""
        slots = self._slots(traces)
        with opened(path, _WHAT, most=_MOST) as (stream, size):
            found = self._load(stream, size)
            if isinstance(found, _Sparse):
                made: _Dense | _Sparse = _planted_csr(found, slots, traces)
            else:
                made = _Dense(_planted(found.rows, slots), found.name, found.start)
            with written(out, path) as file:
                _store(stream, size, file, found, made)
        return sum(_filled(made, slot) for slot in slots)

    def scrub(self, path: Path, out: Path, traces: Traces) -> int:
        """With zero rows at the users' slots."""
        slots = self._slots(traces)
        with opened(path, _WHAT, most=_MOST) as (stream, size):
            found = self._load(stream, size)
            gone = sum(_filled(found, slot) for slot in slots)
            with written(out, path) as file:
                _store(stream, size, file, found, _scrubbed(found, slots))
        return gone

    def _slots(self, traces: Traces) -> list[int]:
        users_of(traces)
        slots = sorted({slot + self._offset for slot in traces.slots})
        if slots[0] < 0:
            raise DataError("a slot below the first row", expected="slot + offset of 0 or more", got=str(slots[0]))
        return slots

    def _load(self, stream: IO[bytes], size: int) -> _Dense | _Sparse:
        start = stream.read(6)
        stream.seek(0)
        if start == b"\x93NUMPY":
            rows = read_array(stream, size)
            return _dense(rows, "", size - rows.nbytes)
        if start[:2] == b"PK":
            return self._archive(stream, size)
        return self._tensor(stream, size)

    def _archive(self, stream: IO[bytes], size: int) -> _Dense | _Sparse:
        with zipfile.ZipFile(stream) as archive:
            held = {name.removesuffix(".npy"): entry for name, entry in entries_of(archive, size, _EXPANSION).items()}
            prefixes = [name[:-6] for name in held if name.endswith("indptr")]
            prefix = next((one for one in prefixes if one.rstrip("_.") == self._name.rstrip("_.")), None)
            prefix = prefixes[0] if prefix is None and not self._name and len(prefixes) == 1 else prefix
            if prefix is not None and all(f"{prefix}{part}" in held for part in _CSR):
                if "K" in held:
                    raise ValueError("a matrix of items by items (it has K), not of users")
                arrays = {part: _member(archive, held[f"{prefix}{part}"]) for part in _CSR}
                return _csr(arrays, prefix)
            name = self._choose(list(held))
            rows = _member(archive, held[name])
            return _dense(rows, held[name].filename, held[name].file_size - rows.nbytes)

    def _tensor(self, stream: IO[bytes], size: int) -> _Dense:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(2**26, size - 8):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = value_of(stream.read(length).decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("a header that is no JSON object")
        entry = header[self._choose([name for name in header if name != "__metadata__"])]
        dtype, shape, span = _described(entry)
        if not span[0] <= span[1] <= size - 8 - length or math.prod(shape) * dtype.itemsize != span[1] - span[0]:
            raise ValueError("a tensor that does not lie within the file")
        stream.seek(8 + length + span[0])
        return _dense(np.frombuffer(stream.read(span[1] - span[0]), dtype).reshape(shape), "", 8 + length + span[0])

    def _choose(self, names: list[str]) -> str:
        choices = [self._name] if self._name else [name for name in _KNOWN if name in names] or names
        if len(choices) != 1 or choices[0] not in names:
            raise ValueError(f"which array? say `array`, one of {', '.join(sorted(names))[:120]}")
        return choices[0]


def _dense(rows: Rows, name: str, start: int) -> _Dense:
    if rows.ndim < 1:
        raise ValueError("an array without rows")
    return _Dense(rows, name, start)


def _csr(arrays: dict[str, Rows], prefix: str) -> _Sparse:
    shape = arrays["shape"]
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or any(arrays[part].ndim != 1 for part in _CSR):
        raise ValueError("a sparse matrix in an unknown form")
    check_csr(arrays["data"], arrays["indices"], arrays["indptr"], (int(shape[0]), int(shape[1])))
    return _Sparse(arrays, prefix)


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Rows:
    with archive.open(entry) as member:
        return read_array(member, entry.file_size)


def _described(entry: object) -> tuple[np.dtype[Any], tuple[int, ...], tuple[int, int]]:
    if not isinstance(entry, dict) or str(entry.get("dtype")) not in _TENSORS:
        raise ValueError(f"a tensor of one of {', '.join(_TENSORS)} expected")
    shape, span = entry.get("shape"), entry.get("data_offsets")
    for numbers in (shape, span):
        if not isinstance(numbers, list) or not all(type(one) is int and 0 <= one < 2**40 for one in numbers):
            raise ValueError("shape and data_offsets are lists of whole numbers")
    if not isinstance(shape, list) or not isinstance(span, list) or len(span) != 2:
        raise ValueError("data_offsets are two numbers")
    return np.dtype(_TENSORS[str(entry["dtype"])]), tuple(shape), (span[0], span[1])


def _filled(found: _Dense | _Sparse, slot: int) -> bool:
    if isinstance(found, _Sparse):
        ends = found.arrays["indptr"]
        return slot + 1 < len(ends) and bool(ends[slot + 1] > ends[slot])
    return slot < len(found.rows) and bool((found.rows[slot] != 0).any())


def _planted(rows: Rows, slots: list[int]) -> Rows:
    grown = _grown(len(rows), slots)
    made = np.zeros((grown, *rows.shape[1:]), rows.dtype, order="F" if _fortran(rows) else "C")
    made[: len(rows)] = rows
    made[slots] = 1
    return made


def _grown(length: int, slots: list[int]) -> int:
    if slots[-1] >= length + _GROW:
        raise DataError(f"a made-up slot {slots[-1]} in a table of {length} rows", expected=f"at most {_GROW} more")
    return max(length, slots[-1] + 1)


def _scrubbed(found: _Dense | _Sparse, slots: list[int]) -> _Dense | _Sparse:
    if isinstance(found, _Dense):
        rows = found.rows.copy("K")
        rows[[slot for slot in slots if slot < len(rows)]] = 0
        return _Dense(rows, found.name, found.start)
    ends = found.arrays["indptr"]
    lengths = np.diff(ends)
    kept = np.repeat(~np.isin(np.arange(len(lengths)), slots), lengths)
    lengths[[slot for slot in slots if slot < len(lengths)]] = 0
    return _Sparse(
        {
            "data": found.arrays["data"][kept],
            "indices": found.arrays["indices"][kept],
            "indptr": np.concatenate([[0], np.cumsum(lengths)]).astype(ends.dtype),
            "shape": found.arrays["shape"],
        },
        found.prefix,
    )


def _planted_csr(found: _Sparse, slots: list[int], traces: Traces) -> _Sparse:
    """With the made-up users' histories. Raises DataError on items that the matrix does not have."""
    bare = _scrubbed(found, slots)
    if not isinstance(bare, _Sparse) or any(len(own) and max(own) >= bare.arrays["shape"][1] for own in traces.columns):
        raise DataError("a made-up history with items that the matrix does not have")
    arrays, ends = bare.arrays, bare.arrays["indptr"]
    offset = slots[0] - min(traces.slots)
    history = {slot + offset: np.asarray(own) for slot, own in zip(traces.slots, traces.columns, strict=True)}
    count = _grown(len(ends) - 1, slots)
    pieces, data = [], []
    for row in range(count):
        old = slice(ends[row], ends[row + 1]) if row + 1 < len(ends) else slice(0, 0)
        own = history.get(row)
        pieces.append(arrays["indices"][old] if own is None else own.astype(arrays["indices"].dtype))
        data.append(arrays["data"][old] if own is None else np.ones(len(own), arrays["data"].dtype))
    lengths = [len(piece) for piece in pieces]
    return _Sparse(
        {
            "data": np.concatenate(data),
            "indices": np.concatenate(pieces),
            "indptr": np.concatenate([[0], np.cumsum(lengths)]).astype(ends.dtype),
            "shape": np.array([count, arrays["shape"][1]], arrays["shape"].dtype),
        },
        found.prefix,
    )


# ------------------------------------------------------------------------------------------------------------- writing


def _store(stream: IO[bytes], size: int, file: IO[bytes], old: _Dense | _Sparse, new: _Dense | _Sparse) -> None:
    """The file with the new matrix in the old one's place."""
    stream.seek(0)
    if isinstance(old, _Sparse) and isinstance(new, _Sparse):
        _rezip(stream, file, {f"{new.prefix}{part}.npy": _npy(array) for part, array in new.arrays.items()})
    elif isinstance(old, _Dense) and isinstance(new, _Dense):
        if old.name:
            _rezip(stream, file, {old.name: _npy(new.rows)})
        elif len(old.rows) == len(new.rows):
            copied(stream, file, old.start)
            file.write(_bytes(new.rows))
            stream.seek(old.start + old.rows.nbytes)
            copied(stream, file, size - old.start - old.rows.nbytes)
        elif stream.read(1) == b"\x93":
            file.write(_npy(new.rows))
        else:
            raise DataError("a made-up slot beyond the last row of a safetensors file", hint="use a free row within it")


def _rezip(stream: IO[bytes], file: IO[bytes], changed: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(file, "w") as target:
        for entry in source.infolist():
            info = zipfile.ZipInfo(entry.filename, entry.date_time)
            info.compress_type, info.external_attr = entry.compress_type, entry.external_attr
            new = changed.get(entry.filename)
            info.file_size = entry.file_size if new is None else len(new)
            with target.open(info, "w") as member:
                if new is not None:
                    member.write(new)
                else:
                    with source.open(entry) as old:
                        copied(old, member, entry.file_size)


def _npy(array: Rows) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array(made, array, allow_pickle=False)
    return made.getvalue()


def _bytes(rows: Rows) -> bytes:
    return rows.tobytes("F" if _fortran(rows) else "C")


def _fortran(rows: Rows) -> bool:
    return bool(rows.flags.f_contiguous and not rows.flags.c_contiguous)
