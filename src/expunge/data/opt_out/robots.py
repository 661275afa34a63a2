"""robots.txt after RFC 9309, with the Content-Usage lines of draft-ietf-aipref-attach.

The standard library's parser takes the first rule that matches and knows no wildcards; RFC 9309 (section 2.2.2) takes the
longest, and has `*` and `$`. The two differ on real files, so this is read here. A file may come from anybody: it is
bounded, every pattern is matched in time linear in path times pattern, and a line that is no rule is passed over as the
RFC says, except a Content-Usage line that cannot be read, which is kept as such.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from expunge.core.errors import DataError
from expunge.data.opt_out.content_usage import read_preference
from expunge.data.opt_out.signals import Protocol, Says, Signal, digest_of_bytes

LARGEST = 512 << 10
"""Bytes; section 2.5 asks parsers for at least 500 KiB. Beyond it a file is refused: half of one says nothing."""
_MOST_RULES = 20_000
_LONGEST_PATH = 8192
_TRIPLET = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9\-._~]")
_TOKEN = re.compile(r"[A-Za-z_-]+")
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class _Group:
    """Agents and their rules: (pattern, allowed) and (pattern, what the preference says)."""

    agents: list[str] = field(default_factory=list)
    rules: list[tuple[str, bool]] = field(default_factory=list)
    usage: list[tuple[str, Says]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Robots:
    """A robots.txt as it was read. Agents are product tokens in lower case."""

    groups: tuple[_Group, ...]
    digest: str

    def allows(self, agent: str, path: str) -> bool:
        """RFC 9309 sections 2.2.1 and 2.2.2: the agent's groups together, `*` if there is none; the longest rule, and
        Allow where two are equally long."""
        rules = [rule for group in self._of(agent) for rule in group.rules]
        return _longest(rules, _normal(path), default=True, tie=any)

    def usage(self, agent: str, path: str) -> Says:
        """draft-ietf-aipref-attach section 3.1: the longest Content-Usage rule of a path that may be crawled; of equally long
        ones the most restrictive."""
        if not self.allows(agent, path):
            return Says.SILENT
        usage = [rule for group in self._of(agent) for rule in group.usage]
        return _longest(usage, _normal(path), default=Says.SILENT, tie=_strictest)

    def _of(self, agent: str) -> Sequence[_Group]:
        wanted = agent.lower()
        named = [group for group in self.groups if wanted in group.agents]
        return named or [group for group in self.groups if "*" in group.agents]


def parse_robots(data: bytes) -> Robots:
    """A robots.txt from its bytes. Raises DataError on one beyond 512 KiB or 20,000 rules, or with NUL bytes: then it is
    no robots.txt, and nobody should act as if it had said nothing."""
    if len(data) > LARGEST:
        raise DataError(
            "a robots.txt of this size is not read", expected=f"at most {LARGEST} bytes", got=str(len(data))
        )
    if b"\0" in data:
        raise DataError("a robots.txt with NUL bytes is not text")
    groups: list[_Group] = []
    agents_open, count = False, 0
    for line in _lines(data):
        key, value = line
        if key == "user-agent":
            if not agents_open:
                groups.append(_Group())
            groups[-1].agents.append(_product(value))
            agents_open = True
        elif key in ("allow", "disallow", "content-usage"):
            agents_open = False
            count += 1
            if groups:
                _add(groups[-1], key, value)
        if count > _MOST_RULES:
            raise DataError("a robots.txt of so many rules is not read", expected=f"at most {_MOST_RULES}")
    return Robots(groups=tuple(groups), digest=digest_of_bytes(data))


def robots_signals(
    data: bytes, agents: Iterable[str], path: str, *, where: str, read: datetime
) -> tuple[Signal, Signal]:
    """What a robots.txt says of one path to any of these agents (the crawler's own token, and those by which sites address
    training): whether it may be fetched, and the usage preference. A file that cannot be read says so."""
    tokens = tuple(agents) or ("*",)
    try:
        robots = parse_robots(data)
    except DataError:
        fetch = usage = Says.UNREADABLE
        digest = digest_of_bytes(data[:LARGEST])
    else:
        digest = robots.digest
        fetch = Says.SILENT if all(robots.allows(agent, path) for agent in tokens) else Says.RESERVED
        usage = _strictest([robots.usage(agent, path) for agent in tokens])
    return (
        Signal(protocol=Protocol.ROBOTS, says=fetch, where=where, read=read, digest=digest),
        Signal(protocol=Protocol.AIPREF, says=usage, where=where, read=read, digest=digest),
    )


def _lines(data: bytes) -> Iterable[tuple[str, str]]:
    """(key in lower case, value) of every line that has a colon; comments gone, a byte order mark too."""
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    for line in re.split(r"\r\n|\r|\n", text):
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()


def _product(value: str) -> str:
    """The product token in lower case; a version or a comment behind it is not part of it."""
    found = _TOKEN.match(value)
    return "*" if value.startswith("*") else found.group().lower() if found else ""


def _add(group: _Group, key: str, value: str) -> None:
    if key == "content-usage":
        path, *rest = value.split(maxsplit=1) if value.startswith("/") else ("/", value)
        group.usage.append((_normal(path), read_preference(rest[0] if rest else "")))
    elif value:  # an empty pattern matches nothing
        group.rules.append((_normal(value), key == "allow"))


def _longest(rules: Sequence[tuple[str, T]], path: str, *, default: T, tie: Callable[[list[T]], T]) -> T:
    matching = [(len(pattern), said) for pattern, said in rules if matches(pattern, path)]
    if not matching:
        return default
    most = max(length for length, _ in matching)
    return tie([said for length, said in matching if length == most])


def _strictest(said: Iterable[Says]) -> Says:
    found = set(said)
    order = (Says.RESERVED, Says.UNREADABLE, Says.PERMITTED)
    return next((answer for answer in order if answer in found), Says.SILENT)


def matches(pattern: str, path: str) -> bool:
    """RFC 9309 section 2.2.3: a prefix in which `*` is anything and a `$` at the end is the end. No regular expression, so
    that no pattern can make it slow: `*` goes back to the last star only."""
    anchored = pattern.endswith("$")
    body = pattern.removesuffix("$")
    if not anchored:
        body += "*"
    at = inside = 0
    star, mark = -1, 0
    while at < len(path):
        if inside < len(body) and body[inside] == "*":
            star, mark = inside, at
            inside += 1
        elif inside < len(body) and body[inside] == path[at]:
            inside += 1
            at += 1
        elif star >= 0:
            mark += 1
            at, inside = mark, star + 1
        else:
            return False
    return set(body[inside:]) <= {"*"}


def _normal(path: str) -> str:
    """Section 2.2.2: unreserved characters as they are, everything that is not ASCII percent-encoded, hex in capitals."""

    def decoded(found: re.Match[str]) -> str:
        letter = chr(int(found.group(1), 16))
        return letter if _UNRESERVED.match(letter) else found.group().upper()

    if len(path) > _LONGEST_PATH:
        raise DataError("a path of this length is not read", expected=f"at most {_LONGEST_PATH} characters")
    plain = "".join(c if c.isascii() else "".join(f"%{b:02X}" for b in c.encode("utf-8", "replace")) for c in path)
    return _TRIPLET.sub(decoded, plain)
