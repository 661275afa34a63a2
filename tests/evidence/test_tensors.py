"""Tensor identity: what counts, what does not, and headers that lie."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.errors import IntegrityError, StorageError
from expunge.evidence.merkle import leaf_hash, root_of
from expunge.evidence.tensors import TensorManifest, TensorRow

WEIGHTS = {
    "b.weight": ("F32", [2, 3], bytes(range(24))),
    "a.bias": ("BF16", [4], b"ABCDEFGH"),
    "n": ("I64", [], b"\1" * 8),
}


def file_of(tensors: dict, metadata: dict | None = None, pad: int = 0) -> bytes:
    """A safetensors file, written independently of the code under test."""
    header: dict = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def with_header(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def manifest(tmp_path: Path, content: bytes) -> TensorManifest:
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    return TensorManifest.of_file(path)


def test_rows_hold_the_hash_of_each_tensors_bytes(tmp_path: Path) -> None:
    found = manifest(tmp_path, file_of(WEIGHTS))
    assert [row.name for row in found.rows] == ["a.bias", "b.weight", "n"]
    for row in found.rows:
        dtype, shape, raw = WEIGHTS[row.name]
        assert row == TensorRow(name=row.name, dtype=dtype, shape=tuple(shape), sha256=hashlib.sha256(raw).hexdigest())


def test_root_is_the_tree_over_canonical_rows(tmp_path: Path) -> None:
    found = manifest(tmp_path, file_of(WEIGHTS))
    lines = [
        json.dumps(
            {"dtype": row.dtype, "name": row.name, "sha256": row.sha256, "shape": list(row.shape)},
            separators=(",", ":"),
        ).encode()
        for row in found.rows
    ]
    assert found.root == "sha256:" + root_of([leaf_hash(line) for line in lines]).hex()


def test_metadata_order_and_padding_do_not_count(tmp_path: Path) -> None:
    plain = manifest(tmp_path, file_of(WEIGHTS))
    assert manifest(tmp_path, file_of(WEIGHTS, {"format": "pt"})) == plain
    assert manifest(tmp_path, file_of(WEIGHTS, pad=7)) == plain
    assert manifest(tmp_path, file_of(dict(reversed(WEIGHTS.items())))) == plain


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("a.bias", ("BF16", [4], b"ABCDEFGI")),
        ("a.bias", ("F16", [4], b"ABCDEFGH")),
        ("a.bias", ("BF16", [2, 2], b"ABCDEFGH")),
        ("c", ("U8", [0], b"")),
    ],
)
def test_bytes_dtype_shape_and_extra_tensors_count(tmp_path: Path, name: str, tensor: tuple) -> None:
    before = manifest(tmp_path, file_of(WEIGHTS))
    after = manifest(tmp_path, file_of({**WEIGHTS, name: tensor}))
    assert after.root != before.root
    assert before.differences(after) == (name,)
    assert before.differences(before) == ()


def test_renamed_tensor_is_another_model(tmp_path: Path) -> None:
    renamed = {("z" if name == "n" else name): tensor for name, tensor in WEIGHTS.items()}
    assert manifest(tmp_path, file_of(renamed)).root != manifest(tmp_path, file_of(WEIGHTS)).root


def test_agrees_with_the_safetensors_library(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    numpy = pytest.importorskip("numpy")
    arrays = {"w": numpy.arange(300_000, dtype="float32").reshape(300, 1000), "empty": numpy.zeros((0, 3), "int8")}
    safetensors.save_file(arrays, tmp_path / "m.safetensors", {"k": "v"})
    found = {row.name: row for row in TensorManifest.of_file(tmp_path / "m.safetensors").rows}
    for name, array in arrays.items():
        assert found[name].sha256 == hashlib.sha256(array.tobytes()).hexdigest()
        assert found[name].shape == array.shape


ONE = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
LIES = {
    "empty file": b"",
    "short prefix": b"\x00" * 7,
    "no header": struct.pack("<Q", 0),
    "header longer than file": struct.pack("<Q", 1000) + b"{}",
    "giant header": struct.pack("<Q", 2**63) + b"{}",
    "header not JSON": with_header(b"{nope"),
    "header not UTF-8": with_header(b'{"\xff": 1}'),
    "header a list": with_header([1]),
    "header after blanks": with_header(b" " + json.dumps({"a": ONE}).encode(), b"1234"),
    "deeply nested": with_header(b'{"a":' * 100_000),
    "duplicate names": with_header(
        b'{"a":' + json.dumps(ONE).encode() + b',"a":' + json.dumps(ONE).encode() + b"}", b"1234"
    ),
    "no tensor": with_header({}),
    "only metadata": with_header({"__metadata__": {"a": "b"}}),
    "metadata not texts": with_header({"__metadata__": {"a": 1}, "a": ONE}, b"1234"),
    "metadata not an object": with_header({"__metadata__": "x", "a": ONE}, b"1234"),
    "unknown dtype": with_header({"a": {**ONE, "dtype": "OBJECT"}}, b"1234"),
    "dtype not text": with_header({"a": {**ONE, "dtype": 3}}, b"1234"),
    "dtype unhashable": with_header({"a": {**ONE, "dtype": ["U8"]}}, b"1234"),
    "unknown field": with_header({"a": {**ONE, "code": "x"}}, b"1234"),
    "missing field": with_header({"a": {"dtype": "U8", "shape": [4]}}, b"1234"),
    "entry not an object": with_header({"a": 1}, b"1234"),
    "negative shape": with_header({"a": {**ONE, "shape": [-4]}}, b"1234"),
    "boolean shape": with_header({"a": {**ONE, "shape": [True, 4]}}, b"1234"),
    "float shape": with_header(b'{"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}}', b"1234"),
    "shape does not fill": with_header({"a": {**ONE, "shape": [5]}}, b"1234"),
    "overflowing shape": with_header({"a": {**ONE, "shape": [2**50] * 10}}, b"1234"),
    "negative offsets": with_header({"a": {**ONE, "data_offsets": [-4, 0]}}, b"1234"),
    "reversed offsets": with_header({"a": {**ONE, "data_offsets": [4, 0]}}, b"1234"),
    "three offsets": with_header({"a": {**ONE, "data_offsets": [0, 2, 4]}}, b"1234"),
    "beyond the end": with_header({"a": ONE}, b"123"),
    "bytes nobody owns": with_header({"a": ONE}, b"12345"),
    "gap": with_header({"a": ONE, "b": {**ONE, "data_offsets": [5, 9]}}, b"123456789"),
    "gap at the start": with_header({"a": {**ONE, "data_offsets": [1, 5]}}, b"12345"),
    "overlap": with_header({"a": ONE, "b": {**ONE, "data_offsets": [2, 6]}}, b"123456"),
    "same bytes twice": with_header({"a": ONE, "b": ONE}, b"1234"),
}


@pytest.mark.parametrize("lie", LIES)
def test_header_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    assert manifest(tmp_path, with_header({"a": ONE}, b"1234")).rows  # the control
    with pytest.raises(IntegrityError):
        manifest(tmp_path, LIES[lie])


def test_truncation_at_every_byte_is_found(tmp_path: Path) -> None:
    whole = file_of(WEIGHTS)
    for length in range(len(whole)):
        with pytest.raises(IntegrityError):
            manifest(tmp_path, whole[:length])


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused_or_changes_the_root(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    whole = bytearray(file_of(WEIGHTS))
    honest = manifest(tmp_path_factory.mktemp("a"), bytes(whole))
    whole[position % len(whole)] ^= 1 << bit
    folder = tmp_path_factory.mktemp("b")
    try:
        changed = manifest(folder, bytes(whole))
    except IntegrityError:
        return
    if changed.root == honest.root:
        assert changed == honest
        header_end = 8 + struct.unpack("<Q", file_of(WEIGHTS)[:8])[0]
        assert position % len(whole) < header_end, "a data byte changed unseen"


def test_missing_file_and_folder_are_storage_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StorageError):
            TensorManifest.of_file(path)


def test_sparse_giant_does_not_fit_its_header(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(with_header({"a": ONE}, b"1234"))
    os.truncate(path, 1 << 40)
    with pytest.raises(IntegrityError, match="no tensor owns"):
        TensorManifest.of_file(path)


def test_rows_must_be_unique_and_sorted() -> None:
    row = TensorRow(name="a", dtype="U8", shape=(1,), sha256="0" * 64)
    with pytest.raises(IntegrityError):
        TensorManifest.of_rows([row, row])
    with pytest.raises(IntegrityError):
        TensorManifest.of_rows([])
