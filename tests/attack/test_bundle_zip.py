"""Zips made by an enemy: each must be refused without writing, looping or unpacking."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.story import Story
from expunge.core.errors import EvidenceError, InputError, InputProblems, StorageError
from expunge.evidence import bundle as module
from expunge.evidence.bundle import file_digests, read_bundle, write_bundle, zip_bytes

FILES = dict.fromkeys(
    ("certificate.json", "log.json", "checkpoint.txt", "plan.json", "findings.json", "absence.json"), b"{}"
)


def packed(*extra: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip that would be fine but for `extra`."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in (*FILES.items(), *extra):
            archive.writestr(name, data)
    return target.getvalue()


def test_the_control_is_read() -> None:
    assert dict(read_bundle(zip_bytes(FILES)).files) == FILES
    assert dict(read_bundle(packed(compression=zipfile.ZIP_DEFLATED)).files) == FILES


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "../../report.html",
        "/etc/passwd",
        "figures/../report.html",
        "figures/../../x.svg",
        "figures\\x.svg",
        "C:\\report.html",
        "figures/",
        "figures/x.svg/y.svg",
        "figures/X.svg",
        "figures/.svg",
        "report.html/",
        "unknown.bin",
        "VERIFY.PY",
        "report.html ",
    ],
)
def test_zip_slip(name: str, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError):
        read_bundle(packed((name, b"x")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_symlink_directory_pipe_and_device(kind: int) -> None:
    info = zipfile.ZipInfo("report.html")
    info.external_attr = (kind | 0o777) << 16
    with pytest.raises(EvidenceError, match="not a certificate bundle"):
        read_bundle(packed((info, b"/etc/passwd")))


def test_the_same_name_twice() -> None:
    with pytest.warns(UserWarning, match="Duplicate"), pytest.raises(EvidenceError) as caught:
        read_bundle(packed(("report.html", b"a"), ("report.html", b"b")))
    assert "comes twice" in str(caught.value.got)


def test_name_with_a_hidden_end() -> None:
    data = packed(("report.htmlX.exe", b"x")).replace(b"report.htmlX.exe", b"report.html\x00.exe")
    with pytest.raises(EvidenceError):
        read_bundle(data)


def test_zip_bomb() -> None:
    bomb = packed(("report.html", b"\x00" * (20 << 20)), compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 1 << 20
    with pytest.raises(EvidenceError) as caught:
        read_bundle(bomb)
    assert "too many bytes" in str(caught.value.got)


def test_bomb_that_lies_about_its_size() -> None:
    bomb = bytearray(packed(("report.html", b"\x00" * (1 << 20)), compression=zipfile.ZIP_DEFLATED))
    size = struct.pack("<I", 1 << 20)
    at = bomb.rfind(size)
    while at != -1:
        bomb[at : at + 4] = struct.pack("<I", 100)
        at = bomb.rfind(size)
    with pytest.raises(EvidenceError):
        read_bundle(bytes(bomb))


def test_too_many_files() -> None:
    figures = [(f"figures/f{number}.svg", b"x") for number in range(module.MAX_FILES)]
    with pytest.raises(EvidenceError, match="too many files"):
        read_bundle(packed(*figures))


def test_too_large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(zip_bytes(FILES))
    read_bundle(path)
    monkeypatch.setattr(module, "MAX_ARCHIVE_BYTES", 100)
    with pytest.raises(EvidenceError, match="too large"):
        read_bundle(path)


def test_encrypted_member() -> None:
    data = bytearray(packed(("report.html", b"x")))
    at = data.rfind(b"PK\x01\x02")
    data[at + 8] |= 1
    with pytest.raises(EvidenceError):
        read_bundle(bytes(data))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression(compression: int) -> None:
    with pytest.raises(EvidenceError):
        read_bundle(packed(compression=compression))


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip" * 100, b"PK\x05\x06" + b"\x00" * 18])
def test_no_zip_at_all(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        read_bundle(data)


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 5000), byte=st.integers(0, 255), cut=st.integers(0, 5000))
def test_fuzzed_zips_are_read_or_refused_and_never_crash(position: int, byte: int, cut: int) -> None:
    data = bytearray(zip_bytes(FILES))
    data[position % len(data)] = byte
    if cut % 3 == 0:
        data = data[: cut % len(data)]
    try:
        files = read_bundle(bytes(data)).files
    except EvidenceError:
        return
    assert set(files) == set(FILES)


def test_missing_path_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        read_bundle(tmp_path / "none.zip")


def test_writer_refuses_what_no_reader_would_accept(tmp_path: Path) -> None:
    story = Story(tmp_path / "s")
    story.tell()
    with story.open_log() as log:
        entries = list(log.entries())
        good = {
            "envelope": story.envelope,
            "entries": entries,
            "proofs": [log.prove_inclusion(e.index) for e in entries],
            "checkpoint": story.checkpoint,
            "files": story.files(),
        }
        mixed = [*good["proofs"][:-1], log.prove_inclusion(0, 3)]
    out = tmp_path / "out.zip"
    files = story.files()
    for change in (
        {"files": {**files, "report.html": b"another report"}},
        {"files": {**files, "figures/new.svg": b"x"}},
        {"files": {**files, "../x": b"x"}},
        {"files": {name: data for name, data in files.items() if name != "plan.json"}},
        {"proofs": good["proofs"][:-1]},
        {"proofs": mixed},
        {"entries": []},
    ):
        with pytest.raises(InputProblems):
            write_bundle(out, **{**good, **({"proofs": []} if change.get("entries") == [] else {}), **change})
        assert not out.exists()
    with pytest.raises(InputError, match="expunge itself"):
        file_digests({"verify.py": b""})
    write_bundle(out, **good)
    assert read_bundle(out).files
