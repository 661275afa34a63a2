"""The append-only log: SQLite in WAL mode with synchronous=FULL, an RFC 9162 tree over its entries, signed checkpoints.

An entry's body is canonical JSON {"v", "time", "kind", "case", "payload"}; its index is its position and is the only
order there is, because clocks go back. Payloads hold commitments and digests, never names: the log outlives erasure.
The `node` table only makes proofs fast. Nothing is believed because it stands there: `verify` and `checkpoint`
recompute from the bodies. An older copy of the file is self-consistent; only a checkpoint kept elsewhere finds it,
which is what `verify(against=...)` is for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from expunge.core.codec import timestamp
from expunge.core.errors import InputError, IntegrityError
from expunge.core.protocols import Signer
from expunge.evidence import log_store as store
from expunge.evidence.keys import Root, TrustRoots
from expunge.evidence.log_entry import Entry, body_bytes, make_body, parse_body
from expunge.evidence.log_report import LogReport, examine
from expunge.evidence.merkle import (
    EMPTY_ROOT,
    ConsistencyProof,
    Frontier,
    InclusionProof,
    ProofError,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    range_root,
)
from expunge.evidence.note import Checkpoint, check_name, parse_checkpoint, sign_note


class AuditLog:
    """One log file. Any number of processes may append; each append is durable when it returns.

    Raises StorageError when the disk refuses, WorkspaceBusy when another writer holds the file for over 30 s, and
    IntegrityError when the file is not the log it should be.
    """

    def __init__(self, path: Path | str, *, signer: Signer | None = None, origin: str, read_only: bool = False) -> None:
        self.path = Path(path)
        self.origin = check_name(origin)
        self._signer = signer
        self._read_only = read_only
        self._frontier = Frontier()
        self._signed: Checkpoint | None = None
        with store.translated(self.path):
            self._db = store.connect(self.path, read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back. Entries are durable already."""
        self._db.close()

    # ------------------------------------------------------------------------------------------------------ writing

    def append(
        self, kind: str, payload: Mapping[str, Any], *, case: str | None = None, now: datetime | None = None
    ) -> Entry:
        """Log one event and return it once it is on disk. `now` is only for tests and imports."""
        return self.append_many([(kind, payload, case)], now=now)[0]

    def append_many(
        self, events: Iterable[tuple[str, Mapping[str, Any], str | None]], *, now: datetime | None = None
    ) -> list[Entry]:
        """Log (kind, payload, case) events in one transaction: all of them or none."""
        self._writable()
        moment = timestamp(now or datetime.now(UTC))
        bodies = [make_body(kind, payload, case, moment) for kind, payload, case in events]
        raw = [body_bytes(body) for body in bodies]
        with self._transaction() as db:
            first = store.size(db)
            store.insert(db, first, raw)
        return [Entry(index=first + offset, body=body) for offset, body in enumerate(bodies)]

    def checkpoint(self) -> str:
        """Sign the log as it stands, store the note and return it. Keep a copy where the log's owner cannot reach.

        The root is recomputed from the bodies, and a log that no longer extends its own last checkpoint is not signed.
        """
        self._writable()
        if self._signer is None:
            raise InputError("this log was opened without a signer", hint="AuditLog(path, signer=..., origin=...)")
        with self._transaction() as db:
            self._catch_up(db)
            checkpoint = Checkpoint(origin=self.origin, size=self._frontier.size, root=self._frontier.root())
            note = sign_note(checkpoint.text, name=self.origin, signer=self._signer)
            db.execute("INSERT OR REPLACE INTO checkpoint(size, note) VALUES (?, ?)", (checkpoint.size, note))
        self._signed = checkpoint
        return note

    def _catch_up(self, db: sqlite3.Connection) -> None:
        """Bring the frontier to the newest entry, from bodies only, passing through the last checkpoint on the way."""
        last = self._signed or self._last_signed(db)
        if last is not None and last.size > store.size(db):
            raise self._lost(last)
        for body in store.bodies(db, self._frontier.size):
            self._passes(last)
            self._frontier.append(leaf_hash(body))
        self._passes(last)

    def _passes(self, last: Checkpoint | None) -> None:
        if last is not None and last.size == self._frontier.size and last.root != self._frontier.root():
            raise self._lost(last)

    def _lost(self, last: Checkpoint) -> IntegrityError:
        return IntegrityError(
            f"{self.path} no longer extends its own checkpoint of size {last.size}; it will not be signed",
            expected=last.root.hex(),
            hint="run `expunge log verify` and restore the file from before the damage",
        )

    def _last_signed(self, db: sqlite3.Connection) -> Checkpoint | None:
        row = db.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        if row is None:
            return None
        text, blank, _ = str(row[0]).rpartition("\n\n")
        if not blank:
            raise IntegrityError(f"{self.path} holds a checkpoint that is no note", got=str(row[0])[:80])
        return parse_checkpoint(text + "\n")

    # ------------------------------------------------------------------------------------------------------ reading

    @property
    def size(self) -> int:
        """Number of entries."""
        with store.translated(self.path):
            return store.size(self._db)

    def entry(self, index: int) -> Entry:
        """One entry. Raises InputError when there is none, IntegrityError when it is damaged."""
        with store.translated(self.path):
            row = self._db.execute("SELECT body FROM entry WHERE i = ?", (index,)).fetchone()
        if row is None:
            raise InputError("no such log entry", expected=f"an index below {self.size}", got=str(index))
        return Entry(index=index, body=parse_body(row[0], index))

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Entries in order, from `start`. Raises IntegrityError at the first damaged one."""
        with store.translated(self.path):
            for offset, raw in enumerate(store.bodies(self._db, start)):
                yield Entry(index=start + offset, body=parse_body(raw, start + offset))

    def case(self, handle: str) -> list[Entry]:
        """All entries of one case, in order."""
        return [entry for entry in self.entries() if entry.body["case"] == handle]

    def last_checkpoint(self) -> str | None:
        """The newest stored note. It lies beside the log, so it proves nothing about the log's owner."""
        with store.translated(self.path):
            row = self._db.execute("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
        return None if row is None else str(row[0])

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` entries from stored subtree hashes; fast, and checked by whoever gets a proof."""
        size = self.size if size is None else size
        with store.translated(self.path):
            return range_root(0, size, self._node) if size else EMPTY_ROOT

    def prove_inclusion(self, index: int, size: int | None = None) -> InclusionProof:
        """Proof that entry `index` is in the first `size` entries. It is checked before it is handed out."""
        size = self._size_within(size)
        with store.translated(self.path):
            hashes = [range_root(low, high, self._node) for low, high in inclusion_ranges(index, size)]
        proof = InclusionProof(index=index, size=size, path=tuple(item.hex() for item in hashes))
        self._own(lambda: proof.verify(self.entry(index).leaf, self.root(size)))
        return proof

    def prove_consistency(self, old: int, new: int | None = None) -> ConsistencyProof:
        """Proof that the first `old` entries are unchanged in the first `new`, checked before it is handed out."""
        new = self._size_within(new)
        with store.translated(self.path):
            hashes = [range_root(low, high, self._node) for low, high in consistency_ranges(old, new)]
        proof = ConsistencyProof(old=old, new=new, root=self.root(old).hex(), path=tuple(item.hex() for item in hashes))
        self._own(lambda: proof.verify(self.root(old), self.root(new)))
        return proof

    def verify(self, against: str | None = None, *, roots: TrustRoots | None = None) -> LogReport:
        """Recompute everything from the bodies. With `against`, a checkpoint kept elsewhere, find rollback and fork.

        Without `roots` the log's own signer is trusted, which only tells damage from health, never an owner's forgery.
        """
        keys = roots.role("log") if roots is not None else self._own_roots()
        return examine(self._db, origin=self.origin, keys=keys, against=against)

    # ------------------------------------------------------------------------------------------------------- inside

    def _own_roots(self) -> tuple[Root, ...]:
        return () if self._signer is None else (Root.of(self._signer, name=self.origin, role="log"),)

    def _own(self, check: Any) -> None:
        try:
            check()
        except ProofError as error:
            raise IntegrityError(
                f"{self.path}: stored subtree hashes do not match the entries",
                expected=error.claimed,
                got=error.computed,
                hint="run `expunge log verify`",
            ) from error

    def _size_within(self, size: int | None) -> int:
        available = self.size
        if size is not None and not 0 <= size <= available:
            raise InputError("the log is not that long", expected=f"at most {available}", got=str(size))
        return available if size is None else size

    def _node(self, level: int, index: int) -> bytes:
        return store.node(self._db, level, index)

    def _writable(self) -> None:
        if self._read_only:
            raise InputError(f"{self.path} was opened read-only")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time; what the block did is on disk when this returns, or nothing of it is."""
        with store.translated(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                self._frontier, self._signed = Frontier(), None
                raise


__all__ = ["AuditLog", "Entry", "LogReport"]
