"""CIFAR-10 (Krizhevsky 2009) from the Hugging Face parquet layout, from torchvision's python batches, or downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError, InputError
from expunge.data._coins import check_coin_options, plant_coins
from expunge.data._python_batches import ARCHIVE, TEST_FILE, TRAIN_FILES, Batch, holds_batches, read_batches
from expunge.data._records import Dataset, ImageRecords, check_records

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TUNING = 5_000
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
HINT = "--data FOLDER with the parquet files or the python batches"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"


class Cifar10:
    """60,000 colour images of 32x32 pixels in 10 classes.

    Ids carry the split (`train/automobile/0007`), because file names repeat across train and test. Options:
    path: folder with the parquet files (`img.bytes`, `img.path`, `label`), or with torchvision's python batches
    (`data_batch_1..5`, `test_batch`, or `cifar-10-batches-py` with them), or their tar.gz, none of which is unpickled;
    without a path the archive is downloaded once (170 MB) and checked. limit: use the first `limit` training images of
    a fixed keyed order, equal per class. split: `standard`, or `tune` = train on 45,000 and test on the 5,000 training
    images reserved for tuning, so that the test set judges and never tunes. coins: plant this many canaries among the
    training images, half of which a secret coin withholds (heads in the block `coins`); coins_key: its hex key.
    """

    def __init__(
        self,
        *,
        path: str | None = None,
        limit: int | None = None,
        split: str = "standard",
        coins: int = 0,
        coins_key: str | None = None,
    ) -> None:
        if split not in ("standard", "tune"):
            raise InputError("unknown split", expected="standard or tune", got=split)
        if limit is not None and not 100 <= limit <= 50_000:
            raise InputError("limit out of range", expected="100..50000", got=str(limit))
        check_coin_options(coins, coins_key)
        self.path, self.limit, self.split = path, limit, split
        self.coins, self.coins_key = coins, coins_key

    def open(self) -> Dataset:
        """The data set as uint8 images; raises DataError on anything that is not CIFAR-10."""
        train, test, jpeg = _read(_download() if self.path is None else Path(self.path))
        if self.split == "tune":
            train, test = _tuning_split(train)
        if self.limit is not None:
            train = _take(train, _balanced(train, self.limit))
        note = "CIFAR-10" + (" (JPEG re-encoding)" if jpeg else "") + (f", first {self.limit}" if self.limit else "")
        note += " [tuning split]" if self.split == "tune" else ""
        note += f" with {self.coins} coins" if self.coins else ""
        train, coins = plant_coins(train, coins=self.coins, key=self.coins_key, classes=len(CLASSES))
        return Dataset(source="cifar10", note=note, classes=CLASSES, train=train, test=test, coins=coins)


def _read(path: Path) -> tuple[ImageRecords, ImageRecords, bool]:
    """Train, test, and whether the pixels went through JPEG. Parquet wins where a folder has both layouts."""
    if holds_batches(path) and not any(path.glob("*.parquet")):
        found = read_batches(path)
        train = _from_batches([found[name] for name in TRAIN_FILES], "train")
        return train, _from_batches([found[TEST_FILE]], "test"), False
    train, jpeg = _read_parquet(path, "train")
    return train, _read_parquet(path, "test")[0], jpeg


def _from_batches(batches: list[Batch], split: str) -> ImageRecords:
    labels = [label for batch in batches for label in batch.labels]
    wrong = [row for row, label in enumerate(labels) if not 0 <= label < len(CLASSES)]
    if wrong:
        got = str(labels[wrong[0]])[:20]
        raise DataError(f"label out of range in row {wrong[0]} of {split}", expected="0..9", got=got)
    planes = np.concatenate([batch.pixels for batch in batches]).reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    ids = _batch_ids([name for batch in batches for name in batch.names or [None] * len(batch.labels)], labels, split)
    records = ImageRecords(ids=ids, images=images, labels=np.array(labels, np.int64), blocks=ids)
    return check_records(records, len(CLASSES), f"CIFAR-10 {split}")


def _batch_ids(names: list[str | None], labels: list[int], split: str) -> tuple[str, ...]:
    """`split/class/stem`, or the row where there is no name. Names that repeat get their row, so that ids are unique."""
    stems = [f"{row:05d}" if name is None else _stem(name, row, split) for row, name in enumerate(names)]
    ids = [f"{split}/{CLASSES[label]}/{stem}" for label, stem in zip(labels, stems, strict=True)]
    uses = Counter(ids)
    return tuple(name if uses[name] == 1 else f"{name}~{row:05d}" for row, name in enumerate(ids))


def _stem(name: str, row: int, split: str) -> str:
    """A file name without its suffix; one that could mislead a terminal or a path is refused."""
    stem = PurePosixPath(name).stem
    if not stem.strip(". ") or not name.isprintable() or "/" in name or "\\" in name:
        raise DataError(
            f"row {row} of {split} has an unusable file name", expected="a plain name", got=ascii(name)[:80]
        )
    return stem


class _Progress:
    """What pooch tells about a download, in steps of a tenth on stderr, for when tqdm is not there."""

    def __init__(self) -> None:
        self.total = 0
        self._done = self._shown = 0

    def update(self, size: int) -> None:
        """`size` more bytes have come."""
        self._done += size
        tenth = min(10, 10 * self._done // self.total) if self.total else 0
        if tenth > self._shown:
            self._shown = tenth
            sys.stderr.write(f"{ARCHIVE}: {10 * tenth} % of {self.total / 1e6:.0f} MB\n")

    def reset(self) -> None:
        """pooch starts counting again before it closes, to fill the bar; what was shown stays shown."""
        self._done = 0

    def close(self) -> None:
        """Nothing is open."""


def _download() -> Path:
    """The original archive, from the cache if it is there; its checksum is part of this file."""
    import pooch

    bar = True if importlib.util.find_spec("tqdm") else _Progress()
    try:
        found = pooch.retrieve(
            url=URL,
            known_hash=f"sha256:{SHA256}",
            fname=ARCHIVE,
            path=pooch.os_cache("expunge"),
            downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16),
        )
    except (OSError, ValueError) as error:
        raise DataError("CIFAR-10 cannot be downloaded", expected=URL, got=str(error)[:200], hint=HINT) from error
    return Path(found)


def _read_parquet(folder: Path, split: str) -> tuple[ImageRecords, bool]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = sorted(folder.glob(f"*{split}*.parquet"))
    if not found:
        raise DataError(
            f"no {split} parquet and no python batches in {folder}",
            expected=f"a file named *{split}*.parquet, or {TEST_FILE}",
            hint="check --data",
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
    wrong = [row for row, label in enumerate(labels) if label is None or not 0 <= label < len(CLASSES)]
    if wrong:
        raise DataError(f"label out of range in row {wrong[0]} of {split}", expected="0..9", got=str(labels[wrong[0]]))
    numbers = np.array(labels, np.int64)
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
    if not isinstance(name, str) or not name:
        return f"{split}/{CLASSES[label]}/{row:05d}"
    path = PurePosixPath(name)
    if not name.isprintable() or path.is_absolute() or not path.name or ".." in path.parts or "\\" in name:
        raise DataError(
            f"row {row} of {split} has an unusable file name", expected="a plain relative name", got=ascii(name)[:80]
        )
    return f"{split}/{path.with_suffix('')}"


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
