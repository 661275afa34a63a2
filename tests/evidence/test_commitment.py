"""Commitments hide without their key, bind with it, and mean nothing once it is destroyed."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from expunge.core.errors import InputError, IntegrityError, StorageError
from expunge.evidence.commitment import (
    KeyFile,
    Opening,
    check_opening,
    commit,
    derive,
    is_commitment,
    open_commitment,
)

KEY = bytes(range(32))


def test_commitment_is_plain_hmac_over_canonical_json() -> None:
    twin = hmac.new(KEY, b'{"a":1,"b":"x"}', hashlib.sha256).hexdigest()
    assert commit(KEY, {"b": "x", "a": 1}) == f"hmac-sha256:{twin}"
    assert is_commitment(commit(KEY, 1))
    assert not is_commitment("sha256:" + "0" * 64)


def test_opening_binds_the_value_and_the_key() -> None:
    commitment = commit(KEY, {"id": "train/automobile/0007"})
    opening = open_commitment(KEY, {"id": "train/automobile/0007"})
    assert check_opening(commitment, opening) == {"id": "train/automobile/0007"}
    with pytest.raises(IntegrityError):
        check_opening(commitment, open_commitment(KEY, {"id": "train/automobile/0008"}))
    with pytest.raises(IntegrityError):
        check_opening(commitment, open_commitment(derive(KEY, "x"), {"id": "train/automobile/0007"}))
    with pytest.raises(InputError):
        check_opening(commitment, Opening(key="not hex", value=1))


def test_guessing_the_id_without_the_key_does_not_confirm_it() -> None:
    commitment = commit(KEY, {"id": "train/automobile/0007"})
    guess = hashlib.sha256(b'{"id":"train/automobile/0007"}').hexdigest()
    assert guess not in commitment


def test_derived_keys_differ_by_label_and_from_record_keys() -> None:
    labels = {derive(KEY, label) for label in ("a", "b", "", "expunge/record/v1")}
    assert len(labels) == 4
    assert derive(KEY, "a") == derive(KEY, "a")
    with pytest.raises(InputError):
        derive(b"short", "a")


def test_destroyed_key_is_gone(tmp_path: Path) -> None:
    file = KeyFile.create(tmp_path / "case.key")
    assert len(file.read()) == 32
    assert (tmp_path / "case.key").stat().st_mode & 0o777 == 0o600
    assert KeyFile.create(tmp_path / "other.key").read() != file.read()
    with pytest.raises(StorageError):
        KeyFile.create(tmp_path / "case.key")
    file.destroy()
    assert not (tmp_path / "case.key").exists()
    with pytest.raises(StorageError):
        file.read()
    with pytest.raises(StorageError):
        file.destroy()


def test_truncated_key_is_damage_not_a_key(tmp_path: Path) -> None:
    file = KeyFile.create(tmp_path / "case.key")
    file.path.write_bytes(file.read()[:31])
    with pytest.raises(IntegrityError):
        file.read()
