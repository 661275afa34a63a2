"""DSSE: the exact bytes that are signed, and the flow in which the verifier signs on another machine."""

from __future__ import annotations

import base64
import copy
from pathlib import Path

import pytest

from expunge.core.errors import EvidenceError, InputError
from expunge.evidence.envelope import PAYLOAD_TYPE, add_signature, payload_of, sign_envelope, verify_envelope
from expunge.evidence.keys import Root, TrustRoots, signature_ok
from expunge.evidence.signers.file import FileSigner

# Not canonical JSON on purpose: what is signed is bytes, and whoever re-serialises them breaks the signature.
PAYLOAD = b'{ "b": 1,\n  "a": 1.0 }\xff'


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, FileSigner]:
    return {role: FileSigner.create(tmp_path / f"{role}.pem") for role in ("operator", "verifier")}


@pytest.fixture
def roots(keys: dict[str, FileSigner]) -> TrustRoots:
    return TrustRoots(keys=tuple(Root.of(key, name=role, role=role) for role, key in keys.items()))  # type: ignore[arg-type]


def test_signature_is_over_the_pre_authentication_encoding(keys: dict[str, FileSigner]) -> None:
    envelope = sign_envelope(b"hello world", [keys["operator"]], payload_type="http://example.com/HelloWorld")
    # The example of the DSSE protocol document.
    signed = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    raw = base64.b64decode(envelope["signatures"][0]["sig"])
    assert signature_ok(keys["operator"].public_bytes(), raw, signed)


def test_payload_comes_back_byte_for_byte(keys: dict[str, FileSigner], roots: TrustRoots) -> None:
    envelope = sign_envelope(PAYLOAD, list(keys.values()))
    before = copy.deepcopy(envelope)
    opened = verify_envelope(envelope, roots)
    assert opened.payload == PAYLOAD == payload_of(envelope)
    assert {root.role for root in opened.signers} == {"operator", "verifier"}
    assert [root.name for root in opened.role("verifier")] == ["verifier"]
    assert envelope == before  # the library's from_dict would have eaten it


def test_second_signature_is_added_without_touching_the_payload(keys: dict[str, FileSigner], roots: TrustRoots) -> None:
    half = sign_envelope(PAYLOAD, [keys["operator"]])
    with pytest.raises(EvidenceError, match="signatures it needs"):
        verify_envelope(half, roots)
    whole = add_signature(half, keys["verifier"])
    assert verify_envelope(whole, roots).payload == PAYLOAD
    with pytest.raises(InputError, match="already"):
        add_signature(whole, keys["operator"])


def test_foreign_signatures_do_not_hide_the_good_ones(
    keys: dict[str, FileSigner], roots: TrustRoots, tmp_path: Path
) -> None:
    strangers = [FileSigner.create(tmp_path / f"{k}.pem") for k in range(3)]
    envelope = sign_envelope(PAYLOAD, [*strangers, keys["operator"], keys["verifier"]])
    assert len(verify_envelope(envelope, roots).signers) == 2


def test_a_signature_under_a_borrowed_key_id(keys: dict[str, FileSigner], roots: TrustRoots, tmp_path: Path) -> None:
    stranger = FileSigner.create(tmp_path / "s.pem")
    envelope = sign_envelope(PAYLOAD, [keys["operator"], stranger])
    envelope["signatures"][1]["keyid"] = keys["verifier"].keyid
    with pytest.raises(EvidenceError, match="signatures it needs"):
        verify_envelope(envelope, roots)


def test_another_payload_type_is_another_promise(keys: dict[str, FileSigner], roots: TrustRoots) -> None:
    envelope = sign_envelope(PAYLOAD, list(keys.values()), payload_type="text/plain")
    with pytest.raises(EvidenceError, match="another type"):
        verify_envelope(envelope, roots)
    relabelled = {**envelope, "payloadType": PAYLOAD_TYPE}
    with pytest.raises(EvidenceError, match="signatures it needs"):
        verify_envelope(relabelled, roots)


@pytest.mark.parametrize(("threshold", "roles"), [(0, {"operator"}), (1, set())])
def test_thresholds_that_accept_anything_are_refused(
    keys: dict[str, FileSigner], roots: TrustRoots, threshold: int, roles: set[str]
) -> None:
    envelope = sign_envelope(PAYLOAD, list(keys.values()))
    with pytest.raises(InputError):
        verify_envelope(envelope, roots, threshold=threshold, roles=roles)
