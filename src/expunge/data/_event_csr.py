"""A scipy CSR matrix of users and items, as `scipy.sparse.save_npz` writes it, without unpickling and without trust.

The arrays' headers are read first: shapes that do not fit the bytes there are would reserve any amount of memory.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.codec import loads
from expunge.core.errors import DataError, InputError, InputProblems
from expunge.data._event_columns import is_plain_id, plain_ids
from expunge.data._events import SHOWN, TOP_STARS, Events

_MOST = 2**31 - 1
_MAP_BYTES = 1 << 30
_ERRORS = (OSError, ValueError, KeyError, EOFError, TypeError, MemoryError, RuntimeError, SyntaxError,
           zipfile.BadZipFile, zlib.error)  # fmt: skip


def csr_events(path: Path, *, ids: Path | None, rated: bool, hint: str) -> Events:
    """One event a stored value; `implicit` where all are 1 or where not `rated`. Without `ids`, row and column numbers.

    Raises DataError on anything that is not a CSR matrix of users and items, or has values that are no ratings.
    """
    arrays = _arrays(path)
    users, items = _checked(arrays, path.name)
    implicit = not rated or bool((arrays["data"] == 1).all())
    value = np.ones(len(arrays["data"]), np.uint8) if implicit else _half_stars(arrays["data"], path.name, hint)
    names = _ids(ids, users, items)
    return Events(
        file=path.name,
        users=names[0],
        items=names[1],
        user=np.repeat(np.arange(users, dtype=np.int32), np.diff(arrays["indptr"])),
        item=arrays["indices"].astype(np.int32),
        value=value,
        time=None,
        scale="implicit" if implicit else "half-stars",
        unit="event",
    )


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """indptr, indices, data, shape of a matrix in the format csr."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {name: _checked_header(archive, name) for name in archive.namelist()}
        wanted = ("indptr", "indices", "data", "shape", "format")
        missing = [name for name in wanted if f"{name}.npy" not in sizes]
        if missing:
            raise DataError(f"{path.name} is no sparse matrix of scipy: no {missing[0]}", expected=", ".join(wanted))
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in wanted}
    except _ERRORS as error:
        raise DataError(f"{path.name} cannot be read as npz", got=ascii(str(error))[:200]) from error
    label = found.pop("format")
    if label.shape or label.dtype.kind not in "SU" or label.item() not in ("csr", b"csr"):
        got = ascii(label.item())[:40] if not label.shape else "an array"
        raise DataError(f"{path.name} is not in the format csr", got=got, hint="save matrix.tocsr()")
    return found


def _checked_header(archive: zipfile.ZipFile, name: str) -> int:
    """Bytes of an array, which are those that its header announces. Raises ValueError."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(member)
        announced = math.prod(shape) * kind.itemsize + member.tell()
    if kind.hasobject or announced != archive.getinfo(name).file_size:
        raise ValueError(f"{name} has {announced} bytes of {kind.str} by its header, but is not that large")
    return announced


def _checked(arrays: dict[str, NDArray[Any]], file: str) -> tuple[int, int]:
    """(users, items). indptr becomes int64. Raises DataError where the arrays are not a CSR matrix."""
    problems = [
        f"{name} is {array.dtype} of shape {array.shape}, not {what}"
        for name, kinds, what in (
            ("indptr", "iu", "whole numbers"),
            ("indices", "iu", "whole numbers"),
            ("data", "iufb", "numbers"),
            ("shape", "iu", "two whole numbers"),
        )
        if (array := arrays[name]).ndim != 1 or array.dtype.kind not in kinds or (name == "shape" and len(array) != 2)
    ]
    if not problems:
        users, items = (int(size) for size in arrays["shape"])
        problems = _structure_problems(arrays, users, items)
    if problems:
        raise DataError(f"{file} is not a CSR matrix of users and items: {'; '.join(problems)}")
    arrays["indptr"] = arrays["indptr"].astype(np.int64)
    return users, items


def _structure_problems(arrays: dict[str, NDArray[Any]], users: int, items: int) -> list[str]:
    indptr, indices, events = arrays["indptr"], arrays["indices"], len(arrays["data"])
    problems = []
    if not (0 < users <= _MOST and 0 < items <= _MOST and events <= _MOST):
        problems.append(f"{users} x {items} with {events} values is out of range")
    elif len(indptr) != users + 1 or indptr[0] != 0 or indptr[-1] != events or (indptr[1:] < indptr[:-1]).any():
        problems.append(f"indptr does not divide {events} values among {users} rows")
    if len(indices) != events:
        problems.append(f"{len(indices)} indices for {events} values")
    elif events and not (indices.min() >= 0 and indices.max() < items):
        problems.append(f"indices outside 0..{items - 1}")
    return problems


def _half_stars(data: NDArray[Any], file: str, hint: str) -> NDArray[np.uint8]:
    twice = 2 * data.astype(np.float64)
    bad = np.flatnonzero(~((twice >= 1) & (twice <= TOP_STARS) & (twice == np.floor(twice))))
    if len(bad):
        shown = "; ".join(f"event {place + 1}: {data[place]}" for place in bad[:SHOWN].tolist())
        more = f" (+{len(bad) - SHOWN} more)" if len(bad) > SHOWN else ""
        expected = f"multiples of .5 from .5 to {TOP_STARS / 2:g}, or 1 everywhere"
        raise DataError(f"{file} has {len(bad)} bad values: {shown}{more}", expected=expected, hint=hint)
    return twice.astype(np.uint8)


def _ids(path: Path | None, users: int, items: int) -> tuple[Sequence[str], Sequence[str]]:
    """Ids of rows and columns. JSON: {"users": ..., "items": ...}, each a list or an object of id: number."""
    if path is None:
        return [str(row) for row in range(users)], [str(column) for column in range(items)]
    try:
        if path.stat().st_size > _MAP_BYTES:
            raise DataError(f"{path.name} is too large", expected=f"at most {_MAP_BYTES >> 20} MB")
        plain = loads(path.read_bytes(), what=path.name)
    except (OSError, InputError) as error:
        got = error.lines()[-1] if isinstance(error, InputError) else str(error)
        raise DataError(f"{path.name} cannot be read as ids", got=got.strip()[:200]) from error
    if not isinstance(plain, dict) or plain.keys() != {"users", "items"}:
        raise DataError(f"{path.name} holds no ids", expected="an object of users and items")
    problems: list[str] = []
    found = [_listed(plain[what], what, count, problems) for what, count in (("users", users), ("items", items))]
    if problems:
        raise InputProblems(f"ids in {path.name}", problems, hint=plain_ids().expected, code=DataError.code)
    return found[0], found[1]


def _listed(plain: object, what: str, count: int, problems: list[str]) -> list[str]:
    """Ids by number; what is wrong goes to `problems`."""
    if isinstance(plain, dict):
        by_number = {number: name for name, number in plain.items() if type(number) is int}
        if len(by_number) != len(plain) or by_number.keys() != set(range(count)):
            problems.append(f"{what} are not numbered 0..{count - 1}")
            return []
        plain = [by_number[number] for number in range(count)]
    if not isinstance(plain, list) or len(plain) != count:
        problems.append(f"{what} are not {count} ids")
        return []
    names = [str(name) if type(name) is int else name for name in plain]
    bad = [name for name in names if not (isinstance(name, str) and is_plain_id(name))]
    problems += [f"{what}: {ascii(name)[:60]}" for name in bad]
    if not bad and len(set(names)) != len(names):
        problems.append(f"{what} have an id twice")
    return names
