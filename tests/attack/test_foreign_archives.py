"""Arrays, zips and files made by an enemy: sizes that are not there, names that lead outside, objects, and what is no file."""

from __future__ import annotations

import functools
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest

from attack.foreign import (
    ITEMS,
    LAM,
    READERS,
    Payload,
    bounded,
    machine,
    name,
    only_error,
    raw,
    refused,
    stretched,
    text,
)
from connect import lookalikes as made
from expunge.connect.recommenders import _opcodes
from expunge.connect.recommenders._arrow import strings_of
from expunge.connect.recommenders._builders import Array
from expunge.connect.recommenders.arrays import Arrays
from expunge.connect.recommenders.cornac import Cornac
from expunge.connect.recommenders.implicit import Implicit
from expunge.connect.recommenders.lenskit import LensKit
from expunge.connect.recommenders.recbole import RecBole
from expunge.core.errors import InputError

# ---------------------------------------------------------------------------------------------------------- the arrays


def test_numpy_object_arrays(tmp_path):
    payload = Payload(os.mkdir, str(tmp_path / "owned"))
    for protocol in (2, 4, 5):
        refused(pickle.dumps(np.array([payload, None]), protocol))
        refused(pickle.dumps(np.array([None, 1]), protocol), "objects are not read")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, [("a", "f4"), ("b", "i4")]),
        np.zeros(3, "M8[s]"),
        np.zeros(3, complex),
        np.zeros(3, "V8"),
        np.zeros((1,) * 6),
        np.zeros(3).view(np.recarray),
        np.ma.masked_array([1.0, 2.0], [True, False]),
    ],
)
def test_arrays_of_something_else(array):
    refused(pickle.dumps(array, 4))


def array_state(shape, data, dtype=text("f8")):
    """An array by _reconstruct and BUILD."""
    start = (
        name("numpy._core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85" + raw(b"b") + b"\x87R"
    )
    kind = name("numpy", "dtype") + dtype + b"\x89\x88\x87R"
    return start + b"(K\x01" + pickle.dumps(shape, 2)[2:-1] + kind + b"\x89" + data + b"tb."


def test_arrays_whose_bytes_are_not_those_of_their_shape():
    assert machine(array_state((1, 2), raw(bytes(16)))).value.shape == (1, 2)
    for shape in ((3,), (2**62,), (2**40 - 1, 2**40 - 1), (-2,), (2.0,), (True,), 2, [2], ("2",), (0, 2**39, 2**39)):
        refused(array_state(shape, raw(bytes(16))))
    refused(array_state((2,), text("x" * 16)))
    refused(array_state((2,), b"](NNe"))
    for dtype in ("O", "U0", "S0", "U999999999", "f16", "i3", "2f8", "(2,)f8", "f8,f8", "float64, O"):
        refused(array_state((2,), raw(bytes(16)), text(dtype)), "dtype")
    refused(array_state((2,), raw(bytes(16)), b"N"), "dtype")


def test_an_array_that_is_filled_twice_or_never():
    twice = array_state((2,), raw(bytes(16)))[:-1]
    refused(twice + b"(K\x01K\x02\x85NN" + raw(b"") + b"tb.", "unknown form")
    empty = (
        name("numpy._core.multiarray", "_reconstruct") + name("numpy", "ndarray") + b"K\x00\x85" + raw(b"b") + b"\x87R."
    )
    assert isinstance(machine(empty), Array)
    assert machine(empty).value is None


def test_an_array_that_is_never_filled_is_no_weights(tmp_path):
    path = made.lenskit_scorer(tmp_path / "s.pkl", made.ease(made.rows(), LAM, np.float32), LAM, ITEMS, protocol=2)
    data = path.read_bytes()
    start = data.index(b"cnumpy._core.multiarray\n_reconstruct")
    fill = data.index(b"(K\x01K\tK\t", start)
    state = data[fill : data.index(b"tq", fill)]
    end = data.index(b"b", data.index(b"tq", fill) + 2)
    path.write_bytes(data[:fill] + data[end + 1 :])
    assert state
    with pytest.raises(InputError):
        LensKit().read((path,))


@pytest.mark.parametrize(
    "change",
    [
        {"indptr": [0, 5, 3]},
        {"indptr": [0, 1, 2, 3]},
        {"indptr": [1, 2, 3]},
        {"indices": [0, 1, 2]},
        {"indices": [0, 1, -1]},
        {"_shape": (2, 2**40)},
        {"_shape": (2,)},
        {"_shape": None},
        {"data": None},
        {"data": "x"},
    ],
)
def test_a_sparse_matrix_that_points_outside_itself(change):
    held = {"data": [1.0, 1, 1], "indices": [0, 1, 1], "indptr": [0, 2, 3], "_shape": (2, 2), **change}
    state = {key: np.array(value) if isinstance(value, list) else value for key, value in held.items()}
    made_of = name("scipy.sparse._csr", "csr_matrix") + b")\x81"
    refused(made_of + pickle.dumps(state, 2)[2:-1] + b"b.", "")


def test_rows_over_2_to_the_39_items_take_no_memory(tmp_path):
    x = made.rows()
    wide = x.copy()
    wide._shape = (40, 2**39)
    path = made.cornac_model(tmp_path / "m.pkl", x, LAM, U=wide)
    bounded(lambda: only_error(Cornac(), path, "beside weights of 9"), megabytes=50)


# ----------------------------------------------------------------------------------------------------- zips and files


def repacked(path, change, compression=zipfile.ZIP_STORED):
    """The checkpoint with its members changed: a dict of name to bytes, by a function."""
    with zipfile.ZipFile(path) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    members = change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry, data in members.items():
            archive.writestr(entry, data)
    return path


@pytest.fixture
def checkpoint(tmp_path):
    return made.recbole_checkpoint(tmp_path / "EASE-1.pth", made.rows(), LAM)


def test_the_control_checkpoint_repacked_is_read(checkpoint):
    assert RecBole().read((repacked(checkpoint, dict),)).weights.shape == (10, 10)


@pytest.mark.parametrize("entry", ["../evil", "/etc/passwd", "EASE-1/../../evil", "a\\b", "C:evil", "EASE-1/.."])
def test_zip_with_path_traversal_names(checkpoint, entry):
    only_error(RecBole(), repacked(checkpoint, lambda held: {**held, entry: b"x"}), "leaves the archive")
    npz = checkpoint.with_suffix(".npz")
    with zipfile.ZipFile(npz, "w") as archive:
        archive.writestr(entry, b"x")
        archive.writestr("B.npy", b"x")
    only_error(Arrays(), npz, "leaves the archive")


@pytest.mark.parametrize("key", ["../data.pkl", "99", "", "/etc/passwd", "0\x00"])
def test_a_storage_outside_the_zip(tmp_path, key):
    held = {"config": None, "other_parameter": {"item_similarity": None}}
    path = made.recbole_checkpoint(tmp_path / "c.pth", made.rows(), LAM, **held)
    data = stretched((1,), (1,)).replace(text("0"), text(key))
    path = repacked(path, lambda members: {**members, next(k for k in members if k.endswith("data.pkl")): data})
    only_error(RecBole(), path, "that is not there")


def test_zip_bomb(checkpoint):
    bomb = repacked(checkpoint, lambda held: {**held, "EASE-1/data/9": bytes(2**26)}, zipfile.ZIP_DEFLATED)
    bounded(lambda: only_error(RecBole(), bomb, "times the file"), megabytes=10)
    packed = repacked(made.recbole_checkpoint(checkpoint, made.rows(), LAM), dict, zipfile.ZIP_DEFLATED)
    only_error(RecBole(), packed)
    npz = checkpoint.with_suffix(".npz")
    np.savez_compressed(npz, B=np.zeros((4096, 4096)))
    bounded(lambda: only_error(Arrays(), npz, "times the file"), megabytes=10)


def test_zip_whose_members_overlap(checkpoint):
    """Many entries of the directory point at the same bytes: more content than file."""
    data = bytearray(checkpoint.read_bytes())
    with zipfile.ZipFile(checkpoint) as archive:
        entries = archive.infolist()
        start = archive.start_dir
    directory = bytes(data[start : data.rindex(b"PK\x05\x06")])
    end = bytearray(data[data.rindex(b"PK\x05\x06") :])
    first = directory[: 46 + sum(struct.unpack("<HHH", directory[28:34]))]
    size = len(entries[0].filename)
    copies = b"".join(first[:46] + f"{k:0{size}d}".encode() + first[46 + size :] for k in range(5000))
    struct.pack_into("<HHII", end, 8, 5000, 5000, len(copies), start)
    checkpoint.write_bytes(bytes(data[:start]) + copies + bytes(end))
    bounded(lambda: only_error(RecBole(), checkpoint), megabytes=50)


def test_zip_with_two_pickles_or_none_and_names_that_come_twice(checkpoint):
    both = lambda held: {**held, "evil/data.pkl": b"N."}  # noqa: E731
    only_error(RecBole(), repacked(checkpoint, both), "2 pickles")
    only_error(
        RecBole(), repacked(checkpoint, lambda held: {k: v for k, v in held.items() if "pkl" not in k}), "0 pickles"
    )
    with zipfile.ZipFile(checkpoint, "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/data.pkl", b"N.")
    only_error(RecBole(), checkpoint, "comes twice")


def test_zip_that_says_it_is_encrypted_or_big_endian(checkpoint):
    big = repacked(checkpoint, lambda held: {k: b"big" if k.endswith("byteorder") else v for k, v in held.items()})
    only_error(RecBole(), big, "big-endian")
    data = bytearray(repacked(made.recbole_checkpoint(checkpoint, made.rows(), LAM), dict).read_bytes())
    for at in [match.start() for match in re.finditer(b"PK\x01\x02", bytes(data))]:
        data[at + 8] |= 1
    checkpoint.write_bytes(bytes(data))
    only_error(RecBole(), checkpoint)


def test_allow_pickle_npz(tmp_path):
    payload = Payload(os.mkdir, str(tmp_path / "owned"))
    evil = np.array([payload], dtype=object)
    np.savez(tmp_path / "a.npz", B=np.zeros((1, 1)), items=evil)
    np.savez(tmp_path / "b.npz", user_factors=evil, item_factors=evil, iterations=1)
    np.save(tmp_path / "c.npy", evil)
    only_error(Arrays(), tmp_path / "a.npz", "objects are never unpickled")
    only_error(Implicit(), tmp_path / "b.npz", "objects are never unpickled")
    only_error(Arrays(), tmp_path / "c.npy", "objects are never unpickled")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999999, 99999999)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': 'V99999999999', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}",
        "__import__('os').system('true')",
        "[" * 5000,
        "{}",
    ],
)
def test_npy_headers(tmp_path, header):
    body = header.encode().ljust(64) + b"\n"
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body + bytes(8)
    (tmp_path / "e.npy").write_bytes(data)
    only_error(Arrays(), tmp_path / "e.npy")


@pytest.mark.parametrize("code", [0x110000, 0xFFFFFFFF, 0xD800])
def test_strings_of_numbers_that_are_no_characters(tmp_path, code):
    """numpy ends in a SystemError when it makes a str of them."""
    for order in "<>":
        ids = np.full(3, code, f"{order}u4").view(f"{order}U1")
        np.savez(tmp_path / "a.npz", B=np.zeros((3, 3)), items=ids)
        only_error(Arrays(), tmp_path / "a.npz", "no characters")
        refused(pickle.dumps(ids, 4), "no characters")
    only_error(Implicit(), made.implicit_factors(tmp_path / "b.npz", dtype=ids[:1].reshape(())), "no characters")


def test_item_ids_that_are_half_a_character(tmp_path):
    path = made.cornac_model(tmp_path / "m.pkl", made.rows(), LAM, tested=0)
    path.write_bytes(path.read_bytes().replace(b"item 0", b"ite\xed\xa0\x80"))
    only_error(Cornac(), path, "not text")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"[" * 5000,
        b'{"B": 1}',
        b'{"B": {"dtype": "F64", "shape": [1, 1], "data_offsets": [0, 99]}}',
        b'{"B": {"dtype": "F64", "shape": [1, 1], "data_offsets": [8, 0]}}',
        b'{"B": {"dtype": "F64", "shape": [1099511627775, 1099511627775], "data_offsets": [0, 8]}}',
        b'{"B": {"dtype": "F64", "shape": [1e3], "data_offsets": [0, 8]}}',
        b'{"B": {"dtype": "O", "shape": [1, 1], "data_offsets": [0, 8]}}',
        b'{"B": {"dtype": ["F64"], "shape": [1, 1], "data_offsets": [0, 8]}}',
        b'{"__metadata__": {"items": 1}, "B": {"dtype": "F64", "shape": [1, 1], "data_offsets": [0, 8]}}',
        b'{"__metadata__": {"items": "[[["}, "B": {"dtype": "F64", "shape": [1, 1], "data_offsets": [0, 8]}}',
    ],
)
def test_safetensors_headers(tmp_path, header):
    (tmp_path / "e.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    only_error(Arrays(), tmp_path / "e.safetensors")


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").touch()
    for reader in READERS:
        for entry in ("pipe", "zero", "loop", "empty", "."):
            assert not reader.recognises((tmp_path / entry,))
            only_error(reader, tmp_path / entry)


def arrow(ends=(0, 1, 3), text=b"abc", *, length=2, nulls=0, offset=0, alias="string", buffers=None):
    """A string array as pyarrow pickles it."""
    call = functools.partial(_opcodes.Global, "pyarrow.lib")
    held = [np.array(ends, "<i4").tobytes(), text] if buffers is None else buffers
    parts = [None, *(_opcodes.Record(call("py_buffer"), (data,)) for data in held)]
    kind = _opcodes.Record(call("type_for_alias"), (alias,))
    return _opcodes.Record(call("_restore_array"), ((kind, length, nulls, offset, parts, [], None),))


def test_the_control_arrow_array_is_read():
    assert strings_of(arrow()) == ("a", "bc")
    assert strings_of(arrow(length=1, offset=1)) == ("bc",)


@pytest.mark.parametrize(
    "change",
    [
        {"ends": (0, 3, 1)},
        {"ends": (0, 1, 4)},
        {"ends": (-1, 1, 3)},
        {"ends": (0, 1)},
        {"length": 2**39},
        {"length": -1},
        {"length": 2.0},
        {"offset": 1},
        {"offset": -1},
        {"nulls": 1},
        {"text": b"a\xff\xff"},
        {"alias": "double"},
        {"alias": "int64"},
        {"alias": 3},
        {"buffers": []},
        {"buffers": [b""]},
        {"buffers": ["abc", b"abc"]},
    ],
)
def test_arrow_arrays_that_point_outside_their_buffers(change):
    with pytest.raises(ValueError):
        strings_of(arrow(**change))
