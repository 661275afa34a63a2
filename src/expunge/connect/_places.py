"""What the kinds of artefacts share: files that nobody vouches for, copies that are whole or not there at all, names as
whole words, and JSON whose members keep their bytes."""

from __future__ import annotations

import json
import os
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from expunge.core.errors import DataError
from expunge.core.places import Traces
from expunge.evidence.durable import storage_errors

MAX_BYTES = 2**40
MAX_JSON = 2**27
"""128 MiB: parsed JSON takes up to some twenty times its bytes."""
BLOCK = 1 << 20
_WRONG = (
    OSError,
    ValueError,  # with UnicodeError and JSONDecodeError
    EOFError,
    OverflowError,
    RuntimeError,  # zipfile: encrypted; with NotImplementedError
    RecursionError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_SPACE = " \t\n\r"


# --------------------------------------------------------------------------------------------------------------- files


@contextmanager
def opened(path: Path, what: str, *, most: int = MAX_BYTES) -> Iterator[tuple[IO[bytes], int]]:
    """A regular file and its size in bytes, at most `most`. Whatever its bytes make a parser raise becomes a DataError.

    A symbolic link is refused: what was looked at, and what a scrubbed copy replaces, has to be one and the same file.
    """
    with reading(path, what):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ValueError("not a regular file")
            if found.st_size > most:
                raise ValueError(f"{found.st_size} bytes; at most {most} are read")
            yield stream, found.st_size


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what parsers raise on bytes that are not what they should be into a DataError with the file's name."""
    try:
        yield
    except _WRONG as error:
        raise unreadable(path, what, error) from error


def unreadable(path: Path, what: str, error: Exception) -> DataError:
    """One DataError: the file's name, what it should be, and what was wrong, without quoting what is in it at length."""
    said = "a symbolic link, or not there" if isinstance(error, OSError) and not path.is_file() else str(error)
    if path.is_symlink():
        said = "a symbolic link"
    return DataError(
        f"{path.name} is not {what}",
        expected=what,
        got=ascii(said or type(error).__name__)[1:-1][:200],
        hint="declare the file itself, of the kind that it is, unpacked",
    )


@contextmanager
def written(out: Path, source: Path) -> Iterator[IO[bytes]]:
    """A new file at `out` with the permissions of `source`: whole after the block, not there if the block raises.

    Raises StorageError where the disk refuses, DataError if `out` is the artefact itself.
    """
    with storage_errors(out, "write"):
        if out.exists() and os.path.samefile(out, source):
            raise DataError(f"the copy would overwrite {source.name}", expected="another file", got="the artefact")
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name[:100]}.")
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), stat.S_IMODE(source.stat().st_mode) & 0o777)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, out)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)


def copied(stream: IO[bytes], file: IO[bytes], length: int) -> None:
    """`length` bytes of the one, from where it stands, to the other. Raises ValueError if the file ends before."""
    while length:
        block = stream.read(min(BLOCK, length))
        if not block:
            raise ValueError("the file ends before its contents do")
        file.write(block)
        length -= len(block)


def starts(path: Path, length: int, what: str) -> bytes:
    """The first bytes of a file. Raises DataError on what `opened` refuses."""
    with opened(path, what) as (stream, _):
        return stream.read(length)


# --------------------------------------------------------------------------------------------------------------- names


def wanted(traces: Traces) -> frozenset[str]:
    """The users' names as a cell or key may have them: `17` and, from a column that became floats, `17.0`.

    Raises DataError where there is nobody to look for: a probe must not pass by asking for nothing.
    """
    return frozenset().union(*map(_forms, users_of(traces)))


def _forms(name: str) -> frozenset[str]:
    """A name as a cell may have it."""
    return frozenset({name, f"{name}.0"} if name.isascii() and name.isdecimal() else {name})


def users_of(traces: Traces) -> tuple[str, ...]:
    """The names, all of them something to look for. Raises DataError."""
    if not traces.names or any(not name.strip() for name in traces.names):
        raise DataError("no users to look for", expected="at least one name, none blank", got=str(len(traces.names)))
    lengths = {len(part) for part in (traces.names, traces.slots, traces.columns, traces.values)}
    if len(lengths) > 1:
        raise DataError("names, slots and histories do not go together", expected="one of each a user")
    return traces.names


class Sought:
    """Rows to look for: all of the users', or only those with one of the events."""

    def __init__(self, traces: Traces) -> None:
        self.users = wanted(traces)
        self.events = bool(traces.events)
        forms = [(_forms(user), _forms(item)) for user, item in traces.events]
        self.pairs = frozenset((user, item) for users, items in forms for user in users for item in items if user)
        self.items = frozenset(item for users, items in forms for item in items if "" in users)
        if any(not item.strip() for _, item in traces.events):
            raise DataError("an event without an item to look for")

    def row(self, user: str, item: str) -> bool:
        """Does a row of this user and item go?"""
        if not self.events:
            return is_one(user, self.users)
        return any(
            text in self.items or any((name, text) in self.pairs for name in {user, user.strip()})
            for text in {item, item.strip()}
        )


def is_one(value: object, names: Collection[str]) -> bool:
    """Whether a cell, key or number, as a whole, is one of the names; blanks around it do not hide it."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    text = value if isinstance(value, str) else str(value)
    return text in names or text.strip() in names


# ---------------------------------------------------------------------------------------------------------------- JSON


@dataclass(frozen=True, slots=True)
class Span:
    """A member or element of JSON: its key (None in a list), its value, and where text and value of it are."""

    key: str | None
    value: Any
    start: int
    at: int
    end: int


def json_text(path: Path, what: str) -> str:
    """The text of a JSON file, UTF-8, which encodes back to the same bytes. Raises DataError."""
    with opened(path, what, most=MAX_JSON) as (stream, _):
        return stream.read().decode("utf-8")


def value_of(text: str) -> Any:
    """One JSON value. Raises ValueError on keys that come twice, NaN and infinity, anything after it."""
    return _Decoder.decode(text)


def top_level(text: str) -> tuple[list[Span], int]:
    """Members of the object, or elements of the list, that the text is, and where its bracket stands.

    Raises ValueError on anything else.
    """
    start = _skip(text, 1 if text[:1] == "\ufeff" else 0)
    found, end = spans(text, start)
    if _skip(text, end) != len(text):
        raise ValueError(f"something follows its end at character {end}")
    return found, start


def spans(text: str, at: int) -> tuple[list[Span], int]:
    """What is right within the object or list that starts at `at`, and where that ends. Raises ValueError."""
    opening = text[at : at + 1]
    if opening not in ("{", "["):
        raise ValueError("a JSON object or list expected")
    closing, found = ("}" if opening == "{" else "]"), []
    place = _skip(text, at + 1)
    if text[place : place + 1] == closing:
        return [], place + 1
    while True:
        span = _span(text, place, keyed=opening == "{")
        found.append(span)
        place = _skip(text, span.end)
        if text[place : place + 1] == closing:
            break
        if text[place : place + 1] != ",":
            raise ValueError(f"a comma expected at character {place}")
        place = _skip(text, place + 1)
    keys = [span.key for span in found]
    if opening == "{" and len(set(keys)) != len(keys):
        raise ValueError("a key comes twice")
    return found, place + 1


def _span(text: str, start: int, *, keyed: bool) -> Span:
    key, at = None, start
    if keyed:
        if text[start : start + 1] != '"':
            raise ValueError(f"a key in quotes expected at character {start}")
        key, at = _Decoder.raw_decode(text, start)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise ValueError(f"a colon expected at character {at}")
        at = _skip(text, at + 1)
    value, end = _Decoder.raw_decode(text, at)
    return Span(key, value, start, at, end)


def without(text: str, found: Sequence[Span], gone: Callable[[Span], bool]) -> tuple[str, int]:
    """The text without those members, every other one with its bytes and the separator before it; how many went."""
    if not found:
        return text, 0
    kept = [index for index, span in enumerate(found) if not gone(span)]
    pieces = [text[: found[0].start]]
    for number, index in enumerate(kept):
        between = text[found[index - 1].end : found[index].start] if number else ""
        pieces += [between, text[found[index].start : found[index].end]]
    return "".join([*pieces, text[found[-1].end :]]), len(found) - len(kept)


def with_more(text: str, found: Sequence[Span], at: int, more: Sequence[str]) -> str:
    """The text with these members after the last one, or, where there is none, after the bracket at `at`."""
    place = found[-1].end if found else at + 1
    return text[:place] + ", ".join(([""] if found and more else []) + list(more)) + text[place:]


def quoted(value: object) -> str:
    """A value as JSON text."""
    return json.dumps(value, ensure_ascii=False)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key comes twice")
    return made


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_Decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
