"""The log's SQLite file: schema, durability settings, and SQLite's errors in our words.

WAL with synchronous=FULL: a commit is on disk before it is acknowledged (WAL with NORMAL may lose acknowledged commits
at power loss). `node` holds the hashes of perfect subtrees of two entries and more, so an append writes one on average.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from expunge.core.errors import IntegrityError, StorageError, WorkspaceBusy
from expunge.evidence.merkle import leaf_hash, node_hash

APPLICATION_ID = 0x65787067  # "expg"
SCHEMA_VERSION = 1
SCHEMA = (
    "CREATE TABLE entry(i INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT",
    "CREATE TABLE node(lvl INTEGER NOT NULL, i INTEGER NOT NULL, h BLOB NOT NULL, PRIMARY KEY(lvl, i))"
    " STRICT, WITHOUT ROWID",
    "CREATE TABLE checkpoint(size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT",
)
BUSY_SECONDS = 30.0
_CHUNK = 1000
_QUICK_CHECK_BYTES = 64 << 20
_DISK = {3: "permission", 8: "read-only", 10: "I/O error", 13: "disk full", 14: "cannot open"}
_BUSY = {5, 6}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """sqlite3 errors become StorageError (the disk), WorkspaceBusy (another writer) or IntegrityError (damage)."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except UnicodeDecodeError as error:  # a damaged schema turns up inside sqlite3's own error text
        raise IntegrityError(f"log {path} is damaged", got=str(error)) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 1) & 0xFF
        if code in _BUSY:
            raise WorkspaceBusy(f"another process is writing {path}", hint="wait for it and try again") from error
        if code in _DISK:
            raise StorageError(
                f"log {path} cannot be used: {_DISK[code]}",
                got=str(error),
                hint="check free space and permissions; nothing acknowledged was lost",
            ) from error
        raise IntegrityError(f"log {path} is damaged", got=str(error), hint="restore a copy, then verify it") from error


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """Open or create the file and check that it is an undamaged log. Call inside `translated`."""
    if read_only and not path.is_file():
        raise StorageError(f"no log at {path}", hint="check the path")
    db = _open_to_read(path) if read_only else _open_to_write(path)
    try:
        _check(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _open(path: Path, query: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?{query}"
    db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "synchronous=FULL"):
        db.execute(f"PRAGMA {pragma}")
    return db


def _open_to_read(path: Path) -> sqlite3.Connection:
    """Plain read-only, or immutable on a medium where SQLite cannot keep its shared-memory file."""
    db = _open(path, "mode=ro")
    try:
        db.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        db.close()
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise StorageError(
                f"log {path} has unmerged entries in {wal.name} and its folder is read-only",
                hint="copy both files to a writable folder and verify there",
            ) from None
        db = _open(path, "mode=ro&immutable=1")
    return db


def _open_to_write(path: Path) -> sqlite3.Connection:
    db = _open(path, "mode=rwc")
    try:
        _set_wal(db)
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            _create(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _set_wal(db: sqlite3.Connection) -> None:
    """SQLite does not wait for a busy neighbour here, so we do."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _create(db: sqlite3.Connection, path: Path) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            if db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                raise IntegrityError(f"{path} is another program's database", hint="name another file for the log")
            for statement in SCHEMA:
                db.execute(statement)
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _check(db: sqlite3.Connection, path: Path) -> None:
    ids = tuple(db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if ids != (APPLICATION_ID, SCHEMA_VERSION):
        raise IntegrityError(
            f"{path} is not an expunge log of this version",
            expected=f"{APPLICATION_ID:#x} version {SCHEMA_VERSION}",
            got=f"{ids[0]:#x} version {ids[1]}",
        )
    found = {row[0] for row in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
    if found != set(SCHEMA):
        strange = sorted(found ^ set(SCHEMA))[0]
        raise IntegrityError(f"{path} has another schema than a log", got=strange[:120])
    if path.stat().st_size <= _QUICK_CHECK_BYTES:
        answer = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if answer != "ok":
            raise IntegrityError(f"log {path} is damaged", got=str(answer)[:200])


def size(db: sqlite3.Connection) -> int:
    """Number of entries, if none is missing in between (reading them checks that)."""
    last = db.execute("SELECT max(i) FROM entry").fetchone()[0]
    return 0 if last is None else int(last) + 1


def bodies(db: sqlite3.Connection, start: int) -> Iterator[bytes]:
    """Raw bodies from index `start`, in chunks, so that no cursor stays open. Raises IntegrityError at a gap."""
    expected = start
    while True:
        rows = db.execute("SELECT i, body FROM entry WHERE i >= ? ORDER BY i LIMIT ?", (expected, _CHUNK)).fetchall()
        for index, body in rows:
            if index != expected:
                raise IntegrityError(f"log entry {expected} is missing", got=f"entry {index} comes next")
            yield body
            expected += 1
        if len(rows) < _CHUNK:
            return


def insert(db: sqlite3.Connection, first: int, raw: Sequence[bytes]) -> None:
    """Entries `first`, first + 1, … and the subtree hashes they complete. Call inside a transaction."""
    nodes: list[tuple[int, int, bytes]] = []
    edge: dict[int, bytes] = {}
    for offset, body in enumerate(raw):
        index, level, carried = first + offset, 0, leaf_hash(body)
        while index & 1:
            left = edge.pop(level, None) or node(db, level, index - 1)
            carried, index, level = node_hash(left, carried), index >> 1, level + 1
            nodes.append((level, index, carried))
        edge[level] = carried
    db.executemany("INSERT INTO entry(i, body) VALUES (?, ?)", ((first + k, body) for k, body in enumerate(raw)))
    db.executemany("INSERT INTO node(lvl, i, h) VALUES (?, ?, ?)", nodes)


def node(db: sqlite3.Connection, level: int, index: int) -> bytes:
    """Hash of a perfect subtree: from the entry itself at level 0, as stored above. Raises IntegrityError."""
    table = "SELECT body FROM entry WHERE i = ?" if level == 0 else "SELECT h FROM node WHERE i = ? AND lvl = ?"
    row = db.execute(table, (index,) if level == 0 else (index, level)).fetchone()
    if row is None or not isinstance(row[0], bytes):
        raise IntegrityError(f"subtree hash ({level}, {index}) of the log is missing", hint="run `expunge log verify`")
    return leaf_hash(row[0]) if level == 0 else row[0]
