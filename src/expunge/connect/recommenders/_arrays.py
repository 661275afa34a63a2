"""Reads npy, npz and safetensors without pickle: the header is parsed and compared with the size before memory is
taken; objects and structures are refused. Strings are read here, item ids are strings."""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from expunge.connect._npy import NUMBERS, STRINGS, read_array
from expunge.connect.recommenders._files import entries_of, opened, starts_with

Array = NDArray[Any]
MAX_JSON = 2**26
_EXPANSION = 100
_SAFETENSORS = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "|u1", "BOOL": "|b1"}


def names_in(path: Path) -> frozenset[str]:
    """Names of the arrays of an npz file; none when it is no such file. Opens no array and never raises."""
    if starts_with(path, 2) != b"PK":
        return frozenset()
    try:
        with zipfile.ZipFile(path) as archive:
            return frozenset(name.removesuffix(".npy") for name in archive.namelist()[:1000])
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return frozenset()


def npz(path: Path, names: Sequence[str]) -> dict[str, Array]:
    """Those of the named arrays that the archive holds. Raises DataError."""
    with opened(path, "an npz file of arrays") as (stream, size), zipfile.ZipFile(stream) as archive:
        held = entries_of(archive, size, _EXPANSION)
        found = {}
        for name in names:
            entry = held.get(f"{name}.npy")
            if entry is not None:
                with archive.open(entry) as member:
                    found[name] = _array(member, entry.file_size, name)
        return found


def npy(path: Path) -> Array:
    """The array of one npy file. Raises DataError."""
    with opened(path, "an npy file") as (stream, size):
        return _array(stream, size, path.name)


def safetensors(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Tensors by name and the metadata of a safetensors file. Raises DataError."""
    with opened(path, "a safetensors file") as (stream, size):
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > min(MAX_JSON, size - 8):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = json.loads(stream.read(length).decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("the header is not a JSON object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("__metadata__ is not a map of strings")
        body = stream.read()
        return {name: _tensor(name, entry, body) for name, entry in header.items()}, metadata


def _tensor(name: str, entry: object, body: bytes) -> Array:
    if not isinstance(entry, dict) or str(entry.get("dtype")) not in _SAFETENSORS:
        raise ValueError(f"tensor {name[:60]!r}: one of {', '.join(_SAFETENSORS)} expected")
    dtype = np.dtype(_SAFETENSORS[str(entry["dtype"])])
    shape, span = (_whole(name, entry.get(key)) for key in ("shape", "data_offsets"))
    if len(span) != 2 or len(shape) > 4 or not span[0] <= span[1] <= len(body):
        raise ValueError(f"tensor {name[:60]!r} does not lie within the file")
    if math.prod(shape) * dtype.itemsize != span[1] - span[0]:
        raise ValueError(f"tensor {name[:60]!r}: {shape} of {dtype} in {span[1] - span[0]} bytes")
    flat = np.frombuffer(body, dtype, math.prod(shape), span[0]) if span[1] > span[0] else np.zeros(0, dtype)
    return flat.reshape(shape)


def _whole(name: str, numbers: object) -> list[int]:
    if not isinstance(numbers, list) or not all(type(number) is int and 0 <= number < 2**40 for number in numbers):
        raise ValueError(f"tensor {name[:60]!r}: shape and data_offsets are lists of whole numbers")
    return numbers


def _array(stream: IO[bytes], size: int, name: str) -> Array:
    try:
        found = read_array(stream, size, kinds=NUMBERS + STRINGS)
        check_text(found)
    except ValueError as error:
        raise ValueError(f"{name[:60]}: {error}") from error
    return found


def check_text(array: Array) -> None:
    """Raises ValueError on strings with numbers that are no characters; numpy does not look."""
    if array.dtype.kind == "U":
        codes = np.ravel(array, "K").view(f"{array.dtype.str[0]}u4")
        if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
            raise ValueError("an array of strings with numbers that are no characters")
