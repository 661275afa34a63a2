"""What the machine of `_opcodes` makes of the globals that numpy, scipy and torch write into pickles: arrays, checked
against the bytes they claim. Objects, structures, subclasses and anything that would need a call are refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from expunge.connect.recommenders._arrays import check_text
from expunge.connect.recommenders._opcodes import Buildable, Builder, Global, Meter, Record

_DTYPE = re.compile(r"[<>|=]?(?:f[248]|[iu][1248]|b1|[US][1-9]\d{0,5})")
_ARRAYS = frozenset({"numpy.ndarray", "numpy.matrix", "numpy.matrixlib.defmatrix.matrix"})
_SPARSE = ("scipy.sparse._csr.csr_matrix", "scipy.sparse._csr.csr_array", "scipy.sparse.csr.csr_matrix")
_STORAGES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
    "torch.BoolStorage": "|b1",
}
MAX_DIMENSIONS = 4


class Dtype(Buildable):
    """A number's or string's type; the byte order comes with BUILD."""

    def __init__(self, text: object) -> None:
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise ValueError(f"an array of dtype {str(text)[:40]!r}: numbers or strings expected, objects are not read")
        self.value = np.dtype(text)

    def fill(self, state: object, meter: Meter) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("a dtype in an unknown form")
        if any(part is not None for part in state[2:5]):
            raise ValueError("an array of structures")
        if state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class Array(Buildable):
    """A numpy array; empty until BUILD. `value` has the machine's byte order and may be read-only."""

    def __init__(self, value: NDArray[Any] | None = None) -> None:
        self.value = value

    def fill(self, state: object, meter: Meter) -> None:
        if self.value is not None or not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("an array in an unknown form")
        _, shape, dtype, fortran, data = state
        self.value = _shaped(data, dtype, shape, "F" if fortran is True else "C", meter)


class Sparse(Buildable):
    """A scipy CSR matrix; `data`, `indices`, `indptr` and `shape` are there, and agree, after BUILD."""

    def __init__(self) -> None:
        self.data = self.indices = self.indptr = np.zeros(0)
        self.shape = (0, 0)

    def fill(self, state: object, meter: Meter) -> None:
        if not isinstance(state, dict):
            raise ValueError("a sparse matrix in an unknown form")
        self.data, self.indices, self.indptr = (_value(state.get(name)) for name in ("data", "indices", "indptr"))
        shape = _lengths(state.get("_shape"))
        if len(shape) != 2 or {self.data.ndim, self.indices.ndim, self.indptr.ndim} != {1}:
            raise ValueError("a sparse matrix in an unknown form")
        self.shape = (shape[0], shape[1])
        check_csr(self.data, self.indices, self.indptr, self.shape)


class Storage:
    """The bytes of a torch storage."""

    def __init__(self, kind: object, data: bytes, count: int) -> None:
        dtype = _STORAGES.get(str(kind)) if isinstance(kind, Global) else None
        if dtype is None:
            raise ValueError(f"a tensor of {str(kind)[:60]}: one of {', '.join(_STORAGES)} expected")
        self.values = np.frombuffer(data, dtype) if data else np.zeros(0, dtype)
        if self.values.size != count:
            raise ValueError(f"a storage of {count} values in {len(data)} bytes")


STORAGE_KINDS = frozenset(_STORAGES)


def check_csr(data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], shape: tuple[int, int]) -> None:
    """Raises ValueError unless the three arrays are a CSR matrix of this shape."""
    whole = indices.dtype.kind in "iu" and indptr.dtype.kind in "iu" and data.dtype.kind in "biuf"
    if not whole or indptr.size != shape[0] + 1 or indices.size != data.size:
        raise ValueError("the arrays of a sparse matrix do not fit together")
    if indptr[0] != 0 or indptr[-1] != data.size or (indptr[1:] < indptr[:-1]).any():
        raise ValueError("the rows of a sparse matrix do not fit together")
    if indices.size and not (indices.min() >= 0 and indices.max() < shape[1]):
        raise ValueError("a sparse matrix has entries outside its shape")


def squares(rows: object, columns: int) -> tuple[NDArray[np.float64] | None, int]:
    """diag(X'X) (columns,) in whole numbers, and by what the values were multiplied to get there: 1, or 2 for halves.
    None where there are no rows, or their values are not halves. Raises ValueError on another number of columns."""
    if not isinstance(rows, Sparse):
        return None, 1
    if rows.shape[1] != columns:
        raise ValueError(f"rows over {rows.shape[1]} items beside weights of {columns}")
    matrix = sparse.csr_matrix((rows.data.astype(np.float64), rows.indices, rows.indptr), shape=rows.shape)
    matrix.sum_duplicates()
    values = matrix.data
    for times in (1, 2):
        if (np.abs(values) < 2**20).all() and ((values * times) % 1 == 0).all():
            return np.bincount(matrix.indices, (values * times) ** 2, columns).astype(np.float64), times
    return None, 1


def array_of(value: object) -> NDArray[Any] | None:
    """The array of a value that is one, else None."""
    return value.value if isinstance(value, Array) else None


def number_of(value: object) -> int | float | None:
    """A Python number, or the one entry of an array without dimensions, else None."""
    if isinstance(value, bool):
        return None
    return value if isinstance(value, int | float) else None


def _value(value: object) -> NDArray[Any]:
    found = array_of(value)
    if found is None:
        raise ValueError(f"an array expected, got {type(value).__name__}")
    return found


def _lengths(shape: object) -> tuple[int, ...]:
    whole = isinstance(shape, tuple) and all(type(length) is int and 0 <= length < 2**40 for length in shape)
    if not isinstance(shape, tuple) or not whole or len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a shape of up to {MAX_DIMENSIONS} lengths expected, got {str(shape)[:60]}")
    return shape


def _shaped(data: object, dtype: object, shape: object, order: object, meter: Meter) -> NDArray[Any]:
    lengths = _lengths(shape)
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, Dtype) or order not in ("C", "F"):
        raise ValueError(f"the values of an array as {type(data).__name__} in order {str(order)[:20]!r}")
    count = math.prod(lengths)
    if count * dtype.value.itemsize != len(data):
        raise ValueError(f"an array of {count} values of {dtype.value} in {len(data)} bytes")
    flat = np.frombuffer(data, dtype.value) if count else np.zeros(0, dtype.value)
    check_text(flat)
    if not flat.dtype.isnative:
        meter.take(flat.nbytes)
        flat = flat.astype(flat.dtype.newbyteorder("="))
    return flat.reshape(lengths, order="F" if order == "F" else "C")


# ------------------------------------------------------------------------------------------------ one for each global


def _reconstruct(arguments: tuple[Any, ...], meter: Meter) -> Array:
    if len(arguments) != 3 or str(arguments[0]) not in _ARRAYS or not isinstance(arguments[0], Global):
        raise ValueError("an array of an unknown class")
    return Array()


def _from_buffer(arguments: tuple[Any, ...], meter: Meter) -> Array:
    if len(arguments) not in (4, 5) or (len(arguments) == 5 and arguments[4] is not None):
        raise ValueError("an array in an unknown form")
    data, dtype, shape, order = arguments[:4]
    return Array(_shaped(data, dtype, shape, order, meter))


def _dtype(arguments: tuple[Any, ...], meter: Meter) -> Dtype:
    if not 1 <= len(arguments) <= 3:
        raise ValueError("a dtype in an unknown form")
    return Dtype(arguments[0])


def _scalar(arguments: tuple[Any, ...], meter: Meter) -> Any:
    if len(arguments) != 2:
        raise ValueError("a number in an unknown form")
    return _shaped(arguments[1], arguments[0], (), "C", meter).item()


def _sparse(arguments: tuple[Any, ...], meter: Meter) -> Sparse:
    if arguments:
        raise ValueError("a sparse matrix in an unknown form")
    return Sparse()


def _ordered(arguments: tuple[Any, ...], meter: Meter) -> dict[Any, Any]:
    if arguments:
        raise ValueError("an OrderedDict from pairs")
    return {}


def _bytes(arguments: tuple[Any, ...], meter: Meter) -> Any:
    """bytearray(b"..."), bytearray("...", "latin-1"), and _codecs.encode("...", "latin1"): how bytes are written."""
    if len(arguments) == 1 and isinstance(arguments[0], bytes | bytearray):
        return arguments[0]
    if not arguments:
        return b""
    text = arguments[0]
    if len(arguments) != 2 or not isinstance(text, str) or arguments[1] not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown form")
    meter.take(len(text))
    return text.encode("latin-1")


def _set(arguments: tuple[Any, ...], meter: Meter) -> Any:
    """builtins.set and frozenset of a list: protocols before 4."""
    if len(arguments) != 1 or not isinstance(arguments[0], list):
        raise ValueError("a set in an unknown form")
    return arguments[0]


def _instance(arguments: tuple[Any, ...], meter: Meter) -> Any:
    """copyreg._reconstructor(cls, object, None): protocols before 2."""
    if len(arguments) != 3 or not isinstance(arguments[0], Global) or arguments[2] is not None:
        raise ValueError("an instance in an unknown form")
    return Sparse() if str(arguments[0]) in _SPARSE else Record(arguments[0], ())


def _tensor(arguments: tuple[Any, ...], meter: Meter) -> Array:
    """torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...). Strides that repeat a value are refused:
    sixteen bytes could be stretched over all memory."""
    if not 6 <= len(arguments) <= 7 or not isinstance(arguments[0], Storage):
        raise ValueError("a tensor in an unknown form")
    values, offset, size = arguments[0].values, arguments[1], _lengths(arguments[2])
    count = math.prod(size)
    if type(offset) is not int or not 0 <= offset <= values.size - count:
        raise ValueError(f"a tensor of {count} values at {str(offset)[:20]} of {values.size}")
    part = values[offset : offset + count]
    if not count or _same_strides(arguments[3], size, [math.prod(size[axis + 1 :]) for axis in range(len(size))]):
        return Array(part.reshape(size))
    if len(size) == 2 and _same_strides(arguments[3], size, [1, size[0]]):
        return Array(part.reshape(size, order="F"))
    raise ValueError(f"a tensor of size {size} with strides {str(arguments[3])[:60]}")


def _same_strides(strides: object, size: tuple[int, ...], wanted: list[int]) -> bool:
    if not isinstance(strides, tuple) or len(strides) != len(size) or not all(type(own) is int for own in strides):
        return False
    return all(length == 1 or own == want for own, want, length in zip(strides, wanted, size, strict=True))


def _parameter(arguments: tuple[Any, ...], meter: Meter) -> Any:
    if len(arguments) != 3 or not isinstance(arguments[0], Array):
        raise ValueError("a parameter in an unknown form")
    return arguments[0]


def _name_only(arguments: tuple[Any, ...], meter: Meter) -> Any:
    raise ValueError("it calls a class that only names a kind of array")


def _multiarray(name: str) -> tuple[str, str]:
    return f"numpy._core.multiarray.{name}", f"numpy.core.multiarray.{name}"


BUILDERS: Mapping[str, Builder] = {
    **dict.fromkeys(_multiarray("_reconstruct"), _reconstruct),
    **dict.fromkeys(_multiarray("scalar"), _scalar),
    "numpy._core.numeric._frombuffer": _from_buffer,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.dtype": _dtype,
    **dict.fromkeys(_ARRAYS, _name_only),
    **dict.fromkeys(_SPARSE, _sparse),
    "collections.OrderedDict": _ordered,
    "builtins.bytearray": _bytes,
    "_codecs.encode": _bytes,
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "copyreg._reconstructor": _instance,
    "builtins.object": _name_only,
}
TORCH_BUILDERS: Mapping[str, Builder] = {
    **BUILDERS,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **dict.fromkeys(STORAGE_KINDS, _name_only),
}
