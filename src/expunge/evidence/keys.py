"""Keys by URI, and the relying party's trust roots. One key has one id and one role, whoever names it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from expunge.core import registry
from expunge.core.codec import canonical, decode, encode, loads, sha256_hex
from expunge.core.errors import EvidenceError, InputError, InputProblems
from expunge.core.protocols import Signer
from expunge.evidence.durable import storage_errors, write_file

Role = Literal["operator", "verifier", "log"]
Ask = Callable[[str], str]

PUBLIC_BYTES = 32
_MAX_ROOTS_BYTES = 1 << 20


def keyid_of(public: bytes) -> str:
    """Hex SHA-256 of the raw 32-byte Ed25519 public key."""
    if len(public) != PUBLIC_BYTES:
        raise InputError("not an Ed25519 public key", expected="32 bytes", got=f"{len(public)} bytes")
    return sha256_hex(public)


def signature_ok(public: bytes, signature: bytes, payload: bytes) -> bool:
    """Whether `signature` is this Ed25519 key's over these very bytes (RFC 8032)."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, payload)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_signer(uri: str, *, ask: Ask | None = None) -> Signer:
    """The signer behind a key URI such as `file:keys/operator.pem`; its scheme is a file name in evidence/signers.

    `ask` is called with a prompt when the key wants a passphrase, which therefore never stands in a URI or a log.
    """
    scheme, colon, _ = uri.partition(":")
    if not colon:
        raise InputError("a key is named by a URI", expected="scheme:..., e.g. file:keys/operator.pem", got=scheme[:80])
    return cast(Signer, registry.load("signers", scheme).open(uri, ask=ask))


def custody_of(operator: Signer, verifier: Signer) -> Literal["same", "separate"]:
    """`same` unless both signers say where their key lives and the places differ: no answer counts as the same."""
    places = [getattr(signer, "custody", None) for signer in (operator, verifier)]
    return "separate" if None not in places and places[0] != places[1] else "same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """One trusted public key: who holds it and what it may sign. `public` is base64 of the raw 32 bytes."""

    name: str
    role: Role
    keyid: str
    public: str

    def __post_init__(self) -> None:
        if not self.name or any(ord(c) < 32 for c in self.name):
            raise InputError("a root needs a printable name", got=repr(self.name))
        if keyid_of(self.raw) != self.keyid:
            raise InputError(f"key id of root {self.name!r} is not the SHA-256 of its key", got=self.keyid[:80])

    @property
    def raw(self) -> bytes:
        """The 32 raw bytes."""
        try:
            return base64.b64decode(self.public, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InputError(f"public key of root {self.name!r} is not base64") from error

    @classmethod
    def of(cls, signer: Signer, *, name: str, role: Role) -> Root:
        """The root that trusts this signer."""
        public = signer.public_bytes()
        return cls(name=name, role=role, keyid=keyid_of(public), public=base64.b64encode(public).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRoots:
    """The keys a relying party trusts. Empty is allowed here and refused by whoever verifies with it."""

    keys: tuple[Root, ...]

    def __post_init__(self) -> None:
        ids = [root.keyid for root in self.keys]
        repeated = sorted({keyid for keyid in ids if ids.count(keyid) > 1})
        if repeated:
            raise InputProblems(
                "trust roots", [f"key {keyid[:16]}… appears twice; one key has one role" for keyid in repeated]
            )

    def role(self, *roles: str) -> tuple[Root, ...]:
        """Roots that hold one of these roles."""
        return tuple(root for root in self.keys if root.role in roles)

    def find(self, keyid: str) -> Root | None:
        """The root with this key id, if it is trusted."""
        return next((root for root in self.keys if root.keyid == keyid), None)

    def require(self, *roles: str) -> tuple[Root, ...]:
        """Like `role`, but none is an EvidenceError: an empty list of keys would verify anything or nothing."""
        found = self.role(*roles)
        if not found:
            raise EvidenceError(
                f"the trust roots hold no {' or '.join(roles)} key",
                hint="get the issuer's public keys from a channel you trust, not from the bundle",
                code="no-roots",
            )
        return found


def parse_roots(data: bytes | str) -> TrustRoots:
    """Strict JSON: a list of {name, role, keyid, public}. Raises InputError with every problem."""
    if len(data) > _MAX_ROOTS_BYTES:
        raise InputError("trust roots file is too large", expected=f"at most {_MAX_ROOTS_BYTES} bytes")
    return TrustRoots(keys=decode(tuple[Root, ...], loads(data, what="trust roots"), what="trust roots"))


def read_roots(path: Path | str) -> TrustRoots:
    """`parse_roots` of a file. Raises StorageError when it cannot be read."""
    with storage_errors(Path(path), "read trust roots"):
        data = Path(path).read_bytes()
    return parse_roots(data)


def write_roots(path: Path | str, roots: TrustRoots | Iterable[Root]) -> None:
    """Write the file `read_roots` reads, atomically. Public keys only."""
    checked = roots if isinstance(roots, TrustRoots) else TrustRoots(keys=tuple(roots))
    write_file(Path(path), canonical(encode(checked.keys)) + b"\n")
