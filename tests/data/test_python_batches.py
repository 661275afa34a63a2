"""Python batches of CIFAR-10: every writer's bytes are read; every attack on a reader of pickles is refused."""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar10_bytes import (
    FILES,
    PROTOCOLS,
    ROWS,
    archive_of,
    by_python2,
    content,
    folder_of,
    honest,
    member,
    plainly,
    with_bytes,
)
from expunge.core.errors import DataError
from expunge.data import _python_batches
from expunge.data._python_batches import FOLDER, PIXELS, read_batch
from expunge.data.cifar10 import Cifar10

# What is read.


def same(read: bytes, batch: dict[str, Any]) -> None:
    found = read_batch(read, "data_batch_1")
    assert found.pixels.dtype == np.uint8
    np.testing.assert_array_equal(found.pixels, batch["data"])
    assert found.labels == tuple(batch["labels"])
    assert found.names == tuple(batch["filenames"])


def test_python2_bytes_are_what_pickle_reads() -> None:
    """The hand-written stream is a true pickle, or the next test would prove nothing."""
    batch = content(0)
    found = pickle.loads(by_python2(batch), encoding="bytes")
    np.testing.assert_array_equal(found[b"data"], batch["data"])
    assert found[b"labels"] == batch["labels"]


def test_batch_written_by_python2() -> None:
    same(by_python2(content(0)), content(0))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("keys", [dict, with_bytes])
def test_batch_written_by_python3(protocol: int, keys: Callable[[dict[str, Any]], Any]) -> None:
    same(pickle.dumps(keys(content(1)), protocol), content(1))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_batch_written_by_python3_without_the_c_pickler(protocol: int) -> None:
    stream = io.BytesIO()
    pickle._Pickler(stream, protocol).dump(with_bytes(content(1)))  # type: ignore[attr-defined]
    same(stream.getvalue(), content(1))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_batch_written_by_numpy_1(protocol: int) -> None:
    written = pickle.dumps(content(1), protocol)
    for module in ("multiarray", "numeric"):
        new, old = f"numpy._core.{module}".encode(), f"numpy.core.{module}".encode()
        written = written.replace(b"\x8c" + bytes([len(new)]) + new, b"\x8c" + bytes([len(old)]) + old)
        written = written.replace(b"c" + new, b"c" + old)
    assert b"numpy._core" not in written
    same(written, content(1))


def test_a_read_only_array_in_protocol_5() -> None:
    batch = content(1)
    batch["data"].flags.writeable = False
    same(pickle.dumps(batch, 5), batch)


def test_python2_long_labels() -> None:
    written = by_python2(content(0)).replace(b"]q\x05(K\x00", b"]q\x05(\x8a\x01\x00")
    assert read_batch(written, "x").labels == tuple(content(0)["labels"])


def test_a_full_batch_fits_the_limits() -> None:
    """10,000 images by the most wordy writer, Python 3 in protocol 2, stay within opcodes and bytes."""
    batch = content(3, 10_000) | {"data": np.full((10_000, PIXELS), 200, np.uint8)}
    written = pickle.dumps(with_bytes(batch), 2)
    assert len(written) < _python_batches.LIMIT
    assert len(read_batch(written, "x").labels) == 10_000


# The data set.


def test_pixels_labels_and_ids_of_a_folder(tmp_path: Path) -> None:
    dataset = Cifar10(path=str(folder_of(tmp_path))).open()
    assert (dataset.note, len(dataset.train), len(dataset.test)) == ("CIFAR-10", 5 * ROWS, ROWS)
    batch = content(1)
    image = dataset.train.images[ROWS + 3]
    for channel in range(3):  # the slow twin of reshape and transpose
        for y in (0, 7, 31):
            for x in (0, 9, 31):
                assert image[y, x, channel] == batch["data"][3, 1024 * channel + 32 * y + x]
    assert dataset.train.labels[ROWS + 3] == 3
    assert dataset.train.ids[ROWS + 3] == "train/cat/odd_eyed_cat's_s_10003"
    assert dataset.test.ids[0].startswith("test/airplane/odd_eyed_cat's_s_5")
    assert dataset.train.images.flags.c_contiguous


def test_the_three_places_hold_the_same(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / FOLDER)
    archive = archive_of(tmp_path / "other.tar.gz", honest())
    read = [Cifar10(path=str(place)).open() for place in (folder, tmp_path, archive)]
    assert read[0].train.ids == read[1].train.ids == read[2].train.ids
    for other in read[1:]:
        np.testing.assert_array_equal(read[0].train.images, other.train.images)
        np.testing.assert_array_equal(read[0].test.images, other.test.images)


def test_an_archive_repacked_in_its_folder(tmp_path: Path) -> None:
    batches = [member(f"./{name}", plainly(content(seed))) for seed, name in enumerate(FILES)]
    archive = archive_of(tmp_path / "a.tar.gz", [member(".", type=tarfile.DIRTYPE), *batches])
    assert len(Cifar10(path=str(archive)).open().test) == ROWS


def test_rows_name_records_without_file_names(tmp_path: Path) -> None:
    dataset = Cifar10(path=str(folder_of(tmp_path, plainly, filenames=None))).open()
    assert dataset.train.ids[ROWS + 3] == f"train/cat/{ROWS + 3:05d}"
    assert len(set(dataset.train.ids)) == 5 * ROWS


def test_repeated_file_names_still_give_unique_ids(tmp_path: Path) -> None:
    dataset = Cifar10(path=str(folder_of(tmp_path, plainly, filenames=["a.png"] * ROWS))).open()
    assert len(set(dataset.train.ids)) == 5 * ROWS
    assert dataset.train.ids[2] == "train/bird/a~00002"


@pytest.mark.parametrize("name", ["", "..", "../../x.png", "a/b.png", "a\\b.png", "\x1b[2J.png", "a\nb.png"])
def test_misleading_file_names(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path, plainly, filenames=[name] + ["x"] * (ROWS - 1))
    with pytest.raises(DataError, match="unusable file name"):
        Cifar10(path=str(tmp_path)).open()


@pytest.mark.parametrize("label", [-1, 10, 2**200])
def test_label_out_of_range(tmp_path: Path, label: int) -> None:
    folder_of(tmp_path, plainly, labels=[0] * (ROWS - 1) + [label])
    with pytest.raises(DataError, match=f"out of range in row {ROWS - 1} of train"):
        Cifar10(path=str(tmp_path)).open()


@pytest.mark.parametrize("missing", FILES)
def test_missing_batch(tmp_path: Path, missing: str) -> None:
    (folder_of(tmp_path) / missing).unlink()
    with pytest.raises(DataError, match=f"lacks {missing}"):
        Cifar10(path=str(tmp_path)).open()


WRONG = {
    "no data": {"data": None},
    "no labels": {"labels": None},
    "labels too few": {"labels": [1]},
    "labels not a list": {"labels": "0123456789" * 2},
    "labels of other types": {"labels": [True] * ROWS},
    "names too few": {"filenames": ["a.png"]},
    "names of other types": {"filenames": [1] * ROWS},
    "name of a book": {"filenames": ["a" * 1000] * ROWS},
    "data is a list": {"data": [[0] * 10]},
    "narrow": {"data": np.zeros((ROWS, PIXELS - 1), np.uint8)},
    "one dimension": {"data": np.zeros(ROWS * PIXELS, np.uint8)},
    "four dimensions": {"data": np.zeros((ROWS, 3, 32, 32), np.uint8)},
    "empty": {"data": np.zeros((0, PIXELS), np.uint8), "labels": [], "filenames": []},
    "int8": {"data": np.zeros((ROWS, PIXELS), np.int8)},
    "floats": {"data": np.zeros((ROWS, PIXELS), np.float32)},
    "objects": {"data": np.zeros((ROWS, 1), object)},
    "by column": {"data": np.asfortranarray(np.zeros((ROWS, PIXELS), np.uint8))},
    "with fields": {"data": np.zeros(ROWS, [("a", np.uint8)])},
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_content(name: str, protocol: int) -> None:
    batch = {key: value for key, value in (content(0) | WRONG[name]).items() if value is not None}
    with pytest.raises(DataError):
        read_batch(pickle.dumps(batch, protocol), "data_batch_1")


# Attacks on the pickle. `refused` also proves that nothing ran and that memory stayed near the size of the file.


def refused(raw: bytes, match: str | None = None, budget: int = 8 << 20) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match):
            read_batch(raw, "data_batch_1")
        assert tracemalloc.get_traced_memory()[1] < budget
    finally:
        tracemalloc.stop()


class Runs:
    """Unpickling it calls something."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(6))
def test_attack_os_system(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "ran"
    attack = pickle.dumps(content(0) | {"labels": Runs(os.system, f"touch {proof}")}, protocol)
    refused(attack)
    assert not proof.exists()
    pickle.loads(attack)
    assert proof.exists()  # the attack is real


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_attack_importlib(protocol: int) -> None:
    import importlib

    refused(pickle.dumps({"data": Runs(importlib.import_module, "antigravity")}, protocol), "refers to code")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("call", [eval, exec, getattr, __import__, np.load, np.array, np.frombuffer, bytearray])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_attack_other_callables(call: Callable[..., Any], protocol: int) -> None:
    refused(pickle.dumps({"data": Runs(call, "1")}, protocol), "refers to code")


@pytest.mark.parametrize(
    "name", ["numpy\nload", "numpy\nndarray.tofile", "numpy.core.multiarray\nfromfile", "\n", "numpy dtype\n"]
)
def test_attack_neighbours_of_the_allowed_names(name: str) -> None:
    refused(b"\x80\x02c" + name.encode() + b"\n.", "refers to code")


STACKED = {"not text": b"K\x01K\x02\x93.", "dotted": b"\x8c\x05numpy\x8c\x0ddtype.newbyte\x93.", "no module": b"\x93."}


@pytest.mark.parametrize("name", STACKED)
def test_attack_stack_global(name: str) -> None:
    refused(b"\x80\x04" + STACKED[name])


OPCODES = {
    "INST": b"(U\x04trueios\nsystem\n.",
    "STRING": b"S'true'\n.",
    "OBJ": b"(cnumpy\ndtype\nU\x01Oo.",
    "NEWOBJ": b"cnumpy\ndtype\n)\x81.",
    "NEWOBJ_EX": b"cnumpy\ndtype\n)}\x92.",
    "EXT1": b"\x82\x01.",
    "PERSID": b"Pevil\n.",
    "BINPERSID": b"K\x01Q.",
    "NEXT_BUFFER": b"\x97.",
    "DUP": b"]2.",
    "LONG": b"L" + b"9" * 5000 + b"L\n.",
    "INT": b"I" + b"9" * 5000 + b"\n.",
    "LONG4": b"\x8b\x01\x00\x00\x00\x01.",
    "FLOAT": b"G" + bytes(8) + b".",
    "FROZENSET": b"(\x91.",
    "unknown": b"\xff.",
}


@pytest.mark.parametrize("name", OPCODES)
def test_attack_opcodes_no_batch_needs(name: str) -> None:
    refused(b"\x80\x02" + OPCODES[name])


CALLS = {
    "encode with rot13": b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
    "encode bytes by zip": b"c_codecs\nencode\nC\x01aX\x03\x00\x00\x00zip\x86R.",
    "encode what latin1 lacks": b"c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xacX\x06\x00\x00\x00latin1\x86R.",
    "ndarray called": b"cnumpy\nndarray\nM\xff\xff\x85R.",
    "dtype of objects": b"cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.",
    "reconstruct another class": b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.",
    "call of a string": b"U\x02os)R.",
    "arguments not a tuple": b"cnumpy\ndtype\n]R.",
    "frombuffer of a list": b"cnumpy.core.numeric\n_frombuffer\n(]NNNtR.",
    "state on a dictionary": b"}}b.",
    "state on a word": b"cnumpy\nndarray\n}b.",
}


@pytest.mark.parametrize("name", CALLS)
def test_attack_allowed_names_with_other_arguments(name: str) -> None:
    refused(b"\x80\x03" + CALLS[name])


STACKS = {
    "underflow": b"\x85.",
    "value taken across a mark": b"K\x01(\x86.",
    "group never opened": b"K\x01t.",
    "append to a tuple": b")K\x01a.",
    "set an item of a list": b"]K\x01K\x02s.",
    "odd items": b"}(K\x01u.",
    "key is a number": b"}K\x01K\x02s.",
    "memo read before written": b"h\x07.",
    "memo of a mark": b"(q\x00.",
    "two values": b"}}.",
    "no value": b".",
    "a list": b"].",
    "never stops": b"}",
}


@pytest.mark.parametrize("name", STACKS)
def test_attack_malformed_stack(name: str) -> None:
    refused(b"\x80\x02" + STACKS[name])


@pytest.mark.parametrize("raw", [b"\x80\x09}.", b"\x80\x01}.", b"}.", b"", b"(dp0\n.", b"PK\x03\x04", b"<html>"])
def test_other_protocols_and_other_files(raw: bytes) -> None:
    refused(raw, "not a python batch")


def test_attack_billion_laughs() -> None:
    """Sixty levels, each twice the one below: 2**60 values, were anybody to walk, hash or print them."""
    level = b"h\x00h\x00\x86q\x00"
    refused(b"\x80\x02}U\x04data(Nq\x00" + level * 60 + b"ts.", "no image array")
    refused(b"\x80\x02}(Nq\x00" + level * 60 + b"tNs.", "key that is not text")


def test_attack_memo_bomb() -> None:
    """Pickle's memo is an array: an index of 4 billion makes it allocate 32 GB. Here it is a key."""
    refused(b"\x80\x02}r\xff\xff\xff\xff.", "no image array", budget=1 << 20)


def test_attack_opcode_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_python_batches, "OPCODES", 10_000)
    refused(b"\x80\x02" + b"}" * 20_000 + b".", "too many opcodes")


def test_attack_one_text_encoded_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each encoding of a remembered megabyte would be another megabyte."""
    monkeypatch.setattr(_python_batches, "LIMIT", 3 << 20)
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00X\x06\x00\x00\x00latin1q\x01"
    refused(b"\x80\x02" + text + b"c_codecs\nencode\nh\x00h\x01\x86R" * 1000 + b".", "beyond its size")


def test_attack_one_long_key_again_and_again() -> None:
    """Keys are kept as text, and the text of a remembered megabyte would be another megabyte."""
    key = b"T" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00"
    refused(b"\x80\x02" + key + b"}h\x00Ns" * 1000 + b".", "key that is not text")


def test_attack_one_wide_state_again_and_again() -> None:
    """Looking through a remembered state of 50,000 entries 50,000 times would take minutes."""
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    refused(b"\x80\x02(" + b"N" * 50_000 + b"tq\x00" + dtype + b"h\x00b" * 50_000 + b".", "dtype with fields")


def test_attack_deep_nesting() -> None:
    refused(b"\x80\x02N" + b"\x85" * 100_000 + b".", "one dictionary", budget=32 << 20)


def test_attack_a_list_that_holds_itself() -> None:
    refused(b"\x80\x02}U\x06labels]q\x00h\x00as.", "no image array")


SIZES = {
    "BINBYTES": b"B\xff\xff\xff\xff",
    "BINBYTES8": b"\x8e\xff\xff\xff\xff\xff\xff\xff\x3f",
    "BYTEARRAY8": b"\x96\xff\xff\xff\xff\xff\xff\xff\x3f",
    "BINUNICODE8": b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff",
    "BINSTRING": b"T\xff\xff\xff\x7f",
    "negative BINSTRING": b"T\xff\xff\xff\xff",
    "FRAME": b"\x95\xff\xff\xff\xff\xff\xff\xff\x7f",
}


@pytest.mark.parametrize("name", SIZES)
def test_attack_sizes_beyond_the_file(name: str) -> None:
    refused(b"\x80\x05" + SIZES[name] + b"abc.", budget=1 << 20)


@pytest.mark.parametrize("shape", [(2**40, PIXELS), (-ROWS, -PIXELS), (ROWS, 2**600), (ROWS * PIXELS,), (True, PIXELS)])
def test_attack_a_shape_that_lies(shape: tuple[int, ...]) -> None:
    """No array is allocated for a shape; it must fit the bytes that are there."""
    written = pickle.dumps(content(0), 4)
    honest_shape = pickle.dumps((ROWS, PIXELS), 4)[11:-2]
    assert written.count(honest_shape) == 1
    lie = pickle.dumps(shape, 4).removeprefix(b"\x80\x04")
    lie = lie[9:] if lie[:1] == b"\x95" else lie
    refused(written.replace(honest_shape, lie.removesuffix(b".").removesuffix(b"\x94")), "array", budget=1 << 20)


def test_attack_file_beyond_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_python_batches, "LIMIT", 60_000)
    with pytest.raises(DataError, match="too large"):
        Cifar10(path=str(folder_of(tmp_path))).open()


def test_attack_truncated() -> None:
    for raw in (by_python2(content(0)), pickle.dumps(with_bytes(content(0)), 5)):
        for end in (0, 1, 2, 3, 50, len(raw) // 2, len(raw) - 500, len(raw) - 2, len(raw) - 1):
            refused(raw[:end])


def test_attack_trailing_garbage() -> None:
    refused(by_python2(content(0)) + b"\x80\x02.", "bytes after its end")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_attack_any_bytes_changed(data: st.DataObject) -> None:
    """Whatever bytes are changed: a batch of that shape, or a DataError, and never another exception."""
    raw = bytearray(pickle.dumps(with_bytes(content(0, 1)), data.draw(st.sampled_from(PROTOCOLS))))
    start = raw.find(content(0, 1)["data"].tobytes()[:20])
    places = [place for place in range(len(raw)) if start < 0 or not start <= place < start + PIXELS]
    for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        raw[place] = data.draw(st.integers(0, 255))
    try:
        found = read_batch(bytes(raw), "data_batch_1")
    except DataError:
        return
    assert found.pixels.shape == (len(found.labels), PIXELS)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_attack_any_bytes(raw: bytes) -> None:
    with pytest.raises(DataError):
        read_batch(b"\x80\x04" + raw, "data_batch_1")
