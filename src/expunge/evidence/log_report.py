"""Recompute a log from its bodies and say everything that is wrong with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from expunge.core.errors import EvidenceError
from expunge.evidence.keys import Root
from expunge.evidence.log_entry import read_body
from expunge.evidence.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash, node_hash, range_root
from expunge.evidence.note import Checkpoint, open_checkpoint

_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """What a verification found. `problems` make it not ok; `notes` do not (a clock that went back, no witness).

    `root` is hex, recomputed; `checkpoints` counts stored notes whose signature and root hold.
    """

    size: int
    root: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    checkpoints: int
    against: int | None

    @property
    def ok(self) -> bool:
        """No problem was found."""
        return not self.problems


@dataclass(slots=True)
class _Examination:
    """Levels of recomputed hashes, packed: 32 bytes a node, so a million entries take 64 MB."""

    levels: list[bytearray] = field(default_factory=lambda: [bytearray()])
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    good: int = 0
    hidden: int = 0

    @property
    def size(self) -> int:
        return len(self.levels[0]) // HASH_BYTES

    def problem(self, text: str) -> None:
        if len(self.problems) < _SHOWN:
            self.problems.append(text)
        else:
            self.hidden += 1

    def node(self, level: int, index: int) -> bytes:
        return bytes(self.levels[level][index * HASH_BYTES : (index + 1) * HASH_BYTES])

    def root(self, size: int) -> bytes:
        return range_root(0, size, self.node) if size else EMPTY_ROOT


def examine(db: sqlite3.Connection, *, origin: str, keys: Sequence[Root], against: str | None) -> LogReport:
    """Everything at once, inside one read transaction, so that writers may go on."""
    work = _Examination()
    try:
        db.execute("BEGIN")
        _examine_all(db, work, origin, keys)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        work.problem(f"the file is damaged: {error}")
    finally:
        if db.in_transaction:
            db.execute("COMMIT")
    outside = _examine_against(work, origin, keys, against)
    if work.hidden:
        work.problems.append(f"and {work.hidden} more problems")
    return LogReport(
        size=work.size,
        root=work.root(work.size).hex() if not _incomplete(work) else "",
        problems=tuple(work.problems),
        notes=tuple(work.notes),
        checkpoints=work.good,
        against=outside,
    )


def _examine_all(db: sqlite3.Connection, work: _Examination, origin: str, keys: Sequence[Root]) -> None:
    for (answer,) in db.execute("PRAGMA integrity_check(10)").fetchall():
        if answer != "ok":
            work.problem(f"the file is damaged: {answer}")
    _examine_entries(db, work)
    _build(work)
    _examine_nodes(db, work)
    _examine_checkpoints(db, work, origin, keys)


def _incomplete(work: _Examination) -> bool:
    return work.size > 1 and len(work.levels) == 1


def _examine_entries(db: sqlite3.Connection, work: _Examination) -> None:
    expected, before, leaves = 0, "", work.levels[0]
    for index, raw in db.execute("SELECT i, body FROM entry ORDER BY i"):
        if index != expected:
            work.problem(f"entry {expected} is missing: entry {index} comes next")
            expected = index
        expected += 1
        body, problem = read_body(raw)
        leaves += leaf_hash(raw if isinstance(raw, bytes) else b"")
        if body is None:
            work.problem(f"entry {index}: {problem}")
            continue
        if body["time"] < before:
            work.notes.append(f"the clock went back at entry {index}: {body['time']} after {before}")
        before = body["time"]


def _build(work: _Examination) -> None:
    while len(work.levels[-1]) >= 2 * HASH_BYTES:
        below = bytes(work.levels[-1])
        step = 2 * HASH_BYTES
        work.levels.append(
            bytearray(
                b"".join(
                    node_hash(below[at : at + HASH_BYTES], below[at + HASH_BYTES : at + step])
                    for at in range(0, len(below) - step + 1, step)
                )
            )
        )


def _examine_nodes(db: sqlite3.Connection, work: _Examination) -> None:
    seen = [0] * len(work.levels)
    for level, index, stored in db.execute("SELECT lvl, i, h FROM node ORDER BY lvl, i"):
        known = 0 < level < len(work.levels) and 0 <= index < len(work.levels[level]) // HASH_BYTES
        if not known:
            work.problem(f"subtree hash ({level}, {index}) belongs to no entries")
            continue
        seen[level] += 1
        if stored != work.node(level, index):
            work.problem(f"subtree hash ({level}, {index}) does not match the entries below it")
    for level in range(1, len(work.levels)):
        missing = len(work.levels[level]) // HASH_BYTES - seen[level]
        if missing:
            work.problem(f"{missing} subtree hashes of level {level} are missing")


def _examine_checkpoints(db: sqlite3.Connection, work: _Examination, origin: str, keys: Sequence[Root]) -> None:
    for size, note in db.execute("SELECT size, note FROM checkpoint ORDER BY size").fetchall():
        try:
            checkpoint = open_checkpoint(str(note), keys)
        except EvidenceError as error:
            work.problem(f"checkpoint of size {size}: {error.message}")
            continue
        if checkpoint.size != size:
            work.problem(f"checkpoint of size {size} speaks of size {checkpoint.size}")
        problem = _disagreement(work, origin, checkpoint)
        if problem:
            work.problem(f"checkpoint of size {size}: {problem}")
        work.good += problem is None and checkpoint.size == size


def _examine_against(work: _Examination, origin: str, keys: Sequence[Root], against: str | None) -> int | None:
    if against is None:
        work.notes.append("no outside checkpoint was given: going back to an older copy of the log would not be seen")
        return None
    try:
        checkpoint = open_checkpoint(against, keys)
    except EvidenceError as error:
        work.problem(f"outside checkpoint: {error.message}")
        return None
    problem = _disagreement(work, origin, checkpoint)
    if problem:
        work.problem(f"outside checkpoint of size {checkpoint.size}: {problem}")
    return checkpoint.size


def _disagreement(work: _Examination, origin: str, checkpoint: Checkpoint) -> str | None:
    if checkpoint.origin != origin:
        return f"it is of another log, {checkpoint.origin!r}"
    if checkpoint.size > work.size:
        return f"ROLLBACK: the log has {work.size} entries, {checkpoint.size} were promised"
    if _incomplete(work):
        return "the tree could not be recomputed"
    if work.root(checkpoint.size) != checkpoint.root:
        return "FORK: the entries it promised are not these"
    return None
