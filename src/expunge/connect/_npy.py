"""One npy array out of a stream that nobody vouches for: the header is parsed, not evaluated, and compared with the size
before memory is taken; objects and structures are refused."""

from __future__ import annotations

import ast
import math
import struct
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAX_HEADER = 10_000
NUMBERS, STRINGS = "biuf", "US"


def read_array(stream: IO[bytes], size: int, *, kinds: str = NUMBERS, most: int | None = None) -> NDArray[Any]:
    """The array that is all of `size` bytes: of numpy kinds `kinds`, with up to 4 dimensions and `most` values.

    Raises ValueError on anything else.
    """
    head, dtype, shape, fortran = _header(stream, kinds)
    count = math.prod(shape)
    if most is not None and count > most:
        raise ValueError(f"{count} values; at most {most} are read")
    if head + count * dtype.itemsize != size:
        raise ValueError(f"the header says {count} values of {dtype}, {size - head} bytes follow it")
    data = stream.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise ValueError("the file ends before its array does")
    return np.frombuffer(data, dtype, count).reshape(shape, order="F" if fortran else "C")


def _header(stream: IO[bytes], kinds: str) -> tuple[int, np.dtype[Any], tuple[int, ...], bool]:
    start = stream.read(8)
    version = tuple(start[6:8])
    if start[:6] != b"\x93NUMPY" or version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError("not an npy array of version 1 to 3")
    width, form = (2, "<H") if version == (1, 0) else (4, "<I")
    length_bytes = stream.read(width)
    if len(length_bytes) != width:
        raise ValueError("the file ends within its header")
    length = int(struct.unpack(form, length_bytes)[0])
    if length > MAX_HEADER:
        raise ValueError(f"a header of {length} bytes")
    dtype, shape, fortran = _described(stream.read(length))
    wide = dtype.kind in NUMBERS and dtype.itemsize > 8
    if dtype.kind not in kinds or wide or not dtype.itemsize or dtype.shape:
        wanted = "numbers or strings" if STRINGS in kinds else "numbers or booleans"
        raise ValueError(f"{wanted} expected, got dtype {str(dtype)[:60]} (objects are never unpickled)")
    return 8 + width + length, dtype, shape, fortran


def _described(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """The literal dict of the format (NEP 1), parsed here: numpy's own parser tokenises old headers and may raise
    anything."""
    try:
        found = ast.literal_eval(header.decode("latin-1").strip())
        descr, shape, fortran = (found[key] for key in ("descr", "shape", "fortran_order"))
        dtype = np.dtype(descr if isinstance(descr, str) else object)  # a structure is refused like an object
    except (ValueError, TypeError, SyntaxError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError("the header is malformed") from error
    whole = isinstance(shape, tuple) and all(type(length) is int and length >= 0 for length in shape)
    if not whole or len(shape) > 4 or not isinstance(fortran, bool) or len(found) != 3:
        raise ValueError("the header is malformed")
    return dtype, shape, fortran
