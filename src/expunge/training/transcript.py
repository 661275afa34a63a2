"""The transcript: one line a step and one an epoch, hash-chained, so that what was trained on can be audited later.

A step line commits to the ordered keyed leaves of the records that were present; an epoch line carries the loader
receipt (the Merkle root of what was actually read) and the digest of the checkpoint that the next epoch starts from.
No record id, pixel or loss is written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge.core.codec import canonical, decode, loads
from expunge.core.errors import InputError, IntegrityError
from expunge.core.plan import Numerics
from expunge.evidence.merkle import leaf_hash, root_of

Line = Mapping[str, Any]
GENESIS = "0" * 64


def order_commitment(leaves: Sequence[str]) -> str:
    """Hex SHA-256 over the ordered id leaves of a step."""
    digest = hashlib.sha256(b"expunge/order/v1|")
    for leaf in leaves:
        digest.update(bytes.fromhex(leaf))
    return digest.hexdigest()


def receipt_root(content_leaves: Iterable[str]) -> str:
    """Merkle root over the sorted content leaves of what an epoch read."""
    return "sha256:" + root_of([leaf_hash(bytes.fromhex(leaf)) for leaf in sorted(content_leaves)]).hex()


def link(previous: str, line: Line) -> str:
    """The chain value after a line: SHA-256 of the previous value and the line's canonical bytes."""
    return hashlib.sha256(bytes.fromhex(previous) + canonical(dict(line))).hexdigest()


class Transcript:
    """Appends to a transcript file. `head` is the chain value so far; `count` the number of lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head = GENESIS
        self.count = 0

    def append(self, line: Line) -> None:
        """Write one line with its chain value."""
        self.head = link(self.head, line)
        with self.path.open("ab") as file:
            file.write(canonical({**line, "chain": self.head}) + b"\n")
        self.count += 1

    def extend(self, lines: Sequence[Line]) -> None:
        """Write many lines and force them to disk."""
        with self.path.open("ab") as file:
            for line in lines:
                self.head = link(self.head, line)
                file.write(canonical({**line, "chain": self.head}) + b"\n")
                self.count += 1
            file.flush()
            os.fsync(file.fileno())

    def rewind(self, count: int) -> None:
        """Keep the first `count` lines (a killed process may have written more than its last checkpoint knew)."""
        lines = read_transcript(self.path) if self.path.exists() else []
        if len(lines) < count:
            raise IntegrityError(
                "the transcript is shorter than its checkpoint", expected=str(count), got=str(len(lines))
            )
        self.head = str(lines[count - 1]["chain"]) if count else GENESIS
        self.count = count
        temporary = self.path.with_suffix(".tmp")
        temporary.write_bytes(b"".join(canonical(dict(line)) + b"\n" for line in lines[:count]))
        os.replace(temporary, self.path)


def read_transcript(path: Path) -> list[dict[str, Any]]:
    """All lines, chain checked; IntegrityError names the first line that does not fit. A torn last line is dropped."""
    lines: list[dict[str, Any]] = []
    head = GENESIS
    raw = path.read_bytes().split(b"\n")
    for number, text in enumerate(raw[:-1]):
        try:
            line = loads(text, what=f"{path.name} line {number}")
        except InputError as error:
            raise IntegrityError(f"{path.name} line {number} does not parse") from error
        head = link(head, {key: value for key, value in line.items() if key != "chain"})
        if line.get("chain") != head:
            raise IntegrityError(
                f"{path.name} line {number} breaks the chain", expected=head, got=str(line.get("chain"))
            )
        lines.append(line)
    return lines


def recorded_numerics(path: Path) -> set[Numerics]:
    """Numerics of every part of a transcript (one a shard); a run continued under others would be neither run."""
    return {decode(Numerics, line["numerics"]) for line in read_transcript(path) if line["kind"] == "start"}


def transcript_digest(path: Path) -> str:
    """`sha256:` of the last chain value, which commits to every line."""
    lines = read_transcript(path)
    if not lines:
        raise IntegrityError(f"{path.name} is empty")
    return "sha256:" + hashlib.sha256(json.dumps([len(lines), lines[-1]["chain"]]).encode()).hexdigest()
