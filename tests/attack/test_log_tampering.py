"""What an owner, a disk or an intruder may do to the log file, each by name."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from expunge.core.codec import canonical, loads
from expunge.core.errors import EvidenceError, IntegrityError
from expunge.evidence.keys import Root, TrustRoots
from expunge.evidence.log import AuditLog
from expunge.evidence.merkle import Tree, leaf_hash
from expunge.evidence.signers.file import FileSigner

ORIGIN = "log.example"


@pytest.fixture
def signer(tmp_path: Path) -> FileSigner:
    return FileSigner.create(tmp_path / "log.pem")


@pytest.fixture
def roots(signer: FileSigner) -> TrustRoots:
    return TrustRoots(keys=(Root.of(signer, name="log", role="log"),))


@pytest.fixture
def written(tmp_path: Path, signer: FileSigner) -> Path:
    """A closed log of 11 entries with checkpoints at 7 and 11."""
    path = tmp_path / "log.db"
    with AuditLog(path, signer=signer, origin=ORIGIN) as log:
        log.append_many([("k", {"n": n}, None) for n in range(7)])
        log.checkpoint()
        log.append_many([("k", {"n": n}, None) for n in range(7, 11)])
        log.checkpoint()
    return path


def problems(path: Path, roots: TrustRoots, against: str | None = None) -> list[str]:
    with AuditLog(path, origin=ORIGIN, read_only=True) as log:
        return list(log.verify(against, roots=roots).problems)


def edit(path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    db = sqlite3.connect(path)
    with db:
        for sql, values in statements:
            db.execute(sql, values)
    db.close()


def flipped(value: object) -> object:
    """One bit of a stored value."""
    if isinstance(value, int):
        return value ^ 64
    if isinstance(value, bytes):
        return value[:-3] + bytes([value[-3] ^ 1]) + value[-2:]
    assert isinstance(value, str)
    return value[:15] + chr(ord(value[15]) ^ 1) + value[16:]


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("entry", "i"),
        ("entry", "body"),
        ("node", "lvl"),
        ("node", "i"),
        ("node", "h"),
        ("checkpoint", "size"),
        ("checkpoint", "note"),
    ],
)
def test_bit_flip_in_every_column_is_found(written: Path, roots: TrustRoots, table: str, column: str) -> None:
    assert problems(written, roots) == []
    db = sqlite3.connect(written)
    rows = db.execute(f"SELECT {column}, * FROM {table}").fetchall()
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    db.close()
    pristine = written.read_bytes()
    where = " AND ".join(f"{name} = ?" for name in names)
    for value, *row in rows:
        edit(written, (f"UPDATE {table} SET {column} = ? WHERE {where}", (flipped(value), *row)))
        assert problems(written, roots), f"{table}.{column} of {row!r} changed unseen"
        written.write_bytes(pristine)
    assert problems(written, roots) == []


def test_bit_flips_anywhere_in_the_file_never_change_an_accepted_log(written: Path, roots: TrustRoots) -> None:
    pristine = written.read_bytes()
    with AuditLog(written, origin=ORIGIN, read_only=True) as log:
        honest = list(log.entries())
    rng, found = random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(pristine)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        written.write_bytes(damaged)
        try:
            with AuditLog(written, origin=ORIGIN, read_only=True) as log:
                if log.verify(roots=roots).ok:
                    assert list(log.entries()) == honest
                else:
                    found += 1
        except EvidenceError:
            found += 1
    assert found > 5


def test_rollback_to_older_database_is_found_with_outside_checkpoint(
    tmp_path: Path, signer: FileSigner, roots: TrustRoots
) -> None:
    path = tmp_path / "log.db"
    with AuditLog(path, signer=signer, origin=ORIGIN) as log:
        log.append("request.received", {})
        log.checkpoint()
    shutil.copy(path, tmp_path / "old.db")
    with AuditLog(path, signer=signer, origin=ORIGIN) as log:
        log.append("incident.opened", {})
        kept = log.checkpoint()
    shutil.copy(tmp_path / "old.db", path)
    assert problems(path, roots) == []  # the attack: without a witness the old file is perfect
    assert any("ROLLBACK" in problem for problem in problems(path, roots, kept))


def test_fork_of_the_log_is_found_with_outside_checkpoint(
    tmp_path: Path, signer: FileSigner, roots: TrustRoots
) -> None:
    notes = {}
    for side in ("told the requester", "told the court"):
        path = tmp_path / f"{side}.db"
        with AuditLog(path, signer=signer, origin=ORIGIN) as log:
            log.append("decision.made", {"accepted": side == "told the court"})
            log.append("more", {})
            notes[side] = log.checkpoint()
        assert problems(path, roots, notes[side]) == []
    found = problems(tmp_path / "told the court.db", roots, notes["told the requester"])
    assert any("FORK" in problem for problem in found)


def rewrite(path: Path, index: int, signer: FileSigner | None) -> None:
    """What a careful intruder does: change an entry, then every hash above it and, with the key, the checkpoint."""
    db = sqlite3.connect(path)
    body = loads(db.execute("SELECT body FROM entry WHERE i = ?", (index,)).fetchone()[0])
    body["payload"] = {"n": 999}
    with db:
        db.execute("UPDATE entry SET body = ? WHERE i = ?", (canonical(body), index))
        tree = Tree([leaf_hash(raw) for (raw,) in db.execute("SELECT body FROM entry ORDER BY i")])
        for level, place in db.execute("SELECT lvl, i FROM node").fetchall():
            db.execute("UPDATE node SET h = ? WHERE lvl = ? AND i = ?", (tree.node(level, place), level, place))
        if signer is not None:
            db.execute("DELETE FROM checkpoint")
    db.close()
    if signer is not None:
        with AuditLog(path, signer=signer, origin=ORIGIN) as log:
            log.checkpoint()


def test_rewritten_entry_with_all_hashes_repaired_is_found_by_its_checkpoint(written: Path, roots: TrustRoots) -> None:
    rewrite(written, 3, signer=None)
    assert any("FORK" in problem for problem in problems(written, roots))


def test_owner_who_rewrites_and_signs_again_is_found_only_with_an_outside_checkpoint(
    written: Path, signer: FileSigner, roots: TrustRoots
) -> None:
    with AuditLog(written, origin=ORIGIN, read_only=True) as log:
        kept = log.last_checkpoint()
    rewrite(written, 3, signer)
    assert problems(written, roots) == []
    assert any("FORK" in problem for problem in problems(written, roots, kept))


def test_a_rewritten_log_is_not_signed_again_by_accident(written: Path, signer: FileSigner) -> None:
    rewrite(written, 3, signer=None)
    with AuditLog(written, signer=signer, origin=ORIGIN) as log:
        log.append("k", {})
        with pytest.raises(IntegrityError, match="no longer extends"):
            log.checkpoint()


def test_entries_cut_off_the_end_are_found_by_the_stored_checkpoint(written: Path, roots: TrustRoots) -> None:
    edit(written, ("DELETE FROM entry WHERE i >= 9", ()), ("DELETE FROM node WHERE (i + 1) << lvl > 9", ()))
    assert any("ROLLBACK" in problem for problem in problems(written, roots))


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entry WHERE i = 4",
        "DELETE FROM node WHERE lvl = 1 AND i = 2",
        "INSERT INTO node VALUES (1, 40, x'00')",
        "INSERT INTO node VALUES (-1, 0, x'00')",
        "INSERT INTO node VALUES (9, 0, x'00')",
        "UPDATE entry SET body = x'ff00' WHERE i = 10",
        "UPDATE entry SET body = CAST('{\"a\": 1}' AS BLOB) WHERE i = 10",
        "INSERT INTO entry VALUES (-5, x'00')",
        "INSERT INTO entry VALUES (11, x'00')",
        "INSERT INTO checkpoint VALUES (3, 'not a note')",
    ],
)
def test_rows_removed_or_smuggled_in_are_found(written: Path, roots: TrustRoots, statement: str) -> None:
    edit(written, (statement, ()))
    assert problems(written, roots)


def test_proofs_from_wrong_stored_hashes_are_not_handed_out(written: Path, signer: FileSigner) -> None:
    edit(written, ("UPDATE node SET h = zeroblob(32) WHERE lvl = 1 AND i = 0", ()))
    with AuditLog(written, signer=signer, origin=ORIGIN) as log, pytest.raises(IntegrityError, match="subtree"):
        log.prove_inclusion(2)


def test_checkpoint_of_another_log_is_not_a_witness(
    tmp_path: Path, written: Path, signer: FileSigner, roots: TrustRoots
) -> None:
    with AuditLog(tmp_path / "other.db", signer=signer, origin="other.example") as log:
        foreign = log.checkpoint()
    assert any("another log" in problem for problem in problems(written, roots, foreign))


def test_forged_outside_checkpoint_is_not_a_witness(tmp_path: Path, written: Path, roots: TrustRoots) -> None:
    stranger = FileSigner.create(tmp_path / "stranger.pem")
    with AuditLog(tmp_path / "other.db", signer=stranger, origin=ORIGIN) as log:
        forged = log.checkpoint()
    assert any("no trusted key" in problem for problem in problems(written, roots, forged))


def _drop(db: sqlite3.Connection) -> None:
    db.execute("DROP TABLE node")


def _trigger(db: sqlite3.Connection) -> None:
    db.execute("CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM entry WHERE i = new.i - 1; END")


def _version(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA user_version = 7")


@pytest.mark.parametrize("change", [_drop, _trigger, _version])
def test_changed_schema_is_refused_at_opening(written: Path, change: Callable[[sqlite3.Connection], None]) -> None:
    db = sqlite3.connect(written)
    with db:
        change(db)
    db.close()
    with pytest.raises(IntegrityError):
        AuditLog(written, origin=ORIGIN)
