"""CIFAR-10's archive: every attack on a reader of archives is refused; the download, without a network."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import pooch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_bytes import (
    ROWS,
    archive_of,
    by_python2,
    content,
    honest,
    member,
)
from expunge.core.errors import DataError
from expunge.data import cifar10
from expunge.data._python_batches import FOLDER
from expunge.data.cifar10 import Cifar10

# Attacks on the archive.


def archive_refused(place: Path, match: str | None = None) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match):
            Cifar10(path=str(place)).open()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


FOREIGN = {
    "traversal": member(f"{FOLDER}/../../evil", b"x"),
    "absolute": member("/etc/passwd", b"x"),
    "traversal to a batch": member(f"../{FOLDER}/test_batch", b"x"),
    "symbolic link": member(f"{FOLDER}/test_batch", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": member(f"{FOLDER}/test_batch", type=tarfile.LNKTYPE, linkname=f"{FOLDER}/readme.html"),
    "fifo": member(f"{FOLDER}/test_batch", type=tarfile.FIFOTYPE),
    "device": member(f"{FOLDER}/test_batch", type=tarfile.CHRTYPE),
    "folder named as a batch": member(f"{FOLDER}/test_batch", type=tarfile.DIRTYPE),
    "file named as the folder": member(FOLDER, b"x"),
    "extra file": member(f"{FOLDER}/evil.py", b"x"),
    "escape sequence": member("\x1b[2J", b"x"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_attack_archive_with_foreign_member(tmp_path: Path, name: str) -> None:
    archive_refused(archive_of(tmp_path / "a.tar.gz", [FOREIGN[name], *honest()]))
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar.gz"]


def test_attack_archive_with_a_batch_twice(tmp_path: Path) -> None:
    twice = [*honest(), member(f"{FOLDER}/test_batch", by_python2(content(9)))]
    archive_refused(archive_of(tmp_path / "a.tar.gz", twice), "'test_batch' twice")


def test_archive_lacks_a_batch(tmp_path: Path) -> None:
    archive_refused(archive_of(tmp_path / "a.tar.gz", honest()[:-1]), "lacks data_batch_1")


def zipped(place: Path, raw: bytes) -> Path:
    place.write_bytes(gzip.compress(raw, 1))
    return place


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, **fields: Any) -> bytes:
    return member(name, type=kind, **fields)[0].tobuf(tarfile.GNU_FORMAT) if size == 0 else sized(name, size, kind)


def sized(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("size", [65 << 20, 1 << 40, 1 << 62])
@pytest.mark.parametrize("name", ["test_batch", "readme.html"])
def test_attack_archive_bomb_by_size(tmp_path: Path, size: int, name: str) -> None:
    """Refused on the header, before anything of the member is decompressed."""
    bomb = zipped(tmp_path / "a.tar.gz", header(f"{FOLDER}/{name}", size) + bytes(1 << 20))
    archive_refused(bomb, "too large")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("size", [1 << 20, 1 << 40])
def test_attack_archive_bomb_by_extended_header(tmp_path: Path, kind: bytes, size: int) -> None:
    """tarfile reads an extended header whole, whatever its size."""
    archive_refused(zipped(tmp_path / "a.tar.gz", header("x", size, kind) + bytes(1 << 20)), "oversized headers")


def test_attack_archive_with_chained_headers(tmp_path: Path) -> None:
    """tarfile goes one call deeper per extended header."""
    chain = (header("x", 1, tarfile.GNUTYPE_LONGNAME) + bytes(512)) * 2000
    archive_refused(zipped(tmp_path / "a.tar.gz", chain))


def test_attack_archive_with_an_endless_sparse_map(tmp_path: Path) -> None:
    """The map of an old sparse member goes on as long as a flag says so."""
    head = bytearray(sized(f"{FOLDER}/test_batch", 1, tarfile.GNUTYPE_SPARSE))
    head[482] = 1
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    more = (b"00000000001\0" * 42).ljust(504, b"\0") + b"\1" + bytes(7)
    archive_refused(zipped(tmp_path / "a.tar.gz", bytes(head) + more * 20_000), "oversized headers")


def test_attack_archive_with_a_sparse_member(tmp_path: Path) -> None:
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    info, _ = member(f"{FOLDER}/test_batch", b"1\n0\n1\n".ljust(512, b"\0"), pax_headers=sparse)
    archive_refused(zipped(tmp_path / "a.tar.gz", info.tobuf(tarfile.PAX_FORMAT) + b"1\n0\n1\n".ljust(512, b"\0")))


def test_attack_archive_with_negative_size(tmp_path: Path) -> None:
    """A negative size sends tarfile back to the header it has just read, for ever."""
    for name, kind in ((f"{FOLDER}/test_batch", tarfile.REGTYPE), ("x", tarfile.GNUTYPE_LONGNAME)):
        archive_refused(zipped(tmp_path / "a.tar.gz", sized(name, -1024, kind) + bytes(4096)))


def test_attack_archive_truncated(tmp_path: Path) -> None:
    whole = archive_of(tmp_path / "a.tar.gz", honest()).read_bytes()
    for end in (0, 5, 20, 1000, len(whole) // 2, int(len(whole) * 0.9)):
        (tmp_path / "a.tar.gz").write_bytes(whole[:end])
        archive_refused(tmp_path / "a.tar.gz")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x1f\x8b", b"not an archive", gzip.compress(b"not a tar" * 999, mtime=0)],
    ids=["empty", "magic only", "text", "gzip of no tar"],
)
def test_archive_is_none(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(raw)
    archive_refused(tmp_path / "a.tar.gz")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_attack_archive_with_any_header(tmp_path_factory: pytest.TempPathFactory, changes: Any, valid: bool) -> None:
    """Whatever a header says: a DataError and never another exception."""
    head = bytearray(sized(f"{FOLDER}/test_batch", 600, tarfile.REGTYPE))
    for place, value in changes:
        head[place] = value
    if valid:
        head[148:156] = b" " * 8
        head[148:156] = b"%06o\0 " % sum(head)
    place = tmp_path_factory.getbasetemp() / "any-header.tar.gz"
    with pytest.raises(DataError):
        Cifar10(path=str(zipped(place, bytes(head) + b"7" * 2048))).open()


# The download, without a network.


class Server:
    """In place of pooch.HTTPDownloader: writes what it was given, and tells the progress as pooch does."""

    answer: bytes | Exception = b""
    calls = 0

    def __init__(self, progressbar: Any, chunk_size: int) -> None:
        self.bar = progressbar

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        Server.calls += 1
        assert url == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
        if isinstance(self.answer, Exception):
            raise self.answer
        Path(output_file).write_bytes(self.answer)
        self.bar.total = len(self.answer)
        for part in (len(self.answer) // 2, 3, 10**9):
            self.bar.update(part)
        self.bar.reset()
        self.bar.update(self.bar.total)
        self.bar.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Server]:
    monkeypatch.setattr(pooch, "HTTPDownloader", Server)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(Server, "calls", 0)
    return Server


def test_download_is_checked_read_and_kept(
    server: type[Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = archive_of(tmp_path / "origin.tar.gz", honest()).read_bytes()
    monkeypatch.setattr(server, "answer", raw)
    monkeypatch.setattr(cifar10, "SHA256", hashlib.sha256(raw).hexdigest())
    dataset = Cifar10().open()
    assert (dataset.note, len(dataset.train)) == ("CIFAR-10", 5 * ROWS)
    assert Cifar10().open().train.ids == dataset.train.ids
    assert server.calls == 1
    assert (tmp_path / "expunge" / "cifar-10-python.tar.gz").read_bytes() == raw
    shown = capsys.readouterr()
    assert "50 % of" in shown.err
    assert shown.err.count("100 %") == 1
    assert shown.out == ""


def test_attack_download_with_the_wrong_checksum(
    server: type[Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A perfectly readable archive, but not the original one."""
    monkeypatch.setattr(server, "answer", archive_of(tmp_path / "origin.tar.gz", honest()).read_bytes())
    with pytest.raises(DataError, match="cannot be downloaded") as caught:
        Cifar10().open()
    assert "hash" in str(caught.value.got)
    assert list((tmp_path / "expunge").iterdir()) == []


def test_download_without_network(server: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    for error in (requests.exceptions.ConnectionError("no route"), TimeoutError("slow"), OSError("disk full")):
        monkeypatch.setattr(server, "answer", error)
        with pytest.raises(DataError) as caught:
            Cifar10().open()
        assert "--data FOLDER" in str(caught.value.hint)


def test_download_shows_tqdm_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bars = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(pooch, "HTTPDownloader", lambda progressbar, chunk_size: bars.append(progressbar))
    monkeypatch.setattr(pooch, "retrieve", lambda **_: str(archive_of(tmp_path / "a.tar.gz", honest())))
    Cifar10().open()
    assert bars == [True]


def test_importing_the_source_opens_no_connection() -> None:
    code = "import sys, expunge.data.cifar10; assert not {'pooch', 'requests', 'tqdm'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
