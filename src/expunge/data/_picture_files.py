"""Picture files from anybody: looked at before they are unpacked, read without following a link, never executed.

What a data source reads and what a claimant hands in go through the same reader, so that equal files give equal pixels.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError, InputProblems

MOST_BYTES, MOST_PIXELS = 64 << 20, 50_000_000
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_DEEPEST = 8


def square(raw: bytes, name: str, size: int) -> NDArray[np.uint8]:
    """(size, size, 3) of one file, cut to a square about its middle. Raises DataError on what is no picture or too large."""
    found: NDArray[np.uint8] = squares(raw, name, size)[0]
    return found


def squares(raw: bytes, name: str, size: int) -> NDArray[np.uint8]:
    """(V, size, size, 3): the square about the middle; of a picture that is no square also those at both ends, and the whole
    of it pressed into one, because nobody knows how a copy of it was cut."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise DataError(f"{shown(name)} unpacks to too many pixels", expected=f"at most {MOST_PIXELS:,}")
                return np.stack(_squares(image.convert("RGB"), size))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{shown(name)} unpacks to too many pixels", expected=f"at most {MOST_PIXELS:,}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{shown(name)} is no picture", expected=", ".join(FORMATS), got=str(error)[:120]) from error


def _squares(image: Any, size: int) -> list[NDArray[np.uint8]]:
    from PIL import Image

    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    boxes = [(left, top, left + side, top + side)]
    if width != height:
        boxes += [(0, 0, side, side), (width - side, height - side, width, height), (0, 0, width, height)]
    return [np.array(image.crop(box).resize((size, size), Image.Resampling.LANCZOS), np.uint8) for box in boxes]


def shown(name: str) -> str:
    """A file's name for a terminal: a name may hold anything, control characters and line breaks too."""
    return ascii(name)[1:-1][:80]


def uploaded(folder: Path, most: int) -> list[Path]:
    """The files of a folder that somebody else filled, sorted; nothing is opened. Raises InputProblems with all that must not
    be there: links, what is no plain file, files that are too large, too many of them; and where there is none."""
    files: list[Path] = []
    problems: list[str] = []
    if folder.is_symlink() or not folder.is_dir():
        raise InputProblems("the folder of works", ["it is no folder, or a link"])
    _walked(folder, 0, most, files, problems)
    if len(files) > most:
        problems.append(f"more than {most} files")
    if not files and not problems:
        problems.append("it is empty: a search for nothing finds nothing")
    if problems:
        raise InputProblems("the folder of works", problems[:20], code="upload")
    return sorted(files)


def _walked(folder: Path, depth: int, most: int, files: list[Path], problems: list[str]) -> None:
    if depth > _DEEPEST:
        problems.append(f"{shown(folder.name)}: folders in folders, more than {_DEEPEST} deep")
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(files) > most or len(problems) >= 20:
                return
            if entry.is_symlink():
                problems.append(f"{shown(entry.name)} is a link")
            elif entry.is_dir(follow_symlinks=False):
                _walked(Path(entry.path), depth + 1, most, files, problems)
            elif not entry.is_file(follow_symlinks=False):
                problems.append(f"{shown(entry.name)} is no plain file")
            elif entry.stat(follow_symlinks=False).st_size > MOST_BYTES:
                problems.append(f"{shown(entry.name)} is larger than {MOST_BYTES >> 20} MiB")
            else:
                files.append(Path(entry.path))


def plain_bytes(file: Path) -> bytes:
    """A plain file's bytes. Raises DataError on a link, a pipe, or more bytes than a work may have, whatever was there when the
    folder was looked at."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise DataError(f"{shown(file.name)} is no plain file")
            raw = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{shown(file.name)} cannot be read", got=error.strerror or "") from error
    if len(raw) > MOST_BYTES:
        raise DataError(f"{shown(file.name)} is too large", expected=f"at most {MOST_BYTES >> 20} MiB")
    return raw
