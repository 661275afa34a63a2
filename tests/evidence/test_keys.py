"""Keys: permissions, passphrases, and roots that would let one key play two parts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from expunge.core.errors import EvidenceError, InputError, RegistryError, StorageError
from expunge.core.protocols import Signer
from expunge.evidence.keys import (
    Root,
    TrustRoots,
    custody_of,
    keyid_of,
    load_signer,
    parse_roots,
    read_roots,
    signature_ok,
    write_roots,
)
from expunge.evidence.signers.file import FileSigner


@pytest.fixture
def signer(tmp_path: Path) -> FileSigner:
    return FileSigner.create(tmp_path / "k.pem")


def test_a_key_signs_and_only_its_own_bytes_verify(tmp_path: Path, signer: FileSigner) -> None:
    again = load_signer(f"file:{tmp_path / 'k.pem'}")
    assert isinstance(again, Signer)
    assert again.keyid == signer.keyid == keyid_of(signer.public_bytes())
    signature = again.sign(b"payload")
    assert signature_ok(signer.public_bytes(), signature, b"payload")
    assert not signature_ok(signer.public_bytes(), signature, b"payloaD")
    assert not signature_ok(signer.public_bytes(), signature[:-1], b"payload")


def test_new_key_is_private_and_never_overwrites(tmp_path: Path, signer: FileSigner) -> None:
    path = tmp_path / "k.pem"
    before = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageError):
        FileSigner.create(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["k.pem"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622, 0o610])
def test_key_open_to_group_or_world_is_refused(tmp_path: Path, signer: FileSigner, mode: int) -> None:
    os.chmod(tmp_path / "k.pem", mode)
    with pytest.raises(InputError, match="by others") as caught:
        load_signer(f"file:{tmp_path / 'k.pem'}")
    assert "chmod 600" in str(caught.value.hint)


def test_passphrase_from_variable_or_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.pem"
    made = FileSigner.create(path, passphrase=b"correct horse")
    monkeypatch.setenv("EXPUNGE_TEST_PASS", "correct horse")
    assert load_signer(f"file:{path}?passphrase_env=EXPUNGE_TEST_PASS").keyid == made.keyid
    assert load_signer(f"file:{path}", ask=lambda _: "correct horse").keyid == made.keyid
    with pytest.raises(InputError, match="does not open"):
        load_signer(f"file:{path}", ask=lambda _: "wrong")
    with pytest.raises(InputError, match="no passphrase"):
        load_signer(f"file:{path}")
    assert "correct horse" not in repr(made)


def test_damaged_and_foreign_keys(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_bytes(b"-----BEGIN PRIVATE KEY-----\nnope\n-----END PRIVATE KEY-----\n")
    bad.chmod(0o600)
    with pytest.raises(InputError, match="does not open"):
        load_signer(f"file:{bad}")
    other = ec.generate_private_key(ec.SECP256R1())
    bad.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(InputError, match="another kind"):
        load_signer(f"file:{bad}")
    with pytest.raises(StorageError):
        load_signer(f"file:{tmp_path / 'missing.pem'}")
    with pytest.raises((InputError, StorageError)):
        load_signer(f"file:{tmp_path}")


@pytest.mark.parametrize("uri", ["keys/operator.pem", "file:", "file:x?passphrase=secret"])
def test_uris_that_name_no_key(uri: str) -> None:
    with pytest.raises(InputError):
        load_signer(uri)


def test_unknown_scheme_lists_what_there_is() -> None:
    with pytest.raises(RegistryError) as caught:
        load_signer("hsm:1")
    assert "file" in str(caught.value.expected)


def test_roots_round_trip(tmp_path: Path, signer: FileSigner) -> None:
    roots = TrustRoots(keys=(Root.of(signer, name="A", role="operator"),))
    write_roots(tmp_path / "roots.json", roots)
    assert read_roots(tmp_path / "roots.json") == roots
    assert roots.find(signer.keyid) == roots.keys[0]
    assert roots.find("0" * 64) is None
    with pytest.raises(EvidenceError, match="no log key"):
        roots.require("log")


def test_one_key_under_two_roles_is_refused(signer: FileSigner) -> None:
    with pytest.raises(InputError, match="appears twice"):
        TrustRoots(keys=(Root.of(signer, name="A", role="operator"), Root.of(signer, name="B", role="verifier")))


def test_forged_keyid_is_refused(signer: FileSigner) -> None:
    good = Root.of(signer, name="A", role="operator")
    with pytest.raises(InputError, match="not the SHA-256"):
        Root(name="A", role="operator", keyid="0" * 64, public=good.public)


def test_roots_file_is_strict(signer: FileSigner) -> None:
    good = Root.of(signer, name="A", role="operator")
    row = {"name": good.name, "role": good.role, "keyid": good.keyid, "public": good.public}
    assert parse_roots(json.dumps([row])).keys == (good,)
    for bad in (
        [{**row, "extra": 1}],
        [{**row, "role": "god"}],
        [{**row, "public": "****"}],
        [{**row, "name": ""}],
        [{k: v for k, v in row.items() if k != "keyid"}],
        {"keys": [row]},
        [row, row],
    ):
        with pytest.raises(InputError):
            parse_roots(json.dumps(bad))
    with pytest.raises(InputError, match="too large"):
        parse_roots(" " * (2 << 20))


def test_custody_is_the_same_unless_both_say_otherwise(tmp_path: Path, signer: FileSigner) -> None:
    other = FileSigner.create(tmp_path / "other.pem")
    assert custody_of(signer, other) == "same"
    other.custody = "hsm://elsewhere"
    assert custody_of(signer, other) == "separate"

    class Silent:
        keyid = "x"

        def sign(self, payload: bytes) -> bytes:
            return payload

        def public_bytes(self) -> bytes:
            return b""

    assert custody_of(signer, Silent()) == "same"
