"""Cached recommendation lists: key-value exports, candidate stores, e-mail queues."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from expunge.connect._places import (
    Span,
    copied,
    is_one,
    json_text,
    opened,
    quoted,
    reading,
    top_level,
    users_of,
    value_of,
    wanted,
    with_more,
    without,
    written,
)
from expunge.core.errors import DataError
from expunge.core.places import Traces

_WHAT = "JSON, an object of lists by user, or JSON Lines of lists"
_LINE = 1 << 24  # bytes
_SHORT = 12  # characters of a digest that name a model


class Lists:
    """JSON `{"user": {"model": digest, "items": [...]}}`, or JSON Lines of `{"user", "model", "items"}`.

    A trace is an entry under a deleted user's key, and every entry, whoever's, that was made by the model which was
    trained on them, or by an older one: deleting one median user of ml-latest-small changes who is in the top 20 of 10 %
    of the others, so other people's lists carry the deleted user until they are made anew. An entry without the digest
    of its model ends the reading: nothing could be said about it. Digests count with and without `sha256:`, and from 12
    characters on as abbreviations. A scrub drops the entries; all others keep their bytes. An object is held in memory
    (128 MiB at most), JSON Lines are streamed, 16 MiB a line. Where single events go, lists of their users go as a whole:
    they were made from the histories as they were.
    Control, two a made-up user: an entry under its name, and one of somebody else by its model.
    """

    scrubs: bool = True
    shortens: bool = True
    names_model: bool = True

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Config:
        """`model`, `user`, `items`: names of the fields; an object's entries need no `user`."""

        model: str = "model"
        user: str = "user"
        items: str = "items"

    def __init__(self, config: Config) -> None:
        self._config = config

    def count(self, path: Path, traces: Traces) -> int:
        """Entries of the users, and other people's made by their model."""
        judge = _Judge(self._config, traces)
        if _is_lines(path):
            with opened(path, _WHAT) as (stream, _):
                return sum(judge.line(line) for line in _lines(stream))
        with reading(path, _WHAT):
            return sum(judge.member(span) for span in top_level(json_text(path, _WHAT))[0])

    def plant(self, path: Path, out: Path, traces: Traces) -> int:
        """Two entries for each made-up user."""
        users_of(traces)
        made = [entry for number in range(len(traces.names)) for entry in self._entries(traces, number)]
        if _is_lines(path):
            self._plant_lines(path, out, made)
        else:
            more = [f"{quoted(name)}: {quoted(entry)}" for name, entry in made]
            with reading(path, _WHAT):
                text = json_text(path, _WHAT)
                found, at = top_level(text)
            with written(out, path) as file:
                file.write(with_more(text, found, at, more).encode("utf-8"))
        return len(made)

    def scrub(self, path: Path, out: Path, traces: Traces) -> int:
        """Without those entries."""
        judge, gone = _Judge(self._config, traces), 0
        if not _is_lines(path):
            with reading(path, _WHAT):
                text = json_text(path, _WHAT)
                text, gone = without(text, top_level(text)[0], judge.member)
            with written(out, path) as file:
                file.write(text.encode("utf-8"))
            return gone
        with opened(path, _WHAT) as (stream, _), written(out, path) as file:
            for line in _lines(stream):
                drop = judge.line(line)
                gone += drop
                file.write(b"" if drop else line)
        return gone

    def _entries(self, traces: Traces, number: int) -> Iterator[tuple[str, dict[str, object]]]:
        own, items = traces.names[number], [int(item) for item in traces.columns[number][:3]]
        yield own, {self._config.model: f"not {traces.model}", self._config.items: items}
        yield f"{own} (somebody else)", {self._config.model: traces.model, self._config.items: items}

    def _plant_lines(self, path: Path, out: Path, made: list[tuple[str, dict[str, object]]]) -> None:
        with opened(path, _WHAT) as (stream, size), written(out, path) as file:
            copied(stream, file, size)
            stream.seek(max(0, size - 1))
            file.write(b"" if stream.read(1) in (b"\n", b"") else b"\n")
            for name, entry in made:
                file.write((quoted({self._config.user: name, **entry}) + "\n").encode("utf-8"))


class _Judge:
    """Whether an entry is a trace. Raises ValueError on one that is no entry."""

    def __init__(self, config: Lists.Config, traces: Traces) -> None:
        self.config, self.names = config, wanted(traces)
        self.digests = tuple(_bare(digest) for digest in (traces.model, *traces.earlier))
        if min(map(len, self.digests)) < _SHORT:
            raise DataError(
                "no digest of the model that was trained on the users", expected=f"{_SHORT} characters or more"
            )

    def member(self, span: Span) -> bool:
        if span.key is None:
            raise ValueError("a list where an object of lists by user is expected")
        return is_one(span.key, self.names) or self._stale(span.value)

    def line(self, line: bytes) -> bool:
        if not line.strip():
            return False
        entry = value_of(line.decode("utf-8-sig"))
        user = entry.get(self.config.user) if isinstance(entry, dict) else None
        if user is None or isinstance(user, dict | list | bool):
            raise ValueError(f"a line without {self.config.user!r}")
        return self._stale(entry) or is_one(user, self.names)

    def _stale(self, entry: object) -> bool:
        model = entry.get(self.config.model) if isinstance(entry, dict) else None
        if not isinstance(model, str) or not model.strip():
            raise ValueError(f"an entry without {self.config.model!r}: nobody can say by which model it was made")
        said = _bare(model)
        return any(said == one or (len(said) >= _SHORT and one.startswith(said)) for one in self.digests)


def _bare(digest: str) -> str:
    return digest.strip().lower().removeprefix("sha256:")


def _is_lines(path: Path) -> bool:
    """JSON Lines have an end of line after their first value, and then another value or nothing.

    A single line is taken for JSON Lines by its name only.
    """
    if path.suffix in (".jsonl", ".ndjson"):
        return True
    with opened(path, _WHAT) as (stream, _):
        first, second = stream.readline(_LINE), stream.readline(_LINE).lstrip()
        return first.lstrip()[:1] == b"{" and first.rstrip()[-1:] == b"}" and second[:1] == b"{"


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    while line := stream.readline(_LINE + 1):
        if len(line) > _LINE:
            raise ValueError(f"a line longer than {_LINE} bytes")
        yield line
