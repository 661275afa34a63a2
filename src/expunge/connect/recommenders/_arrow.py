"""Arrow arrays as pyarrow pickles them: records of a type, a length and buffers, decoded here without pyarrow."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.connect.recommenders._opcodes import Record

_WHOLE = {f"{kind}{bits}": f"<{kind[0]}{bits // 8}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}
_TEXT = {"string": "<i4", "large_string": "<i8"}
MAX_LENGTH = 2**40


def strings_of(array: object) -> tuple[str, ...]:
    """The values of an array of whole numbers or strings, as strings. Raises ValueError on any other, and on nulls."""
    alias, length, offset, buffers = _parts(array)
    if alias in _WHOLE:
        return tuple(str(value) for value in _numbers(buffers[1], _WHOLE[alias], offset, length).tolist())
    if alias not in _TEXT or len(buffers) != 3:
        raise ValueError(f"ids as an Arrow array of {alias[:40]}: whole numbers or strings expected")
    ends = _numbers(buffers[1], _TEXT[alias], offset, length + 1)
    text = buffers[2]
    if ends[0] < 0 or (ends[1:] < ends[:-1]).any() or ends[-1] > len(text):
        raise ValueError("an Arrow array of strings does not fit its buffer")
    bounds = ends.tolist()
    return tuple(bytes(text[start:end]).decode("utf-8") for start, end in pairwise(bounds))


def column(table: object, name: str) -> NDArray[np.int64]:
    """A column of whole numbers. Raises ValueError on any other, on nulls, and where there is none."""
    _made(table, "_reconstruct_table")
    columns, schema = (*getattr(table, "arguments", ()), None, None)[:2]
    _made(schema, "schema")
    fields = schema.arguments[0] if isinstance(schema, Record) and schema.arguments else None
    if not isinstance(columns, list) or not isinstance(fields, list) or len(fields) != len(columns):
        raise ValueError("an Arrow table in an unknown form")
    for field, values in zip(fields, columns, strict=True):
        if isinstance(field, Record) and field.arguments and field.arguments[0] == name:
            return _chunked(values)
    raise ValueError(f"an Arrow table without a column {name}")


def _chunked(values: object) -> NDArray[np.int64]:
    _made(values, "chunked_array")
    chunks = values.arguments[0] if isinstance(values, Record) and values.arguments else None
    if not isinstance(chunks, list) or not chunks:
        raise ValueError("an Arrow column in an unknown form")
    found = []
    for chunk in chunks:
        alias, length, offset, buffers = _parts(chunk)
        if alias not in _WHOLE:
            raise ValueError(f"a column of {alias[:40]}: whole numbers expected")
        found.append(_numbers(buffers[1], _WHOLE[alias], offset, length).astype(np.int64))
    return np.concatenate(found)


def _parts(array: object) -> tuple[str, int, int, list[Any]]:
    """Alias of the type, length, offset and buffers as bytes of a `_restore_array` record without nulls."""
    _made(array, "_restore_array")
    packed = array.arguments[0] if isinstance(array, Record) and len(array.arguments) == 1 else None
    if not isinstance(packed, tuple) or len(packed) < 5 or not isinstance(packed[4], list):
        raise ValueError("an Arrow array in an unknown form")
    kind, length, nulls, offset, buffers = packed[:5]
    alias = kind.arguments[0] if isinstance(kind, Record) and kind.arguments else None
    if not isinstance(alias, str) or not all(type(n) is int and 0 <= n < MAX_LENGTH for n in (length, offset)):
        raise ValueError("an Arrow array in an unknown form")
    if nulls != 0 or len(buffers) < 2:
        raise ValueError("an Arrow array with nulls, or without values")
    return alias, length, offset, [_bytes(buffer) for buffer in buffers]


def _bytes(buffer: object) -> Any:
    """The bytes of a `py_buffer` record; none where there is no buffer."""
    if buffer is None:
        return b""
    _made(buffer, "py_buffer")
    data = buffer.arguments[0] if isinstance(buffer, Record) and len(buffer.arguments) == 1 else None
    if not isinstance(data, bytes | bytearray):
        raise ValueError("an Arrow buffer in an unknown form")
    return data


def _numbers(data: Any, dtype: str, offset: int, length: int) -> NDArray[Any]:
    size = np.dtype(dtype).itemsize
    if (offset + length) * size > len(data):
        raise ValueError(f"an Arrow array of {length} values at {offset} in {len(data)} bytes")
    return np.frombuffer(data, dtype, length, offset * size) if length else np.zeros(0, dtype)


def _made(value: object, name: str) -> None:
    if not isinstance(value, Record) or value.made_by.module != "pyarrow.lib" or value.made_by.name != name:
        raise ValueError(f"pyarrow.lib.{name} expected, got {type(value).__name__}")
