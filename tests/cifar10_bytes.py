"""CIFAR-10 python batches in small: by Python 2, by Python 3, in folders and archives."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from expunge.data._python_batches import FOLDER, PIXELS, TEST_FILE, TRAIN_FILES

FILES = (*TRAIN_FILES, TEST_FILE)
ROWS = 20
PROTOCOLS = (2, 3, 4, 5)


def content(seed: int, rows: int = ROWS) -> dict[str, Any]:
    """What one batch holds."""
    rng = np.random.default_rng(seed)
    names = [f"odd_eyed_cat's_s_{seed}{row:04d}.png" for row in range(rows)]
    pixels = rng.integers(0, 256, (rows, PIXELS), dtype=np.uint8)
    return {"labels": [row % 10 for row in range(rows)], "data": pixels, "filenames": names, "batch_label": "batch"}


def with_bytes(batch: dict[str, Any]) -> dict[bytes, Any]:
    """As torchvision sees it: keys and names are bytes."""
    as_bytes = {key.encode(): value for key, value in batch.items()} | {b"batch_label": b"batch"}
    return as_bytes | {b"filenames": [name.encode() for name in batch["filenames"]]}


def short(text: str) -> bytes:
    return b"U" + bytes([len(text)]) + text.encode()


def by_python2(batch: dict[str, Any]) -> bytes:
    """The bytes cPickle of Python 2 wrote in 2009: protocol 2, byte strings, numpy.core, old dtype arguments."""
    data = batch["data"]
    raw = data.tobytes()
    labels = b"".join(b"K" + bytes([label]) for label in batch["labels"])
    names = b"".join(short(name) + b"r" + struct.pack("<I", 300 + row) for row, name in enumerate(batch["filenames"]))
    dtype = b"cnumpy\ndtype\nq\x0b" + short("u1") + b"K\x00K\x01\x87Rq\x0d(K\x03" + short("|") + b"NNN"
    dtype += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85" + short("b") + b"\x87Rq\x0a"
    array += b"(K\x01" + b"M" + struct.pack("<H", len(data)) + b"M\x00\x0c\x86q\x0c" + dtype
    array += b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tb"
    head = b"\x80\x02}q\x01(" + short("batch_label") + b"q\x02" + short("training batch 1 of 5") + b"q\x03"
    pairs = short("labels") + b"q\x04]q\x05(" + labels + b"e" + short("data") + b"q\x06" + array
    return head + pairs + short("filenames") + b"q\x0e]q\x0f(" + names + b"eu."


def folder_of(place: Path, write: Callable[[dict[str, Any]], bytes] = by_python2, **changes: Any) -> Path:
    """Six batches; changes replace entries of every batch, and None removes one."""
    place.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(FILES):
        batch = {key: value for key, value in (content(seed) | changes).items() if value is not None}
        (place / name).write_bytes(write(batch))
    return place


def plainly(batch: dict[str, Any]) -> bytes:
    return pickle.dumps(batch, 2)


def archive_of(place: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(place, "w:gz", compresslevel=1) as archive:
        for member, raw in members:
            archive.addfile(member, io.BytesIO(raw))
    return place


def member(name: str, raw: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(raw)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, raw


def honest() -> list[tuple[tarfile.TarInfo, bytes]]:
    """The members of the original archive, in its order: the training files are not sorted."""
    order = (3, 5, 2, 1, 4, 0)
    batches = [member(f"{FOLDER}/{FILES[n]}", by_python2(content(n))) for n in order]
    beside = [member(f"{FOLDER}/readme.html", b"<html>"), member(f"{FOLDER}/batches.meta", b"\x80\x02.")]
    return [member(FOLDER, type=tarfile.DIRTYPE), *batches[:2], *beside, *batches[2:]]
