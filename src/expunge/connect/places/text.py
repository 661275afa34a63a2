"""Logs, notebooks, exports, configuration: any text in which an id may stand."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from expunge.connect._places import BLOCK, copied, opened, quoted, users_of, written
from expunge.core.errors import DataError
from expunge.core.places import Traces

_WHAT = "plain text in UTF-8"
_SLOT = "{id}"
_PACKED = (
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
    b"PAR1",
    b"\x80\x04",
)


class Text:
    """A trace is a place where an id stands as a whole word: as it is, or as JSON or a URL would write it.

    A word ends where no letter, digit or `_` goes on; a point between digits goes on, so `17` is neither in `117` nor in
    `1.17`, and it is in `user 17.` and in `5,17,3`. The file is streamed, lines may have any length. Compressed files
    and text in UTF-16 are refused: they would look clean. Bytes that are not UTF-8 are passed over.
    Control: one line for each made-up user, and for each way to write its id. Where it fails: a short id is also a day,
    a price or a count, and the file cannot say which; `pattern` narrows the search to how this file names users, and
    then says nothing about other places in the file. Nothing is scrubbed: text says things that only its owner can
    rewrite.
    """

    scrubs: bool = False

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """`pattern`: what is searched, with {id} once, otherwise word for word: `user={id}`."""

        pattern: str = _SLOT

    def __init__(self, config: Config) -> None:
        self._before, slot, self._after = config.pattern.partition(_SLOT)
        if not slot or _SLOT in self._after:
            raise DataError("a pattern that does not say where the id stands", expected=f"{_SLOT} once")

    def count(self, path: Path, traces: Traces) -> int:
        """How often the users' ids stand in it."""
        needles = [self._before + form + self._after for name in users_of(traces) for form in _forms(name)]
        with opened(path, _WHAT) as (stream, _):
            return sum(_words(part, needles, whole) for part, whole in _parts(stream, max(map(len, needles))))

    def plant(self, path: Path, out: Path, traces: Traces) -> int:
        """A line for each made-up user and way of writing it."""
        lines = [f"seen {self._before}{form}{self._after} here" for name in users_of(traces) for form in _forms(name)]
        with opened(path, _WHAT) as (stream, size), written(out, path) as file:
            copied(stream, file, size)
            file.write(("\n" + "\n".join(lines) + "\n").encode("utf-8"))
        return len(lines)

    def scrub(self, path: Path, out: Path, traces: Traces) -> int:
        """Refused."""
        raise DataError(f"{path.name}: text is not scrubbed", hint="rewrite or drop it, and take the census again")


def _forms(name: str) -> list[str]:
    """The id as it is, within JSON, and within a URL; each once."""
    return list(dict.fromkeys([name, quoted(name)[1:-1], json.dumps(name)[1:-1], quote(name, safe="")]))


def _parts(stream: IO[bytes], longest: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Text in pieces that overlap, each with (from, to): where in it a find may start to be counted, once in all."""
    decoder, rest, known = codecs.getincrementaldecoder("utf-8")("replace"), "", 0
    margin, first = longest + 2, True
    while True:
        block = stream.read(BLOCK)
        if first and block.startswith(_PACKED):
            raise ValueError("compressed, or no text")
        if b"\0" in block:
            raise ValueError("a byte 0: no text, or UTF-16")
        first = False
        rest += decoder.decode(block, final=not block)
        end = len(rest) if not block else max(known, len(rest) - margin)
        yield rest, (known, end)
        if not block:
            return
        keep = max(0, end - 2)  # two characters before a find say whether it is a whole word
        rest, known = rest[keep:], end - keep


def _words(text: str, needles: list[str], span: tuple[int, int]) -> int:
    return sum(_alone(text, at, len(needle)) for needle in needles for at in _finds(text, needle, span))


def _finds(text: str, needle: str, span: tuple[int, int]) -> Iterator[int]:
    at = text.find(needle, span[0])
    while 0 <= at < span[1]:
        yield at
        at = text.find(needle, at + 1)


def _alone(text: str, at: int, length: int) -> bool:
    """Whether what stands there is not part of a longer word or number."""
    end = at + length
    before, after = text[max(0, at - 2) : at], text[end : end + 2]
    return not (_joined(text[at], before[-1:], before[:-1]) or _joined(text[end - 1], after[:1], after[1:]))


def _joined(own: str, near: str, far: str) -> bool:
    if not _letter(own):
        return False
    return _letter(near) or (near == "." and own.isdigit() and far.isdigit())


def _letter(char: str) -> bool:
    return char.isalnum() or char == "_"
