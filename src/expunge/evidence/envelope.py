"""DSSE envelopes (secure-systems-lab/dsse) with two keys of two roles, through securesystemslib.

The payload is signed and verified as the bytes that are stored; nothing is ever re-serialised to be checked. What the
library leaves open is closed here: it stops at the first keys that suffice and knows no roles, `from_dict` eats its
argument, and base64 is read leniently; so every trusted key is asked on its own, on a copy, after a strict parse.
"""

from __future__ import annotations

import base64
import binascii
import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signature, SSlibKey

from expunge.core.codec import Json
from expunge.core.errors import EvidenceError, InputError
from expunge.core.protocols import Signer
from expunge.evidence.keys import Root, TrustRoots

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ROLES = frozenset({"operator", "verifier"})
_MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A verified payload, byte for byte, and the trusted keys that signed it."""

    payload: bytes
    signers: tuple[Root, ...]

    def role(self, role: str) -> tuple[Root, ...]:
        """Signers that hold this role."""
        return tuple(root for root in self.signers if root.role == role)


class _Adapter:
    """Our Signer as securesystemslib calls one."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def sign(self, payload: bytes) -> Any:
        return Signature(self._signer.keyid, self._signer.sign(payload).hex())


def sign_envelope(payload: bytes, signers: Sequence[Signer], *, payload_type: str = PAYLOAD_TYPE) -> dict[str, Json]:
    """The envelope as plain JSON. Raises InputError when a key signs twice or nobody signs."""
    keyids = [signer.keyid for signer in signers]
    if not keyids or len(set(keyids)) != len(keyids):
        raise InputError("an envelope needs distinct keys", expected="each signer once", got=f"{len(keyids)} signers")
    envelope = Envelope(payload, payload_type, {})
    for signer in signers:
        envelope.sign(_Adapter(signer))
    plain: dict[str, Json] = envelope.to_dict()
    return plain


def add_signature(envelope: Mapping[str, Json], signer: Signer) -> dict[str, Json]:
    """The same envelope with one more signature, e.g. of a verifier on another machine. The payload is not touched."""
    parsed = _parse(envelope)
    if signer.keyid in parsed.signatures:
        raise InputError("this key has signed already", got=signer.keyid)
    parsed.sign(_Adapter(signer))
    plain: dict[str, Json] = parsed.to_dict()
    return plain


def payload_of(envelope: Mapping[str, Json]) -> bytes:
    """The payload, *unverified*. Raises EvidenceError on a malformed envelope."""
    payload: bytes = _parse(envelope).payload
    return payload


def verify_envelope(
    envelope: Mapping[str, Json],
    roots: TrustRoots,
    *,
    threshold: int = 2,
    roles: Collection[str] = ROLES,
    payload_type: str = PAYLOAD_TYPE,
) -> Opened:
    """At least `threshold` distinct trusted keys signed, and every role in `roles` is among them.

    Raises EvidenceError otherwise. Keys of other roles and unknown keys do not count; empty roots are refused.
    """
    if threshold < 1 or not roles:
        raise InputError("a threshold below 1 or no role would accept anything")
    trusted = roots.require(*sorted(roles))
    parsed = _parse(envelope)
    if parsed.payload_type != payload_type:
        raise EvidenceError("envelope of another type", expected=payload_type, got=str(parsed.payload_type)[:80])
    good = tuple(root for root in trusted if _signed_by(parsed, root))
    missing = sorted(set(roles) - {root.role for root in good})
    if len(good) < threshold or missing:
        raise EvidenceError(
            "the envelope does not have the signatures it needs",
            expected=f"{threshold} distinct keys with the roles {', '.join(sorted(roles))}",
            got=", ".join(f"{root.name} ({root.role})" for root in good) or "none by a trusted key",
            code="signature",
        )
    return Opened(payload=parsed.payload, signers=good)


def _signed_by(envelope: Any, root: Root) -> bool:
    key = SSlibKey(root.keyid, "ed25519", "ed25519", {"public": root.raw.hex()})
    try:
        envelope.verify([key], threshold=1)
    except VerificationError:
        return False
    return True


def _parse(envelope: Mapping[str, Json]) -> Any:
    """A securesystemslib Envelope from strictly formed JSON."""
    if not isinstance(envelope, Mapping) or envelope.keys() != {"payload", "payloadType", "signatures"}:
        raise EvidenceError("not a DSSE envelope", expected="exactly payload, payloadType and signatures")
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or not 0 < len(signatures) <= _MAX_SIGNATURES:
        raise EvidenceError("an envelope has 1 to 16 signatures")
    texts = [envelope["payload"], envelope["payloadType"]]
    for signature in signatures:
        if not isinstance(signature, Mapping) or signature.keys() != {"keyid", "sig"}:
            raise EvidenceError("a signature has exactly keyid and sig")
        texts += [signature["keyid"], signature["sig"]]
    if not all(isinstance(text, str) for text in texts):
        raise EvidenceError("a field of the envelope is not text")
    for text in (texts[0], *texts[3::2]):
        _check_base64(text)
    try:
        return Envelope.from_dict(copy.deepcopy(dict(envelope)))
    except ValueError as error:  # one key id twice
        raise EvidenceError("one key signs twice in the envelope", got=str(error)[:120]) from error


def _check_base64(text: str) -> None:
    try:
        exact = base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except (binascii.Error, ValueError):
        exact = False
    if not exact:
        raise EvidenceError("a field of the envelope is not plain base64", got=text[:40])
