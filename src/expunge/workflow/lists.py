"""Record ids from a file: a queue of many requests, worked off as one case."""

from __future__ import annotations

from pathlib import Path

from expunge.core.errors import InputError

LARGEST = 64 << 20
"""Bytes: a million ids of 60 characters."""


def read_ids(path: Path) -> list[str]:
    """One id a line, UTF-8, in the file's order. Raises InputError on anything else: empty lines, an empty file, control
    characters, a file that is no plain file or over 64 MiB. Whether the ids are known, and named once, is asked later."""
    if not path.is_file():
        raise InputError("the list of ids is no file", got=str(path))
    with path.open("rb") as file:
        found = file.read(LARGEST + 1)
    if len(found) > LARGEST:
        raise InputError("the list of ids is too long", expected=f"at most {LARGEST} bytes")
    try:
        text = found.decode().removeprefix("\ufeff").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InputError("the list of ids is not UTF-8", got=f"byte {error.start}") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    wrong = next((number for number, line in enumerate(lines, 1) if not line.strip() or not line.isprintable()), None)
    if wrong is not None:
        raise InputError(f"line {wrong} of the list is no id", expected="one id a line")
    return lines
