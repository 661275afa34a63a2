"""Indices for nearest neighbours, and any other binary file that keeps vectors."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.connect._npy import read_array
from expunge.connect._places import copied, opened, users_of, written
from expunge.core.errors import DataError
from expunge.core.places import Traces

Floats = NDArray[np.float64]
_WHAT = "a binary file with vectors"
_RAW = frozenset({b"IxF2", b"IxFI", b"IxFl", b"IwFl", b"IHNf", b"INSf"})
_WRAPPED = frozenset({b"IxMp", b"IxM2"})
_INNER = 37  # bytes of header before the inner index
_WITNESSES = 32
_WORD = 6  # bytes
_ULPS = 3
_VECTORS = 2**33  # bytes


class Index:
    """A scan of the bytes, by memory map, for the vectors of the users and for their ids. Nothing is parsed or loaded.

    A vector is looked for as float32 and float64, little endian, as it is and scaled to length 1 (cosine) with the
    rounding of several ways to do that. It is row `slot` of the npy file `vectors`; without that file, the user's
    history over all items, as 0 and 1 and with its values. An id counts after its length as 1, 4 or 8 bytes, or as a
    whole word; ids of fewer than 6 bytes only after a length of 4 or 8: by chance they are in every binary file.
    Cost: some 30 searches of the file a user, at memory speed.

    Is the probe blind? Vectors that have to be in the file, up to 32 of `witnesses` (or other users' rows of `vectors`),
    are looked for too, and if half of them are not there the file is refused: it keeps codes, not vectors, or others.
    Without these files only FAISS indices are read, of which the header says that they keep vectors over all items.
    Control: where a witness stands, the made-up user's vector is put in the same form; without witnesses, at the end.

    Seen in files of faiss-cpu 1.15.1 (index_factory, 400 vectors of 32) and hnswlib 0.8.0: raw float32 in Flat (L2, IP),
    IVF-Flat, HNSW-Flat, NSG-Flat, IDMap and IDMap2 over Flat, IVFPQ+RFlat, hnswlib l2 and ip (the label follows as 8
    bytes); scaled to length 1 in L2norm and, off by up to 2 units in the last place, in hnswlib cosine; neither in PQ,
    IVFPQ, OPQ, PQ fast scan, SQ8, SQfp16, LSH, RaBitQ, and after PCA: for those the census cannot say. `remove_ids`
    takes the bytes out of Flat, IVF and IDMap; HNSW, NSG and RFlat refuse it; hnswlib's `mark_deleted` leaves the vector
    in the file until another one takes its place. FAISS' IDMap and hnswlib keep ids as whole numbers of 8 bytes, which
    are not looked for.
    A retained user with the very same vector is found too, and of histories a short one that lies across two rows: that
    errs on the safe side, and only a rebuild tells.
    """

    scrubs: bool = False

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """`vectors`: npy file (U, d), row = slot, of what the index was built from; empty = histories. `witnesses`: npy
        file (W, d) of vectors that the file has to hold as it stands now, of others than the users (after a retraining:
        the new rows); empty = the other rows of `vectors`. Paths are taken from the folder of the index."""

        vectors: str = ""
        witnesses: str = ""

    def __init__(self, config: Config) -> None:
        self._vectors, self._witnesses = config.vectors, config.witnesses

    def count(self, path: Path, traces: Traces) -> int:
        """Places in the file where a user's vector or id stands."""
        users_of(traces)
        with _mapped(path) as held:
            return self._count(path, held, traces)

    def plant(self, path: Path, out: Path, traces: Traces) -> int:
        """Vectors of made-up users, in the place and form of vectors that are there."""
        users_of(traces)
        with _mapped(path) as held:
            self._seeing(path, held, traces)
            made = [rows[0] for rows in self._rows(path, traces) if rows]
            free = self._places(path, held, traces)
            edits = [(at, _needles(row)[form]) for row, (at, form) in zip(made, free, strict=False)]
            more = [_needles(row)[0] for row in made[len(edits) :]]
            with opened(path, _WHAT) as (stream, size), written(out, path) as file:
                copied(stream, file, size)
                for at, data in edits:
                    file.seek(at)
                    file.write(data)
                file.seek(size)
                file.write(b"".join(more))
        return len(made)

    def scrub(self, path: Path, out: Path, traces: Traces) -> int:
        """Refused."""
        raise DataError(f"{path.name}: an index is not scrubbed", hint="rebuild it without the users, and count again")

    def _count(self, path: Path, held: _Held, traces: Traces) -> int:
        self._seeing(path, held, traces)
        found, known = 0, len(self._matrix(path, self._vectors)) if self._vectors else 0
        for number, rows in enumerate(self._rows(path, traces)):
            forms = dict.fromkeys(needle for row in rows for needle in _needles(row))
            own = sum(_times(held, needle) for needle in forms)
            own += _ids(held, traces.names[number].encode("utf-8"))
            if self._vectors and not own and traces.slots[number] >= known:
                raise DataError(
                    f"{self._vectors} has no row {traces.slots[number]}", expected="the users' own rows in it"
                )
            found += own
        return found

    def _rows(self, path: Path, traces: Traces) -> Iterator[list[Floats]]:
        """Per user, the vectors to look for; none where there is nothing of theirs."""
        matrix = self._matrix(path, self._vectors) if self._vectors else None
        for name, slot, columns, values in zip(traces.names, traces.slots, traces.columns, traces.values, strict=True):
            if matrix is None:
                rows = _histories(columns, values, traces.items)
            elif slot < len(matrix):
                rows = [np.asarray(matrix[slot], np.float64)]
            else:
                rows = [_stand_in(name, matrix.shape[1])]
            yield [row for row in rows if row.any()]

    def _matrix(self, path: Path, name: str) -> NDArray[Any]:
        """Rows of an npy file beside the index, finite. Raises DataError."""
        with opened(path.parent / name, "an npy matrix of vectors", most=_VECTORS) as (stream, size):
            found = read_array(stream, size, kinds="f")
            if found.ndim != 2 or not found.size or not np.isfinite(found).all():
                raise ValueError("a matrix (rows, d) of finite numbers expected")
            return found

    def _others(self, path: Path, traces: Traces) -> list[Floats]:
        """Up to 32 vectors that have to be in the file, spread over the rows there are."""
        name = self._witnesses or self._vectors
        if not name:
            return []
        rows = self._matrix(path, name)
        free: NDArray[np.bool_] = np.asarray(rows.any(1))
        if not self._witnesses:
            free[[slot for slot in traces.slots if slot < len(rows)]] = False
        places = np.flatnonzero(free)
        chosen = places[np.unique(np.linspace(0, len(places) - 1, _WITNESSES).astype(int))] if len(places) else []
        return [np.asarray(rows[place], np.float64) for place in chosen]

    def _places(self, path: Path, held: _Held, traces: Traces) -> list[tuple[int, int]]:
        """Where witnesses stand, and in which form, one each."""
        found = []
        for row in self._others(path, traces):
            spots = ((held.find(needle), form) for form, needle in enumerate(_needles(row)))
            spot = next(((at, form) for at, form in spots if at >= 0), None)
            found += [spot] if spot else []
        return list(dict(found).items())

    def _seeing(self, path: Path, held: _Held, traces: Traces) -> None:
        """Raises DataError where finding nothing would say nothing."""
        others = self._others(path, traces)
        seen = sum(any(held.find(needle) >= 0 for needle in _needles(row)) for row in others)
        if others and 2 * seen >= len(others):
            return
        start = held[:4]
        inner = held[_INNER : _INNER + 4] if start in _WRAPPED else start
        width = int.from_bytes(held[4:8], "little")
        if not (self._witnesses or self._vectors) and inner in _RAW and width == traces.items:
            return
        raise DataError(
            f"{path.name} cannot be scanned for vectors",
            expected="vectors that have to be in it are found, or FAISS says that it keeps vectors over all items",
            got=f"{seen} of {len(others)} found" if others else f"a header {bytes(start)!r}, width {width}",
            hint="an index of codes (PQ, SQ, LSH) cannot be scanned: rebuild it; otherwise give `witnesses`",
        )


_Held = mmap.mmap


class _mapped:  # noqa: N801 - a context manager, used like a function
    """The file as a memory map, read-only. Raises DataError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> _Held:
        with opened(self._path, _WHAT) as (stream, size):
            if not size:
                raise ValueError("an empty file")
            self._held = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return self._held

    def __exit__(self, *_: object) -> None:
        self._held.close()


def _histories(columns: Any, values: Any, items: int) -> list[Floats]:
    binary, valued = np.zeros(items), np.zeros(items)
    binary[np.asarray(columns, np.int64)] = 1
    valued[np.asarray(columns, np.int64)] = np.asarray(values, np.float64)
    return [binary, valued]


def _stand_in(name: str, length: int) -> Floats:
    """A vector for a made-up user, who has no row: drawn from the name, so that it is the same in plant and count."""
    seed = int.from_bytes(sha256(name.encode("utf-8")).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(seed)).standard_normal(length)


def _needles(row: Floats) -> list[bytes]:
    """The vector's bytes in every form, always in the same order: float32, float64, and scaled to length 1."""
    forms: list[NDArray[Any]] = [row.astype("<f4"), row.astype("<f8"), (row / np.linalg.norm(row)).astype("<f8")]
    single = row.astype(np.float32)
    length = np.float32(np.sqrt(np.sum(single.astype(np.float64) ** 2)))
    for scale in _near(np.float32(1) / length):
        forms.append((single * scale).astype("<f4"))
    for divisor in _near(length):
        forms.append((single / divisor).astype("<f4"))
    return [form.tobytes() for form in forms]


def _near(value: np.float32) -> Iterator[np.float32]:
    """The number and its neighbours: sums of squares are rounded in many orders."""
    bits = np.array(value, np.float32).view(np.int32)
    for step in range(-_ULPS, _ULPS + 1):
        yield np.float32((bits + np.int32(step)).view(np.float32)[()])


def _ids(held: _Held, name: bytes) -> int:
    """Places where the id stands after its length, or as a whole word."""
    places: set[int] = set()
    widths: Sequence[tuple[int, str]] = [(4, "little"), (4, "big"), (8, "little"), (8, "big")]
    for width, order in widths:
        prefix = len(name).to_bytes(width, "little" if order == "little" else "big")
        places |= {at + width for at in _finds(held, prefix + name)}
    if len(name) >= _WORD:
        for at in _finds(held, name):
            before, after = held[max(0, at - 1) : at], held[at + len(name) : at + len(name) + 1]
            counted = len(name) < 256 and before == bytes([len(name)])
            if counted or not (_word(before) or _word(after)):
                places.add(at)
    return len(places)


def _word(byte: bytes) -> bool:
    return byte.isalnum() or byte == b"_"


def _times(held: _Held, needle: bytes) -> int:
    return sum(1 for _ in _finds(held, needle))


def _finds(held: _Held, needle: bytes) -> Iterator[int]:
    at = held.find(needle)
    while at >= 0:
        yield at
        at = held.find(needle, at + len(needle))
