"""CIFAR-10 (Krizhevsky 2009) from the Hugging Face parquet layout or torchvision's python batches."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError, InputError
from expunge.data._records import Dataset, ImageRecords, check_records

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TUNING = 5_000


class Cifar10:
    """60,000 colour images of 32x32 pixels in 10 classes.

    Ids carry the split (`train/automobile/0007`), because file names repeat across train and test. Options:
    path: folder with the parquet files (`img.bytes`, `img.path`, `label`). limit: use the first `limit` training
    images of a fixed keyed order, equal per class. split: `standard`, or `tune` = train on 45,000 and test on the
    5,000 training images reserved for tuning, so that the test set judges and never tunes.
    """

    def __init__(self, *, path: str | None = None, limit: int | None = None, split: str = "standard") -> None:
        if split not in ("standard", "tune"):
            raise InputError("unknown split", expected="standard or tune", got=split)
        if limit is not None and not 100 <= limit <= 50_000:
            raise InputError("limit out of range", expected="100..50000", got=str(limit))
        self.path, self.limit, self.split = path, limit, split

    def open(self) -> Dataset:
        """The data set as uint8 images; raises DataError on anything that is not CIFAR-10."""
        if self.path is None:
            raise InputError(
                "no CIFAR-10 given", hint="pass --data FOLDER with cifar10-train.parquet and cifar10-test.parquet"
            )
        folder = Path(self.path)
        train, jpeg = _read_parquet(folder, "train")
        test, _ = _read_parquet(folder, "test")
        if self.split == "tune":
            train, test = _tuning_split(train)
        if self.limit is not None:
            train = _take(train, _balanced(train, self.limit))
        note = "CIFAR-10" + (" (JPEG re-encoding)" if jpeg else "") + (f", first {self.limit}" if self.limit else "")
        note += " [tuning split]" if self.split == "tune" else ""
        return Dataset(source="cifar10", note=note, classes=CLASSES, train=train, test=test)


def _read_parquet(folder: Path, split: str) -> tuple[ImageRecords, bool]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = sorted(folder.glob(f"*{split}*.parquet"))
    if not found:
        raise DataError(
            f"no {split} parquet in {folder}", expected=f"a file named *{split}*.parquet", hint="check --data"
        )
    try:
        table = pa.concat_tables([pq.read_table(file) for file in found])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{found[0].name} cannot be read as parquet", got=str(error)[:200]) from error
    missing = {"img", "label"} - set(table.column_names)
    if missing:
        raise DataError(f"{found[0].name} lacks columns", expected="img, label", got=", ".join(table.column_names))
    kind = table.schema.field("label").type
    if not pa.types.is_integer(kind):
        raise DataError(f"{found[0].name} has labels that are not integers", expected="0..9", got=str(kind))
    return _decode_rows(table.column("img").to_pylist(), table.column("label").to_pylist(), split)


def _decode_rows(cells: list[Any], labels: list[Any], split: str) -> tuple[ImageRecords, bool]:
    images = np.empty((len(cells), 32, 32, 3), np.uint8)
    jpeg = False
    for row, cell in enumerate(cells):
        raw = cell.get("bytes") if isinstance(cell, dict) else None
        if not isinstance(raw, bytes):
            raise DataError(f"row {row} of {split} holds no image bytes")
        jpeg = jpeg or raw[:2] == b"\xff\xd8"
        images[row] = _decode_image(raw, row, split)
    numbers = np.array([-1 if label is None else label for label in labels], np.int64)
    if ((numbers < 0) | (numbers >= len(CLASSES))).any():
        row = int(np.flatnonzero((numbers < 0) | (numbers >= len(CLASSES)))[0])
        raise DataError(f"label out of range in row {row} of {split}", expected="0..9", got=str(labels[row]))
    ids = tuple(_identity(split, cell, row, int(numbers[row])) for row, cell in enumerate(cells))
    records = ImageRecords(ids=ids, images=images, labels=numbers, blocks=ids)
    return check_records(records, len(CLASSES), f"CIFAR-10 {split}"), jpeg


def _decode_image(raw: bytes, row: int, split: str) -> NDArray[np.uint8]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(raw)) as image:
            pixels = np.asarray(image.convert("RGB"), np.uint8)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise DataError(f"row {row} of {split} is not an image", got=str(error)[:120]) from error
    if pixels.shape != (32, 32, 3):
        raise DataError(f"row {row} of {split} has the wrong size", expected="32x32x3", got=str(pixels.shape))
    return pixels


def _identity(split: str, cell: dict[str, Any], row: int, label: int) -> str:
    name = cell.get("path")
    stem = str(Path(name).with_suffix("")) if isinstance(name, str) and name else f"{CLASSES[label]}/{row:05d}"
    return f"{split}/{stem}"


def _keyed(ids: tuple[str, ...]) -> NDArray[np.int64]:
    """A fixed order that depends on nothing but the ids."""
    keys = [hashlib.sha256(b"expunge/cifar10/order|" + record.encode()).digest() for record in ids]
    return np.array(sorted(range(len(ids)), key=keys.__getitem__), np.int64)


def _balanced(records: ImageRecords, count: int) -> NDArray[np.int64]:
    order = _keyed(records.ids)
    labels = records.labels[order]
    share = [order[labels == k][: -(-count // len(CLASSES))] for k in range(len(CLASSES))]
    return np.sort(np.concatenate(share))[:count]


def _tuning_split(train: ImageRecords) -> tuple[ImageRecords, ImageRecords]:
    held = _balanced(train, TUNING)
    mask = np.zeros(len(train), bool)
    mask[held] = True
    return _take(train, np.flatnonzero(~mask)), _take(train, held)


def _take(records: ImageRecords, rows: NDArray[np.int64]) -> ImageRecords:
    ids = tuple(records.ids[row] for row in rows)
    return ImageRecords(
        ids=ids,
        images=np.ascontiguousarray(records.images[rows]),
        labels=records.labels[rows],
        blocks=tuple(records.blocks[row] for row in rows),
    )
