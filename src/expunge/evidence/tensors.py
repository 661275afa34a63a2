"""The identity of a model: SHA-256 per tensor and a Merkle root over them, whatever file or metadata holds them.

The safetensors header is read by hand and with suspicion: it comes from strangers. Layout: 8 bytes little-endian header
length, JSON header {name: {dtype, shape, data_offsets}}, then the data, which the offsets must tile without gap or
overlap (format description of the safetensors project).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import BinaryIO

from expunge.core.codec import Json, canonical, loads
from expunge.core.errors import InputError, IntegrityError
from expunge.evidence.durable import storage_errors
from expunge.evidence.merkle import leaf_hash, root_of

MAX_HEADER_BYTES = 100_000_000
_PREFIX = 8
_BUFFER = 1 << 20
_MAX_ELEMENTS = 1 << 60
# Bits per element; sub-byte types are allowed where the whole tensor fills bytes.
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRow:
    """One tensor: `sha256` is lower-case hex over its raw little-endian bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str

    def leaf(self) -> bytes:
        """Leaf hash over the row's canonical JSON."""
        row = {"name": self.name, "dtype": self.dtype, "shape": self.shape, "sha256": self.sha256}
        return leaf_hash(canonical(row))


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorManifest:
    """All tensors of a model, sorted by name. `root` is what ModelRef.digest holds."""

    rows: tuple[TensorRow, ...]

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        if not names:
            raise IntegrityError("the model holds no tensor")
        if any(left >= right for left, right in pairwise(names)):
            raise IntegrityError("tensor rows are not sorted by name, or a name comes twice")

    @property
    def root(self) -> str:
        """`sha256:<hex>`, the RFC 9162 root over the rows. Metadata, order and padding of the file do not count."""
        return "sha256:" + root_of([row.leaf() for row in self.rows]).hex()

    @classmethod
    def of_rows(cls, rows: Iterable[TensorRow]) -> TensorManifest:
        """From rows in any order. Raises IntegrityError when a name comes twice or there is none."""
        return cls(rows=tuple(sorted(rows, key=lambda row: row.name)))

    @classmethod
    def of_file(cls, path: Path | str) -> TensorManifest:
        """Read and hash a safetensors file once, in file order, with 1 MiB of memory.

        Raises IntegrityError on a file that is truncated, padded or lies about itself; StorageError on I/O.
        """
        path = Path(path)
        with storage_errors(path, "read"), open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            spans = _spans(_header(file, size, path), path)
            _check_tiling(spans, size - file.tell(), path)
            buffer = memoryview(bytearray(_BUFFER))
            return cls.of_rows([span.row(_hash_next(file, span.end - span.begin, buffer, path)) for span in spans])

    def differences(self, other: TensorManifest) -> tuple[str, ...]:
        """Names of tensors that are not the same in both, sorted."""
        mine, theirs = ({row.name: row for row in manifest.rows} for manifest in (self, other))
        return tuple(sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Where a tensor's bytes are: `begin` and `end` from the end of the header, or of the file in `layout_of`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def row(self, sha256: str) -> TensorRow:
        return TensorRow(name=self.name, dtype=self.dtype, shape=self.shape, sha256=sha256)


def layout_of(path: Path | str) -> tuple[Span, ...]:
    """Every tensor of a safetensors file in file order, by place in the file; only the header is read. Raises as above."""
    path = Path(path)
    with storage_errors(path, "read"), open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        spans = _spans(_header(file, size, path), path)
        start = file.tell()
        _check_tiling(spans, size - start, path)
        return tuple(replace(span, begin=span.begin + start, end=span.end + start) for span in spans)


def _header(file: BinaryIO, size: int, path: Path) -> dict[str, Json]:
    prefix = file.read(_PREFIX)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < _PREFIX or length > min(size - _PREFIX, MAX_HEADER_BYTES):
        raise IntegrityError(
            f"{path} is not a whole safetensors file",
            expected=f"a header of at most {max(0, min(size - _PREFIX, MAX_HEADER_BYTES))} bytes",
            got=f"{length} bytes announced, {size} bytes in all",
            hint="the file is truncated or of another format; fetch it again",
        )
    raw = _read_exactly(file, length, path)
    try:
        header = loads(raw, what=f"header of {path}")
    except InputError as error:
        raise IntegrityError(f"header of {path} does not parse", got=error.got) from error
    if not raw.startswith(b"{") or not isinstance(header, dict):
        raise IntegrityError(f"header of {path} is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise IntegrityError(f"metadata of {path} is not an object of texts")
    return header


def _spans(header: dict[str, Json], path: Path) -> list[Span]:
    """Tensors in file order. Empty tensors come before the one that starts at the same byte."""
    spans = [_span(name, entry, path) for name, entry in header.items()]
    return sorted(spans, key=lambda span: (span.begin, span.end, span.name))


def _span(name: str, entry: Json, path: Path) -> Span:
    def refuse(why: str) -> IntegrityError:
        return IntegrityError(f"tensor {name[:80]!r} of {path}: {why}")

    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise refuse("expected exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise refuse(f"unknown dtype {str(dtype)[:40]!r}")
    if not _naturals(shape) or len(shape) > 64 or not _naturals(offsets) or len(offsets) != 2:
        raise refuse("shape and data_offsets are lists of integers from 0")
    elements = prod(shape)
    if elements > _MAX_ELEMENTS or elements * DTYPE_BITS[dtype] != (offsets[1] - offsets[0]) * 8:
        raise refuse(f"{dtype} of shape {shape} does not fill bytes {offsets[0]} to {offsets[1]}")
    return Span(name=name, dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])


def _naturals(value: Json) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_tiling(spans: Sequence[Span], available: int, path: Path) -> None:
    position = 0
    for span in spans:
        if span.begin != position:
            what = "overlaps the tensor before it" if span.begin < position else "leaves a gap before it"
            raise IntegrityError(f"tensor {span.name[:80]!r} of {path} {what}")
        position = span.end
    if position != available:
        what = "is truncated" if position > available else "has bytes no tensor owns"
        raise IntegrityError(f"{path} {what}", expected=f"{position} bytes of data", got=f"{available}")


def _hash_next(file: BinaryIO, count: int, buffer: memoryview, path: Path) -> str:
    """SHA-256 of the next `count` bytes: tensors tile the file, so reading on is reading the next one."""
    digest = hashlib.sha256()
    while count:
        got = file.readinto(buffer[: min(count, len(buffer))])  # type: ignore[attr-defined]
        if not got:
            raise IntegrityError(f"{path} became shorter while it was read")
        digest.update(buffer[:got])
        count -= got
    return digest.hexdigest()


def _read_exactly(file: BinaryIO, count: int, path: Path) -> bytes:
    parts = []
    while count:
        part = file.read(count)
        if not part:
            raise IntegrityError(f"{path} became shorter while it was read")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
