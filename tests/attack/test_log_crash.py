"""Killed writers, cut write-ahead logs, full and read-only disks: what was acknowledged is there afterwards."""

from __future__ import annotations

import os
import random
import resource
import select
import shutil
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from expunge.core.errors import StorageError, WorkspaceBusy
from expunge.evidence import log_store
from expunge.evidence.log import AuditLog
from expunge.evidence.signers.file import FileSigner

ORIGIN = "log.example"


def child(work: Callable[[int], None]) -> tuple[int, int]:
    """Run `work(write end)` in a forked process; returns its id and the read end of its pipe."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    try:
        os.close(reader)
        work(writer)
    finally:
        os._exit(0)


def write_for_ever(path: Path, name: int) -> Callable[[int], None]:
    def work(pipe: int) -> None:
        rng = random.Random(name)
        with AuditLog(path, origin=ORIGIN) as log:
            count = 0
            while True:
                events = [("k", {"by": name, "n": count + k}, None) for k in range(rng.choice((1, 1, 3)))]
                for entry in log.append_many(events):
                    os.write(pipe, struct.pack("<QII", entry.index, name, entry.payload["n"]))
                count += len(events)

    return work


def drain(pipe: int) -> bytes:
    parts = []
    while part := os.read(pipe, 1 << 16):
        parts.append(part)
    os.close(pipe)
    return b"".join(parts)


def test_sigkill_of_forty_writers_loses_no_acknowledged_entry(tmp_path: Path) -> None:
    path, rng = tmp_path / "log.db", random.Random(1)
    AuditLog(path, origin=ORIGIN).close()
    acknowledged: dict[int, tuple[int, int]] = {}
    sizes: list[tuple[int, bytes]] = []
    for round_ in range(11):
        writers = [child(write_for_ever(path, round_ * 4 + k)) for k in range(4)]
        for _, pipe in writers:
            select.select([pipe], [], [], 0.15)  # SQLite's lock is not fair: one of the four may still be waiting
        time.sleep(rng.uniform(0, 0.06))
        for pid, _ in writers:
            os.kill(pid, signal.SIGKILL)
        for pid, pipe in writers:
            os.waitpid(pid, 0)
            data = drain(pipe)
            for index, name, n in struct.iter_unpack("<QII", data[: len(data) // 16 * 16]):
                assert index not in acknowledged, "one index given to two entries"
                acknowledged[index] = (name, n)
        with AuditLog(path, origin=ORIGIN) as log:
            sizes.append((log.size, log.root()))
    with AuditLog(path, origin=ORIGIN) as log:
        assert log.verify().ok
        stored = {entry.index: (entry.payload["by"], entry.payload["n"]) for entry in log.entries()}
        assert {index: stored.get(index) for index in acknowledged} == acknowledged
        assert [log.root(size) for size, _ in sizes] == [root for _, root in sizes]
    assert len(acknowledged) > 44


def test_write_ahead_log_cut_at_every_third_of_a_frame_yields_a_committed_prefix(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    AuditLog(path, origin=ORIGIN).close()
    roots = []
    with AuditLog(path, origin=ORIGIN) as log:
        for n in range(24):
            roots.append(log.root())
            log.append("k", {"n": n})
        roots.append(log.root())
        main, wal = path.read_bytes(), (tmp_path / "log.db-wal").read_bytes()
    frame = 4096 + 24
    cuts = sorted({32 + frame * k + frame * third // 3 for k in range((len(wal) - 32) // frame) for third in (0, 1, 2)})
    seen = set()
    for number, cut in enumerate([*cuts, len(wal)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "log.db").write_bytes(main)
        (folder / "log.db-wal").write_bytes(wal[:cut])
        with AuditLog(folder / "log.db", origin=ORIGIN) as log:
            assert log.root() == roots[log.size]
            assert [entry.payload["n"] for entry in log.entries()] == list(range(log.size))
            if number % 5 == 0:
                assert log.verify().ok
            seen.add(log.size)
        shutil.rmtree(folder)
    assert seen == set(range(25))


def test_full_disk_is_a_storage_error_and_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "log.db"

    def work(pipe: int) -> None:
        with AuditLog(path, origin=ORIGIN) as log:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
            answer = b"never full"
            for n in range(10_000):
                try:
                    log.append("k", {"n": n, "fill": "x" * 500})
                except StorageError as error:
                    answer = b"storage:" + (error.hint or "").encode()
                    break
                os.write(pipe, struct.pack("<Q", n))
            os.write(pipe, b"\xff" * 8 + answer)

    pid, pipe = child(work)
    data = drain(pipe)
    os.waitpid(pid, 0)
    acknowledged, _, answer = data.partition(b"\xff" * 8)
    assert answer.startswith(b"storage:")
    count = len(acknowledged) // 8
    assert count > 20
    with AuditLog(path, origin=ORIGIN) as log:
        assert log.size == count
        assert log.verify().ok
        assert log.append("after", {}).index == count


def test_append_after_a_failed_append_goes_on_at_the_right_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AuditLog(tmp_path / "log.db", origin=ORIGIN) as log:
        log.append("a", {})

        def broken(*_: object) -> None:
            raise StorageError("pulled the plug")

        with monkeypatch.context() as patch:
            patch.setattr(log_store, "insert", broken)
            with pytest.raises(StorageError):
                log.append("b", {})
        assert log.append("c", {}).index == 1
        assert log.verify().ok


def test_places_that_cannot_hold_a_log_are_storage_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "log.db", tmp_path / "missing" / "log.db", tmp_path, Path("/proc/log.db")):
        with pytest.raises(StorageError):
            AuditLog(place, origin=ORIGIN)


@pytest.mark.parametrize("closed", ["file", "directory"])
def test_read_only_place_is_a_storage_error_and_unchanged(tmp_path: Path, closed: str) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    path = folder / "log.db"
    with AuditLog(path, signer=FileSigner.create(tmp_path / "k.pem"), origin=ORIGIN) as log:
        log.append("k", {})

    def work(pipe: int) -> None:
        if os.geteuid() == 0:  # root writes where it likes; nobody does not
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            with AuditLog(path, origin=ORIGIN) as log:
                log.append("k", {})
        except StorageError:
            os.write(pipe, b"storage")

    before = path.read_bytes()
    for level in (tmp_path, *tmp_path.parents[:2]):
        level.chmod(level.stat().st_mode | 0o055)
    path.chmod(0o444 if closed == "file" else 0o666)
    folder.chmod(0o777 if closed == "file" else 0o555)
    pid, pipe = child(work)
    answer = drain(pipe)
    os.waitpid(pid, 0)
    folder.chmod(0o700)
    assert answer == b"storage"
    assert path.read_bytes() == before


def test_two_processes_append_and_every_entry_gets_its_own_index(tmp_path: Path) -> None:
    path = tmp_path / "log.db"

    def work(name: int) -> Callable[[int], None]:
        def inner(pipe: int) -> None:
            with AuditLog(path, origin=ORIGIN) as log:
                for n in range(40):
                    log.append("k", {"by": name, "n": n})
            os.write(pipe, b"done")

        return inner

    workers = [child(work(name)) for name in (1, 2, 3)]
    answers = [drain(pipe) for _, pipe in workers]
    for pid, _ in workers:
        os.waitpid(pid, 0)
    assert answers == [b"done"] * 3
    with AuditLog(path, origin=ORIGIN) as log:
        assert log.size == 120
        assert log.verify().ok
        for name in (1, 2, 3):
            assert [e.payload["n"] for e in log.entries() if e.payload["by"] == name] == list(range(40))


def test_a_writer_that_holds_the_file_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_store, "BUSY_SECONDS", 0.05)
    with AuditLog(tmp_path / "log.db", origin=ORIGIN) as first, AuditLog(tmp_path / "log.db", origin=ORIGIN) as second:
        with first._transaction(), pytest.raises(WorkspaceBusy):
            second.append("k", {})
        second.append("k", {})
        assert first.size == 1
