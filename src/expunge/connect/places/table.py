"""Matrices with one row a user: factors, embeddings, optimiser moments, averages of weights, stored histories."""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from expunge.connect._npy import read_array
from expunge.connect._places import copied, json_text, opened, reading, users_of, value_of, written
from expunge.connect.recommenders._builders import check_csr
from expunge.connect.recommenders._files import entries_of
from expunge.core.errors import DataError
from expunge.core.places import Traces

Rows = NDArray[Any]
_WHAT = "an npy, npz or safetensors file with a row a user"
_LIST = "a JSON list of ids, a JSON object from ids to rows, or text with one id a line"
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
    """One matrix (U, ...) and where its bytes start: in the file (of safetensors, the tensor's name), or in the archive's
    member `name`."""

    rows: Rows
    name: str
    start: int
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class _Sparse:
    """A CSR matrix in an npz, its arrays called `prefix` + data, indices, indptr, shape."""

    arrays: Mapping[str, Rows]
    prefix: str


class Table:
    """npy, npz (also scipy's CSR, `user_items` for one) or safetensors. A trace is a non-zero row of a user.

    Whose row is which? With `rows`, a file says so, and a user is found in it by id (whole, `17.0` is `17`); who is not
    in it has no row, but then every non-zero row has to be somebody else's. Without it a row's number is the user's slot,
    and a table that does not have exactly a row a slot is refused: a table from elsewhere is numbered otherwise.
    NaN is not zero. Of a CSR matrix a row counts when it has entries, whatever their values: where they are is the
    history. A scrubbed row is zeroed (emptied, in CSR) and stays where it is, so nobody gets another number; npy and
    safetensors keep every other byte, of an npz the other arrays keep theirs. Objects are never unpickled; 8 GiB at most,
    an archive that unpacks to more than 100 times its size is refused.
    A copy in another folder gets a rows file of its own, FILE of `table.npy` as `table.FILE`; it is read where FILE itself
    is not there.
    Control: rows of ones for made-up users (their histories, in CSR), at their slots or, with `rows`, behind the last
    row; the matrix is grown where need be.
    Not seen: a table with as many rows as there are slots, but in another order, of which no `rows` is given.
    """

    scrubs: bool = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """`array`: name of the array in an npz or safetensors file, or the prefix of a CSR matrix's; empty = the only one,
        or one that is called user_factors or the like. `rows`: a file in the table's folder that says whose row is which:
        a JSON list of the ids, row by row (null: nobody's), the same as text with one id a line, or a JSON object from id
        to row; empty = rows are slots. `offset`: row = number + offset (RecBole pads one row: 1)."""

        array: str = ""
        offset: int = 0
        rows: str = ""

    def __init__(self, config: Config) -> None:
        self._name, self._offset, self._file = config.array, config.offset, config.rows
        if config.rows and (config.rows == ".." or Path(config.rows).name != config.rows):
            raise DataError("`rows` leads elsewhere", expected="a file's name, in the folder of the table")

    def count(self, path: Path, traces: Traces) -> int:
        """Users whose row is not zero."""
        with opened(path, _WHAT, most=_MOST) as (stream, size):
            found = self._load(stream, size)
            return sum(_filled(found, row) for row in self._rows(found, traces, self._named(path, found)))

    def plant(self, path: Path, out: Path, traces: Traces) -> int:
        """Rows of made-up users; how many of them have something to show."""
        with opened(path, _WHAT, most=_MOST) as (stream, size):
            found = self._load(stream, size)
            named = _with(self._named(path, found), users_of(traces), _length(found))
            rows = [named[_plain(name)] for name in traces.names] if self._file else self._slots(found, traces)
            self._say(path, out, named, more=max(rows) >= _length(found))
            made = _planted_csr(found, rows, traces) if isinstance(found, _Sparse) else _planted(found, rows)
            with written(out, path) as file:
                _store(stream, size, file, found, made)
        return sum(_filled(made, row) for row in set(rows))

    def scrub(self, path: Path, out: Path, traces: Traces) -> int:
        """With zero rows where the users are."""
        with opened(path, _WHAT, most=_MOST) as (stream, size):
            found = self._load(stream, size)
            named = self._named(path, found)
            rows = self._rows(found, traces, named)
            self._say(path, out, named, more=False)
            with written(out, path) as file:
                _store(stream, size, file, found, _scrubbed(found, rows))
        return sum(_filled(found, row) for row in rows)

    def _rows(self, found: _Dense | _Sparse, traces: Traces, named: Mapping[str, int]) -> list[int]:
        """The users' rows, ascending, also beyond the last one. Raises DataError where a row may be somebody else's."""
        names = users_of(traces)
        if not self._file:
            return sorted(set(self._slots(found, traces)))
        rows = {named[_plain(name)] for name in names if _plain(name) in named}
        if any(_plain(name) not in named for name in names):
            own = set(named.values())
            nobodys = (row for row in range(max(0, self._offset), _length(found)) if row not in own)
            if any(_filled(found, row) for row in nobodys):
                raise DataError(
                    f"rows that nobody is named for in {self._file}",
                    expected="it names the users, or somebody else for every row that is not zero",
                    hint="bring it up to date",
                )
        return sorted(rows)

    def _slots(self, found: _Dense | _Sparse, traces: Traces) -> list[int]:
        """The users' slots as rows. Raises DataError on a table that has not as many rows as there are slots."""
        users_of(traces)
        expected, got = traces.users + self._offset, _length(found)
        if traces.users and expected != got:
            raise DataError(
                f"expected {expected} rows, got {got}: whose row is which?",
                expected=f"{expected} rows, one a slot",
                got=f"{got} rows",
                hint="say which row is whose: rows = FILE",
            )
        rows = [slot + self._offset for slot in traces.slots]
        if min(rows) < 0:
            raise DataError("a slot below the first row", expected="slot + offset of 0 or more", got=str(min(rows)))
        return rows

    def _named(self, path: Path, found: _Dense | _Sparse) -> dict[str, int]:
        """Rows by id; none without a list. Raises DataError on one that does not fit the table."""
        if not self._file:
            return {}
        source = self._source(path)
        text = json_text(source, _LIST).removeprefix("\ufeff")
        with reading(source, _LIST):
            held = value_of(text) if text.lstrip()[:1] in ("[", "{") else _lines(text)
            if isinstance(held, list):
                _fits(source, len(held), _length(found) - self._offset)
            rows = {name: number + self._offset for name, number in _by_id(held).items()}
            if not all(0 <= row < _length(found) for row in rows.values()):
                raise ValueError(f"a row that is not among the {_length(found)} of the table")
            return rows

    def _source(self, path: Path) -> Path:
        declared, own = path.with_name(self._file), path.with_name(f"{path.stem}.{self._file}")
        return own if os.path.lexists(own) and not os.path.lexists(declared) else declared

    def _say(self, path: Path, out: Path, named: Mapping[str, int], *, more: bool) -> None:
        """The list for a copy. Where the declared one lies beside it, that one holds, and is not written over."""
        if not self._file:
            return
        source, declared, own = self._source(path), out.with_name(self._file), out.with_name(f"{out.stem}.{self._file}")
        if own == source and not more:
            return  # a copy that is cleaned once more, for another table in it, keeps the list that it has
        if not os.path.lexists(declared):
            numbers = {name: row - self._offset for name, row in named.items()}
            with written(own, source) as file:
                file.write(json.dumps(numbers).encode("ascii"))
        elif more or not os.path.samefile(source, declared):
            raise DataError(f"{self._file} beside the copy is not the copy's", hint="write it to another folder")

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
        header, length = _header(stream, size)
        name = self._choose([name for name in header if name != "__metadata__"])
        dtype, shape, span = _described(header[name])
        if not span[0] <= span[1] <= size - 8 - length or math.prod(shape) * dtype.itemsize != span[1] - span[0]:
            raise ValueError("a tensor that does not lie within the file")
        stream.seek(8 + length + span[0])
        rows = np.frombuffer(stream.read(span[1] - span[0]), dtype).reshape(shape)
        return _dense(rows, "", 8 + length + span[0], name)

    def _choose(self, names: list[str]) -> str:
        choices = [self._name] if self._name else [name for name in _KNOWN if name in names] or names
        if len(choices) != 1 or choices[0] not in names:
            raise ValueError(f"which array? say `array`, one of {', '.join(sorted(names))[:120]}")
        return choices[0]


def _dense(rows: Rows, name: str, start: int, tensor: str = "") -> _Dense:
    if rows.ndim < 1:
        raise ValueError("an array without rows")
    return _Dense(rows, name, start, tensor)


def _csr(arrays: dict[str, Rows], prefix: str) -> _Sparse:
    shape = arrays["shape"]
    if shape.shape != (2,) or shape.dtype.kind not in "iu" or any(arrays[part].ndim != 1 for part in _CSR):
        raise ValueError("a sparse matrix in an unknown form")
    check_csr(arrays["data"], arrays["indices"], arrays["indptr"], (int(shape[0]), int(shape[1])))
    return _Sparse(arrays, prefix)


def _member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Rows:
    with archive.open(entry) as member:
        return read_array(member, entry.file_size)


def _header(stream: IO[bytes], size: int) -> tuple[dict[str, Any], int]:
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > min(2**26, size - 8):
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    header = value_of(stream.read(length).decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("a header that is no JSON object")
    return header, length


def _described(entry: object) -> tuple[np.dtype[Any], tuple[int, ...], tuple[int, int]]:
    if not isinstance(entry, dict) or str(entry.get("dtype")) not in _TENSORS:
        raise ValueError(f"a tensor of one of {', '.join(_TENSORS)} expected")
    return np.dtype(_TENSORS[str(entry["dtype"])]), _whole(entry.get("shape")), _span(entry)


def _span(entry: object) -> tuple[int, int]:
    span = _whole(entry.get("data_offsets") if isinstance(entry, dict) else None)
    if len(span) != 2:
        raise ValueError("data_offsets are two numbers")
    return span[0], span[1]


def _whole(numbers: object) -> tuple[int, ...]:
    if not isinstance(numbers, list) or not all(type(one) is int and 0 <= one < 2**40 for one in numbers):
        raise ValueError("shape and data_offsets are lists of whole numbers")
    return tuple(numbers)


def _length(found: _Dense | _Sparse) -> int:
    return len(found.arrays["indptr"]) - 1 if isinstance(found, _Sparse) else len(found.rows)


def _filled(found: _Dense | _Sparse, row: int) -> bool:
    if row >= _length(found):
        return False
    if isinstance(found, _Sparse):
        ends = found.arrays["indptr"]
        return bool(ends[row + 1] > ends[row])
    return bool((found.rows[row] != 0).any())


# ----------------------------------------------------------------------------------------------------------------- ids


def _plain(name: object) -> str:
    """An id without blanks around it, and `17.0`, from a column that became floats, as `17`. Raises ValueError."""
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        raise ValueError("an id that is neither text nor a number")
    text = str(name).strip()
    whole = text.removesuffix(".0")
    return whole if whole.isascii() and whole.isdecimal() else text


def _lines(text: str) -> list[str]:
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
    for number, line in enumerate(lines, 1):
        if len(line.split()) > 1 or not line.strip().isprintable() or set(line) & set(',;"'):
            raise ValueError(f"line {number} is not one id")
    return lines


def _fits(source: Path, got: int, expected: int) -> None:
    if got != expected:
        raise DataError(
            f"{source.name} has {'more ids than there are rows' if got > expected else 'rows that nobody is named for'}",
            expected=f"{expected} ids, one a row; null or an empty line where nobody is",
            got=f"{got} ids",
            hint="give the list that was written with the table, without a header",
        )


def _by_id(held: object) -> dict[str, int]:
    """Numbers by id, blanks left out. Raises ValueError."""
    if isinstance(held, dict):
        pairs = [(_plain(name), number) for name, number in held.items()]
        if not all(type(number) is int and number >= 0 for _, number in pairs):
            raise ValueError("whole numbers of rows expected")
        if len({number for _, number in pairs}) != len(pairs):
            raise ValueError("two ids at one row")
    elif isinstance(held, list):
        pairs = [("" if name is None else _plain(name), number) for number, name in enumerate(held)]
    else:
        raise ValueError("neither a list of ids nor an object")
    found = {name: number for name, number in pairs if name}
    if len(found) != sum(bool(name) for name, _ in pairs):
        raise ValueError("an id comes twice")
    return found


def _with(named: Mapping[str, int], names: Sequence[str], length: int) -> dict[str, int]:
    """And who is not named, behind the last row."""
    grown = dict(named)
    for name in names:
        grown.setdefault(_plain(name), length + len(grown) - len(named))
    return grown


# ----------------------------------------------------------------------------------------------------- other contents


def _planted(found: _Dense, own: list[int]) -> _Dense:
    rows = found.rows
    grown = _grown(len(rows), own)
    made = np.zeros((grown, *rows.shape[1:]), rows.dtype, order="F" if _fortran(rows) else "C")
    made[: len(rows)] = rows
    made[own] = 1
    return replace(found, rows=made)


def _grown(length: int, rows: list[int]) -> int:
    if max(rows) >= length + _GROW:
        raise DataError(f"a made-up row {max(rows)} in a table of {length} rows", expected=f"at most {_GROW} more")
    return max(length, max(rows) + 1)


def _scrubbed(found: _Dense | _Sparse, slots: list[int]) -> _Dense | _Sparse:
    if isinstance(found, _Dense):
        rows = found.rows.copy("K")
        rows[[slot for slot in slots if slot < len(rows)]] = 0
        return replace(found, rows=rows)
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


def _planted_csr(found: _Sparse, rows: list[int], traces: Traces) -> _Sparse:
    """With the made-up users' histories. Raises DataError on items that the matrix does not have."""
    bare = _scrubbed(found, rows)
    if not isinstance(bare, _Sparse) or any(len(own) and max(own) >= bare.arrays["shape"][1] for own in traces.columns):
        raise DataError("a made-up history with items that the matrix does not have")
    arrays, ends = bare.arrays, bare.arrays["indptr"]
    history = {row: np.asarray(own) for row, own in zip(rows, traces.columns, strict=True)}
    count = _grown(len(ends) - 1, rows)
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
        elif old.tensor:
            _regrown(stream, size, file, old, new.rows)
        else:
            file.write(_npy(new.rows))


def _regrown(stream: IO[bytes], size: int, file: IO[bytes], old: _Dense, rows: Rows) -> None:
    """A safetensors file with more rows in one tensor, the ones after it moved back. Raises ValueError on overlaps."""
    header, length = _header(stream, size)
    end, more = old.start - 8 - length + old.rows.nbytes, rows.nbytes - old.rows.nbytes
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        span = _span(entry)
        if name == old.tensor:
            entry.update(shape=list(rows.shape), data_offsets=[span[0], span[1] + more])
        elif span[0] >= end:
            entry.update(data_offsets=[span[0] + more, span[1] + more])
        elif span[1] > end - old.rows.nbytes:
            raise ValueError("tensors that overlap")
    text = json.dumps(header).encode("ascii")
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    stream.seek(8 + length)
    copied(stream, file, end - old.rows.nbytes)
    file.write(_bytes(rows))
    stream.seek(old.start + old.rows.nbytes)
    copied(stream, file, size - old.start - old.rows.nbytes)


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
