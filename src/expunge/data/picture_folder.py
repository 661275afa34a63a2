"""Captioned pictures in a folder, as text-to-image trainings keep them: files, and a line of JSON for each of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core.errors import DataError, InputError
from expunge.data._picture_files import MOST_BYTES, square
from expunge.data._pictures import Pictures, PictureSet, check_pictures

INDEX = "metadata.jsonl"
MOST_ROWS, MOST_LINE = 5_000_000, 100_000


class PictureFolder:
    """Hugging Face's ImageFolder: `PATH/train/metadata.jsonl` with `file_name` and `text`, pictures beside it.

    A line may name the `artist`, whose works are then one block and can be deleted together (a work without one is a block
    of its own), and the `object` shown. `PATH/test/` likewise, if it is there: works that nothing is trained on. Pictures are
    cut to a square about their middle and scaled to `size` pixels.
    Nothing is fetched, nothing outside the folder is read (no links, no `..`), and a picture that is no picture, or
    unpacks to more than 50 million pixels, is refused by name. Options: path; size (32), even.
    """

    def __init__(self, *, path: str, size: int = 32) -> None:
        if not 8 <= size <= 1024 or size % 2:
            raise InputError("size out of range", expected="an even number of pixels, 8..1024", got=str(size))
        self.path, self.size = Path(path), size

    def open(self) -> PictureSet:
        """All works in the order of the lines. Raises DataError on anything that is not as described."""
        train = self._split("train")
        test = self._split("test") if (self.path / "test" / INDEX).exists() else train.only([])
        styles = tuple(sorted({*train.styles, *test.styles} - {""}))
        objects = tuple(sorted({*train.objects, *test.objects} - {""}))
        note = f"{len(train)} captioned pictures at {self.size}x{self.size}"
        return PictureSet(source="picture_folder", note=note, styles=styles, objects=objects, train=train, test=test)

    def close(self) -> None:
        """Nothing is open."""

    def _split(self, split: str) -> Pictures:
        return read_pictures(self.path / split, split, self.size)

    def file_digests(self) -> dict[str, str]:
        """Training record -> hex SHA-256 of its file as it lies there. Raises DataError on anything that is not as described."""
        folder = self.path / "train"
        names = [str(line["file_name"]) for line in _lines(folder / INDEX)]
        return {f"train/{name}": hashlib.sha256(_bytes(folder, name)).hexdigest() for name in names}


def read_pictures(folder: Path, prefix: str, size: int) -> Pictures:
    """One folder of pictures and its index, with ids `prefix/file_name`. Raises DataError on what is not as described."""
    lines = list(_lines(folder / INDEX))
    names = [str(line["file_name"]) for line in lines]
    images = [square(_bytes(folder, name), name, size) for name in names]
    ids = tuple(f"{prefix}/{name}" for name in names)
    artists = tuple(str(line.get("artist", "")) for line in lines)
    found = Pictures(
        ids=ids,
        images=np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8),
        captions=tuple(str(line["text"]) for line in lines),
        styles=artists,
        objects=tuple(str(line.get("object", "")) for line in lines),
        blocks=tuple(artist or record for artist, record in zip(artists, ids, strict=True)),
    )
    return check_pictures(found, f"{prefix} of {folder.parent.name}")


def _bytes(folder: Path, name: str) -> bytes:
    parts = Path(name).parts
    file = folder / name
    if Path(name).is_absolute() or ".." in parts or any(p.is_symlink() for p in (file, *file.parents[: len(parts)])):
        raise DataError(f"{name[:80]} leaves its folder", expected="a plain file inside it, no link")
    try:
        if file.stat().st_size > MOST_BYTES:
            raise DataError(f"{name[:80]} is too large", expected=f"at most {MOST_BYTES >> 20} MiB")
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{name[:80]} cannot be read", got=str(error)[:120]) from error


def _lines(file: Path) -> Iterator[Mapping[str, Any]]:
    """The index, line by line; raises DataError with the line's number."""
    try:
        with file.open("rb") as stream:
            for number, raw in enumerate(iter(lambda: stream.readline(MOST_LINE + 1), b""), start=1):
                if len(raw) > MOST_LINE or number > MOST_ROWS:
                    raise DataError(
                        f"{INDEX}, line {number}: too long, or too many", expected=f"{MOST_LINE} bytes a line"
                    )
                if raw.strip():
                    yield _line(raw, number)
    except OSError as error:
        raise DataError(
            f"no {INDEX} in {file.parent.name}", expected="ImageFolder with metadata", got=str(error)[:120]
        ) from error


def _line(raw: bytes, number: int) -> Mapping[str, Any]:
    try:
        found = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{INDEX}, line {number} is not JSON", got=str(error)[:120]) from error
    known = isinstance(found, dict) and all(
        isinstance(found.get(key), str) and found[key] for key in ("file_name", "text")
    )
    if not known or not all(isinstance(found.get(key, ""), str) for key in ("artist", "object")):
        raise DataError(f"{INDEX}, line {number}", expected="file_name and text, and artist and object as texts if any")
    return found  # type: ignore[no-any-return]
