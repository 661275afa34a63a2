"""The co-signature of somebody who re-executed the recipe and got the same weights: "as logged" becomes "recomputed".

A statement of its own, signed by a third key, that names the certificate by the digest of its statement. Who recomputed
is taken from the relying party's roots, not from what the statement says of itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from expunge.core.codec import Json, decode, encode
from expunge.core.errors import EvidenceError, InputError
from expunge.core.plan import Numerics
from expunge.core.protocols import Signer
from expunge.core.refs import check_digest
from expunge.evidence.envelope import sign_envelope, verify_envelope
from expunge.evidence.keys import TrustRoots
from expunge.evidence.statement import unwrap, wrap

PREDICATE_TYPE = "urn:x-expunge:recompute:v0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recompute:
    """`certificate` is a statement digest, `model` the recomputed tensor root; `by` is how the signer calls itself."""

    certificate: str
    model: str
    numerics: Numerics
    by: str
    at: datetime

    def __post_init__(self) -> None:
        check_digest(self.certificate)
        check_digest(self.model)
        if not self.by:
            raise InputError("a recomputation names who did it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosigned:
    """A checked recomputation. `name` and `keyid` are of the relying party's root that signed it."""

    recompute: Recompute
    name: str
    keyid: str


def sign_recompute(recompute: Recompute, signer: Signer) -> dict[str, Json]:
    """The DSSE envelope of the co-signature."""
    return sign_envelope(wrap(PREDICATE_TYPE, recompute.model, encode(recompute)), [signer])


def verify_recompute(
    envelope: Mapping[str, Json], roots: TrustRoots, *, certificate: str, model: str, issuers: Collection[str]
) -> Cosigned:
    """A trusted verifier key that is none of the certificate's `issuers` (key ids) recomputed this very model.

    Raises EvidenceError, or InputProblems when the statement is malformed.
    """
    opened = verify_envelope(envelope, roots, threshold=1, roles={"verifier"})
    subject, plain = unwrap(opened.payload, PREDICATE_TYPE)
    recompute = decode(Recompute, plain, what="recompute statement")
    others = [root for root in opened.signers if root.keyid not in issuers]
    if not others:
        raise EvidenceError("who recomputed is who issued", expected="a key that did not sign the certificate")
    if recompute.certificate != certificate:
        raise EvidenceError(
            "the co-signature is of another certificate", expected=certificate, got=recompute.certificate
        )
    if recompute.model != model or subject != model:
        raise EvidenceError("recomputation gave another model", expected=model, got=recompute.model)
    return Cosigned(recompute=recompute, name=others[0].name, keyid=others[0].keyid)
