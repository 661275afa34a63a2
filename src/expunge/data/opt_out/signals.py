"""What a source said about training, as it was read: one record a training row, kept beside the data.

Nothing here goes to the network: whoever fetched the row hands over the bytes that were served with it, and the time.
Silence is not permission and not a reservation; a statement that cannot be read counts as one, until a person has looked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.errors import DataError, InputError
from expunge.evidence.durable import storage_errors, write_file

MOST_SIGNALS = 32  # of one row
LARGEST_LINE = 64 << 10
LARGEST_FILE = 1 << 30
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class Protocol(StrEnum):
    """How it was said. Several may speak about one row; one reservation is enough."""

    ROBOTS = "robots.txt"
    """RFC 9309: may this crawler fetch the path?"""
    AIPREF = "Content-Usage"
    """draft-ietf-aipref-attach and -vocab: a header, or a line of robots.txt."""
    TDMREP = "TDMRep"
    """W3C community report of 10 May 2024: a header, or /.well-known/tdmrep.json."""
    CAWG = "training-mining assertion"
    """CAWG training and data mining assertion 1.x, and the C2PA assertion before it."""
    HASH_LIST = "hash list"
    """A list of digests of works, kept locally."""


class Says(StrEnum):
    """What it amounts to for training."""

    RESERVED = "reserved"
    PERMITTED = "permitted"
    SILENT = "silent"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One statement. `where` is the address or list it was read from, `read` when (aware), `digest` the hex SHA-256 of the
    bytes that were read."""

    protocol: Protocol
    says: Says
    where: str
    read: datetime
    digest: str

    def __post_init__(self) -> None:
        if self.read.tzinfo is None:
            raise InputError("a signal was read at a time with a zone", got=self.read.isoformat())
        if not self.where or len(self.where) > 2048:
            raise InputError("where a signal was read", expected="1..2048 characters", got=str(len(self.where)))
        if not _DIGEST.match(self.digest):
            raise InputError("the digest of what was read", expected="64 hex digits", got=self.digest[:80])


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """All statements about one training row. `crawled` is when the row itself was fetched, None where nobody knows."""

    record: str
    crawled: datetime | None
    signals: tuple[Signal, ...]

    def __post_init__(self) -> None:
        if len(self.signals) > MOST_SIGNALS:
            raise InputError("too many signals for one row", expected=f"at most {MOST_SIGNALS}")
        if self.crawled is not None and self.crawled.tzinfo is None:
            raise InputError("a row was fetched at a time with a zone", got=self.crawled.isoformat())

    @property
    def says(self) -> Says:
        """The strictest of all: reserved, unreadable, permitted, silent."""
        said = {signal.says for signal in self.signals}
        order = (Says.RESERVED, Says.UNREADABLE, Says.PERMITTED)
        return next((answer for answer in order if answer in said), Says.SILENT)

    def reserved_at_crawl(self) -> bool | None:
        """Was training reserved when the row was fetched? None where the time is not known, or what was said then cannot be
        read. A reservation that was read later is enforced in the next training, and is no reproach to the last."""
        if self.crawled is None:
            return None
        said = {signal.says for signal in self.signals if signal.read <= self.crawled}
        if Says.RESERVED in said:
            return True
        return None if not said or Says.UNREADABLE in said else False


def digest_of_bytes(data: bytes) -> str:
    """Hex SHA-256 of what was read."""
    return hashlib.sha256(data).hexdigest()


def write_signals(path: Path, rows: Iterable[Signals]) -> int:
    """One canonical JSON line a row, 0600, whole or not at all; returns how many."""
    lines = [canonical(encode(row)) for row in rows]
    write_file(path, b"".join(line + b"\n" for line in lines), mode=0o600)
    return len(lines)


def read_signals(path: Path) -> Mapping[str, Signals]:
    """record -> its signals. Raises DataError on a line that is none, and on a record that comes twice."""
    found: dict[str, Signals] = {}
    with storage_errors(path, "read"):
        if path.stat().st_size > LARGEST_FILE:
            raise DataError("a file of signals is too large", expected=f"at most {LARGEST_FILE} bytes")
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(LARGEST_LINE + 1), b""), 1):
                if len(line) > LARGEST_LINE:
                    raise DataError(f"line {number} of the signals is too long", expected=f"at most {LARGEST_LINE}")
                row = decode(Signals, loads(line, what=f"line {number} of the signals"))
                if row.record in found:
                    raise DataError(f"line {number} of the signals: a record comes twice", got=row.record[:80])
                found[row.record] = row
    return found
