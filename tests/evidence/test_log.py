"""The log against a plain list: appends, proofs, checkpoints, clocks, and what must be refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from expunge.core.codec import canonical
from expunge.core.errors import InputError, IntegrityError, StorageError
from expunge.evidence.keys import Root, TrustRoots
from expunge.evidence.log import AuditLog
from expunge.evidence.log_entry import body_bytes, make_body
from expunge.evidence.merkle import leaf_hash, root_of
from expunge.evidence.note import open_checkpoint
from expunge.evidence.signers.file import FileSigner

ORIGIN = "log.example"


@pytest.fixture
def signer(tmp_path: Path) -> FileSigner:
    return FileSigner.create(tmp_path / "log.pem")


@pytest.fixture
def roots(signer: FileSigner) -> TrustRoots:
    return TrustRoots(keys=(Root.of(signer, name="log", role="log"),))


@pytest.fixture
def log(tmp_path: Path, signer: FileSigner) -> AuditLog:
    return AuditLog(tmp_path / "log.db", signer=signer, origin=ORIGIN)


def test_append_returns_what_a_reader_finds(log: AuditLog) -> None:
    first = log.append("a", {"x": 1})
    second = log.append("b", {"y": 0.5}, case="handle")
    assert (first.index, second.index, log.size) == (0, 1, 2)
    assert list(log.entries()) == [first, second]
    assert log.entry(1) == second
    assert (second.kind, second.case, second.payload) == ("b", "handle", {"y": "0.5"})
    assert log.case("handle") == [second]
    assert list(log.entries(start=1)) == [second]
    with pytest.raises(InputError, match="no such log entry"):
        log.entry(2)


def test_root_is_the_tree_over_the_bodies(log: AuditLog) -> None:
    for n in range(20):
        log.append_many([("k", {"n": n, "m": m}, None) for m in range(n % 4)])
        twin = root_of([leaf_hash(canonical(entry.body)) for entry in log.entries()])
        assert log.root() == twin
    sizes = range(log.size + 1)
    leaves = [entry.leaf for entry in log.entries()]
    assert [log.root(size) for size in sizes] == [root_of(leaves[:size]) for size in sizes]


def test_every_proof_checks_against_the_signed_checkpoint(log: AuditLog, roots: TrustRoots) -> None:
    log.append_many([("k", {"n": n}, None) for n in range(13)])
    old = open_checkpoint(log.checkpoint(), roots)
    log.append_many([("k", {"n": n}, None) for n in range(8)])
    new = open_checkpoint(log.checkpoint(), roots)
    assert (old.size, new.size) == (13, 21)
    for index in range(21):
        log.prove_inclusion(index).verify(log.entry(index).leaf, new.root)
    for index in range(13):
        log.prove_inclusion(index, 13).verify(log.entry(index).leaf, old.root)
    log.prove_consistency(13).verify(old.root, new.root)
    with pytest.raises(InputError, match="not that long"):
        log.prove_inclusion(0, 22)


def test_a_healthy_log_verifies(log: AuditLog, roots: TrustRoots) -> None:
    for n in range(5):
        log.append("k", {"n": n})
        note = log.checkpoint()
    report = log.verify(note, roots=roots)
    assert report.ok
    assert (report.size, report.checkpoints, report.against) == (5, 5, 5)
    assert report.root == log.root().hex()
    assert report.notes == ()


def test_without_an_outside_checkpoint_the_report_says_what_it_cannot_see(log: AuditLog) -> None:
    assert any("older copy" in note for note in log.verify().notes)


def test_empty_log_verifies_and_signs(log: AuditLog, roots: TrustRoots) -> None:
    assert log.verify(log.checkpoint(), roots=roots).ok
    assert log.last_checkpoint() == log.checkpoint()


def test_clock_going_back_is_noted_and_order_stays_by_index(log: AuditLog) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    log.append("first", {}, now=noon)
    log.append("second", {}, now=noon - timedelta(hours=1))
    log.append("third", {}, now=noon)
    report = log.verify()
    assert report.ok
    assert [entry.kind for entry in log.entries()] == ["first", "second", "third"]
    assert sum("clock went back at entry 1" in note for note in report.notes) == 1


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("", {}),
        ("k", {"x": float("nan")}),
        ("k", {"x": 2**60}),
        ("k", {"x": object()}),
        ("k", {"x": "\ud800"}),
        ("k", []),
    ],
)
def test_what_cannot_be_logged_leaves_the_log_as_it_was(log: AuditLog, kind: str, payload: dict) -> None:
    log.append("before", {})
    with pytest.raises(InputError):
        log.append(kind, payload)
    with pytest.raises(InputError):
        log.append_many([("fine", {}, None), (kind, payload, None)])
    assert [entry.kind for entry in log.entries()] == ["before"]
    assert log.verify().ok


def test_naive_time_is_refused(log: AuditLog) -> None:
    with pytest.raises(InputError, match="zone"):
        log.append("k", {}, now=datetime(2026, 1, 1))


def test_read_only_log_reads_verifies_and_does_not_write(tmp_path: Path, log: AuditLog, roots: TrustRoots) -> None:
    log.append("k", {})
    note = log.checkpoint()
    with AuditLog(tmp_path / "log.db", origin=ORIGIN, read_only=True) as reader:
        assert reader.verify(note, roots=roots).ok
        log.append("later", {})
        assert reader.size == 2
        for write in (lambda: reader.append("k", {}), reader.checkpoint):
            with pytest.raises(InputError, match="read-only"):
                write()


def test_missing_log_is_not_created_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no log"):
        AuditLog(tmp_path / "none.db", origin=ORIGIN, read_only=True)
    assert not (tmp_path / "none.db").exists()


def test_checkpoint_needs_a_signer(tmp_path: Path) -> None:
    with AuditLog(tmp_path / "log.db", origin=ORIGIN) as log, pytest.raises(InputError, match="without a signer"):
        log.checkpoint()


def test_checkpoints_without_a_trusted_key_are_a_problem(tmp_path: Path, log: AuditLog) -> None:
    log.append("k", {})
    log.checkpoint()
    with AuditLog(tmp_path / "log.db", origin=ORIGIN, read_only=True) as reader:
        assert not reader.verify().ok
        assert not reader.verify(roots=TrustRoots(keys=())).ok


def test_reading_from_a_read_only_directory(tmp_path: Path, signer: FileSigner, roots: TrustRoots) -> None:
    folder = tmp_path / "medium"
    folder.mkdir()
    with AuditLog(folder / "log.db", signer=signer, origin=ORIGIN) as log:
        log.append("k", {})
        note = log.checkpoint()
    folder.chmod(0o500)
    try:
        with AuditLog(folder / "log.db", origin=ORIGIN, read_only=True) as reader:
            assert reader.verify(note, roots=roots).ok
    finally:
        folder.chmod(0o700)


def test_another_programs_database_is_refused_and_untouched(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE precious(x)")
    theirs.close()
    before = path.read_bytes()
    with pytest.raises(IntegrityError, match="another program"):
        AuditLog(path, origin=ORIGIN)
    with sqlite3.connect(path) as theirs:
        assert theirs.execute("SELECT name FROM sqlite_schema").fetchall() == [("precious",)]
    theirs.close()
    assert len(path.read_bytes()) == len(before)


@pytest.mark.parametrize(
    "content", [b"not a database, just a long line of text " * 40, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_garbage_is_refused_as_damage(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log.db").write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(IntegrityError):
            AuditLog(tmp_path / "log.db", origin=ORIGIN, read_only=read_only)
    assert (tmp_path / "log.db").read_bytes() == content


def test_truncated_database_is_refused_as_damage(tmp_path: Path, signer: FileSigner) -> None:
    path = tmp_path / "log.db"
    with AuditLog(path, signer=signer, origin=ORIGIN) as log:
        log.append_many([("k", {"n": "x" * 500}, None) for _ in range(200)])
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(IntegrityError):
        AuditLog(path, signer=signer, origin=ORIGIN)


def test_origin_must_be_a_name(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        AuditLog(tmp_path / "log.db", origin="two words")


def test_copy_of_a_closed_log_is_one_file(tmp_path: Path, log: AuditLog, roots: TrustRoots) -> None:
    log.append("k", {})
    note = log.checkpoint()
    log.close()
    shutil.copy(tmp_path / "log.db", tmp_path / "copy.db")
    with AuditLog(tmp_path / "copy.db", origin=ORIGIN, read_only=True) as copy:
        assert copy.verify(note, roots=roots).ok


class LogMachine(RuleBasedStateMachine):
    """Two handles on one file against a list."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        signer = FileSigner.create(self.folder / "k.pem")
        self.roots = TrustRoots(keys=(Root.of(signer, name="log", role="log"),))
        self.logs = [AuditLog(self.folder / "log.db", signer=signer, origin=ORIGIN) for _ in range(2)]
        self.model: list[dict] = []
        self.notes: list[str] = []

    @rule(which=st.integers(0, 1), values=st.lists(st.text(max_size=5), max_size=5))
    def append_many(self, which: int, values: list[str]) -> None:
        self.logs[which].append_many([("k", {"v": value}, None) for value in values])
        self.model += [{"v": value} for value in values]

    @rule(which=st.integers(0, 1))
    def checkpoint(self, which: int) -> None:
        self.notes.append(self.logs[which].checkpoint())

    @rule(which=st.integers(0, 1))
    def consistent_with_every_promise(self, which: int) -> None:
        for note in self.notes[-3:]:
            assert self.logs[which].verify(note, roots=self.roots).ok

    @invariant()
    def same_as_the_list(self) -> None:
        for log in self.logs:
            assert [dict(entry.payload) for entry in log.entries()] == self.model

    def teardown(self) -> None:
        for log in self.logs:
            log.close()
        shutil.rmtree(self.folder)


LogMachine.TestCase.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
TestLogMachine = LogMachine.TestCase


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs",)), max_size=6) | st.sampled_from(["\U0001f600", "\ufb33"]),
        st.integers(-(2**53) + 1, 2**53 - 1)
        | st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
        | st.floats(0, 1),
        max_size=5,
    )
)
def test_quick_bytes_of_a_body_equal_the_canonical_ones(payload: dict) -> None:
    body = make_body("k", payload, None, datetime(2026, 1, 1, tzinfo=UTC))
    assert body_bytes(body) == canonical(body) == rfc8785.dumps(body)


@pytest.mark.parametrize("number", [2**53, -(2**53), 10**16, 10**400])
@pytest.mark.parametrize("shape", [lambda n: n, lambda n: [n], lambda n: [1, n], lambda n: {"k": n}])
def test_integers_that_no_json_carries_do_not_slip_through_the_quick_way(number: int, shape: Callable) -> None:
    with pytest.raises(InputError):
        body_bytes(make_body("k", {"x": shape(number)}, None, datetime(2026, 1, 1, tzinfo=UTC)))
