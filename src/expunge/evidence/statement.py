"""The in-toto Statement v1 that carries the predicate. Built once, as canonical bytes, and signed as those bytes.

The predicate type is a URN in the experimental space, because we own no domain and will not squat on somebody's.
The subject's digest is named `tensorRoot`: it is a Merkle root over tensors, not the SHA-256 of any file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from expunge.core.codec import Json, canonical, decode, encode, loads, sha256_hex
from expunge.core.errors import EvidenceError, InputError
from expunge.evidence.predicate import Predicate
from expunge.evidence.sentence import sentence_of

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:x-expunge:deletion-certificate:v0.1"
_DIGEST = "tensorRoot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A parsed statement. `model` is the subject's tensor root; `digest` is of the bytes it was read from."""

    model: str
    predicate: Predicate
    digest: str


def statement_digest(payload: bytes) -> str:
    """`sha256:<hex>` of the statement's bytes: what `certificate.issued` logs and a co-signature names."""
    return "sha256:" + sha256_hex(payload)


def build_statement(predicate: Predicate) -> bytes:
    """Canonical bytes to sign. An empty sentence is generated; any other must be the generated one (InputError)."""
    sentence = sentence_of(predicate)
    if predicate.sentence not in ("", sentence):
        raise InputError("the sentence is generated, not written", expected=sentence, got=predicate.sentence[:200])
    return wrap(PREDICATE_TYPE, predicate.models.after, encode(replace(predicate, sentence=sentence)))


def parse_statement(payload: bytes) -> Statement:
    """Raises EvidenceError on another type or version, InputProblems with everything wrong in the predicate."""
    model, plain = unwrap(payload, PREDICATE_TYPE)
    predicate = decode(Predicate, plain, what="certificate predicate")
    if predicate.models.after != model:
        raise EvidenceError("the subject is not the model after", expected=predicate.models.after, got=model)
    return Statement(model=model, predicate=predicate, digest=statement_digest(payload))


def wrap(predicate_type: str, model: str, predicate: Json) -> bytes:
    """An in-toto Statement v1 about one model, as canonical bytes."""
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": "model", "digest": {_DIGEST: model.removeprefix("sha256:")}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )


def unwrap(payload: bytes, predicate_type: str) -> tuple[str, Json]:
    """(model, predicate as plain JSON). Raises EvidenceError on any other statement."""
    try:
        plain = loads(payload, what="statement")
    except InputError as error:
        raise EvidenceError(error.message, got=error.got, code="statement") from error
    if not isinstance(plain, dict) or plain.keys() != {"_type", "subject", "predicateType", "predicate"}:
        raise EvidenceError("not an in-toto statement", code="statement")
    if plain["_type"] != STATEMENT_TYPE or plain["predicateType"] != predicate_type:
        raise EvidenceError(
            "statement of an unknown type or version",
            expected=predicate_type,
            got=str(plain["predicateType"])[:120],
            hint="a newer expunge may know it",
            code="statement",
        )
    return _subject(plain["subject"]), plain["predicate"]


def _subject(plain: Json) -> str:
    match plain:
        case [{"name": "model", "digest": {"tensorRoot": str(root), **more}, **rest}] if not rest and not more:
            return f"sha256:{root}"
    raise EvidenceError("a certificate has one subject, the model", got=str(plain)[:120], code="statement")
