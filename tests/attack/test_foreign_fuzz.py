"""Any bytes at all: a reader of foreign recommenders returns a model or raises one of our errors."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from attack.foreign import (
    ITEMS,
    LAM,
    READERS,
    machine,
    name,
    only_error,
    raw,
    text,
)
from connect import lookalikes as made
from expunge.connect import recommenders
from expunge.connect.recommenders import _opcodes
from expunge.connect.recommenders._builders import TORCH_BUILDERS, Storage
from expunge.core.errors import DataError, InputError


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """One valid file a reader."""
    folder = tmp_path_factory.mktemp("originals")
    x, weights = made.rows(), made.ease(made.rows(), LAM, np.float32)
    user, item = x.nonzero()
    np.savez(folder / "e.npz", B=weights, items=np.array(ITEMS))
    return {
        "scorer": (READERS[0], made.lenskit_scorer(folder / "s.pkl", weights, LAM, ITEMS, protocol=2).read_bytes()),
        "pipe": (
            READERS[0],
            made.lenskit_scorer(
                folder / "p.pkl", weights, LAM, ITEMS, more=(user.tolist(), item.tolist())
            ).read_bytes(),
        ),
        "cornac": (READERS[1], made.cornac_model(folder / "c.pkl", x, LAM).read_bytes()),
        "recbole": (READERS[2], made.recbole_checkpoint(folder / "r.pth", x, LAM).read_bytes()),
        "implicit": (READERS[3], made.implicit_factors(folder / "i.npz").read_bytes()),
        "arrays": (READERS[4], (folder / "e.npz").read_bytes()),
        "tensors": (READERS[4], tensors(weights)),
    }


def tensors(weights):
    """A safetensors file."""
    entry = {"B": {"dtype": "F32", "shape": list(weights.shape), "data_offsets": [0, weights.nbytes]}}
    header = json.dumps({"__metadata__": {"lambda": "5", "items": json.dumps(ITEMS)}, **entry}).encode()
    return struct.pack("<Q", len(header)) + header + weights.tobytes()


KINDS = ("scorer", "pipe", "cornac", "recbole", "implicit", "arrays", "tensors")


def reads_or_refuses(reader, path):
    reader.recognises((path,))
    with contextlib.suppress(InputError):
        reader.read((path,))


@pytest.mark.parametrize("kind", KINDS)
def test_truncated(kind, originals, tmp_path):
    reader, data = originals[kind]
    path = tmp_path / "cut"
    for end in sorted({*range(0, len(data), max(1, len(data) // 150)), *range(len(data) - 30, len(data))}):
        path.write_bytes(data[:end])
        only_error(reader, path)
    path.write_bytes(data)
    reader.read((path,))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_flipped_bytes(data, kind, originals, tmp_path):
    reader, original = originals[kind]
    changed = bytearray(original)
    spots = st.integers(0, len(changed) - 1) | st.integers(0, min(2000, len(changed) - 1))
    for at, byte in data.draw(st.lists(st.tuples(spots, st.integers(0, 255)), min_size=1, max_size=8)):
        changed[at] = byte
    (tmp_path / "f").write_bytes(bytes(changed))
    reads_or_refuses(reader, tmp_path / "f")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_parts_moved_and_repeated(data, kind, originals, tmp_path):
    reader, original = originals[kind]
    start, end, to = (data.draw(st.integers(0, len(original))) for _ in range(3))
    part = original[min(start, end) : max(start, end)]
    (tmp_path / "f").write_bytes(original[:to] + part + original[to:])
    reads_or_refuses(reader, tmp_path / "f")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["recbole", "implicit", "arrays"]))
def test_flipped_bytes_under_a_correct_checksum(data, kind, originals, tmp_path):
    """Bytes of one member of a zip, which is packed again: the checksum hides nothing from the parsers."""
    reader, original = originals[kind]
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        members = {entry: bytearray(archive.read(entry)) for entry in archive.namelist()}
    content = data.draw(st.sampled_from([member for member in members.values() if member]))
    spots = st.integers(0, len(content) - 1) | st.integers(0, min(200, len(content) - 1))
    for at, byte in data.draw(st.lists(st.tuples(spots, st.integers(0, 255)), min_size=1, max_size=4)):
        content[at] = byte
    with zipfile.ZipFile(tmp_path / "f", "w") as archive:
        for entry, member in members.items():
            archive.writestr(entry, bytes(member))
    reads_or_refuses(reader, tmp_path / "f")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
@example(b"\x80\x04N.")
@example(b"\x80\x02clenskit.knn.ease\nEASEScorer\n)\x81}b.")
@example(b"\x93NUMPY\x01\x00\x06\x00{}    ")
@example(b"PK\x05\x06" + bytes(18))
def test_random_bytes(tmp_path, content):
    path = tmp_path / "f"
    path.write_bytes(content or b"\x00")
    for reader in READERS:
        reads_or_refuses(reader, path)


PIECES = st.sampled_from(
    [
        bytes([code])
        for code in b"().0122NFIJKLMSTUVXabcdeghijlopqrstu}]\x80\x81\x82\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x94\x95"
    ]
    + [name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), name("numpy", "dtype")]
    + [name("numpy._core.numeric", "_frombuffer"), name("numpy._core.multiarray", "scalar"), name("_codecs", "encode")]
    + [name("scipy.sparse._csr", "csr_matrix"), name("collections", "OrderedDict"), name("builtins", "bytearray")]
    + [name("torch._utils", "_rebuild_tensor_v2"), name("torch", "FloatStorage"), name("copyreg", "_reconstructor")]
    + [
        name("builtins", "set"),
        name("builtins", "object"),
        name("lenskit.a", "B"),
        text("f8"),
        text("C"),
        text("latin1"),
    ]
    + [
        b"K\x01",
        b"K\x02",
        b"q\x00",
        b"q\x01",
        b"h\x00",
        b"h\x01",
        raw(b"b"),
        raw(bytes(8)),
        raw(bytes(16)),
        text("_shape"),
    ]
    + [text("data"), text("indices"), text("indptr"), text("storage"), text("0"), b"Q", text("<"), b"G" + bytes(8)]
)


@settings(max_examples=2000, deadline=None)
@given(st.lists(PIECES, max_size=40))
def test_random_programs(pieces):
    """Opcodes that fit together more often than bytes do."""
    try:
        value = machine(b"".join(pieces) + b".", builders=TORCH_BUILDERS, persistent=one_storage)
    except DataError:
        return
    for _, part in _opcodes.walk(value):
        kinds = (dict, list, tuple, set, frozenset, _opcodes.Record, _opcodes.Buildable, Storage)
        assert isinstance(part, (*kinds, str, bytes, bytearray, int, float, type(None), _opcodes.Global))


def one_storage(reference):
    if not isinstance(reference, tuple) or len(reference) != 5:
        raise ValueError("no storage")
    return Storage(reference[1], bytes(8), 2)


def test_every_public_module_of_the_package_was_attacked():
    names = {type(reader).__module__.rpartition(".")[2] for reader in READERS}
    found = {path.stem for path in Path(recommenders.__path__[0]).glob("[a-z]*.py")}
    assert names == found
    assert importlib.import_module("expunge.connect.recommenders") is recommenders
