"""Keyed commitments: the log may keep them for ever, because without the key they are random bytes.

`hmac-sha256:<hex>` of HMAC(key, canonical JSON). The key is random and lives outside the log in a file that can be
destroyed; the requester is given an opening and can show later what was promised. HMAC is RFC 2104.
"""

from __future__ import annotations

import hmac
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.core.codec import Json, canonical, encode
from expunge.core.errors import InputError, IntegrityError
from expunge.evidence.durable import destroy_file, storage_errors, write_file

KEY_BYTES = 32
PREFIX = "hmac-sha256:"
_DERIVE = b"expunge/derive/v1\x00"
_COMMITMENT = re.compile(r"hmac-sha256:[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the holder shows: the key of this one commitment (hex) and the JSON that was committed to."""

    key: str
    value: Any


def keyed(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256, 32 bytes."""
    return hmac.digest(key, message, "sha256")


def derive(key: bytes, label: str) -> bytes:
    """A key for one purpose. Whoever has it learns neither the parent nor its siblings."""
    return keyed(_check(key), _DERIVE + label.encode())


def commit(key: bytes, noun: Any) -> str:
    """The commitment to a noun (or plain JSON) under a 32-byte key."""
    return PREFIX + keyed(_check(key), canonical(encode(noun))).hex()


def open_commitment(key: bytes, noun: Any) -> Opening:
    """What to hand to the person the commitment is about. The key should be theirs alone: derive one per case."""
    return Opening(key=_check(key).hex(), value=encode(noun))


def check_opening(commitment: str, opening: Opening) -> Json:
    """The committed JSON. Raises EvidenceError's kind IntegrityError when the opening is of something else."""
    try:
        again = commit(bytes.fromhex(opening.key), opening.value)
    except ValueError as error:
        raise InputError("the opening's key is not hex") from error
    if not is_commitment(commitment) or not hmac.compare_digest(again, commitment):
        raise IntegrityError("the opening does not belong to this commitment", expected=commitment[:80], got=again)
    return opening.value


def is_commitment(text: str) -> bool:
    """Whether this looks like one; it says nothing about its key."""
    return _COMMITMENT.match(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFile:
    """A random key in a file of mode 0600 that can be destroyed, and with it the meaning of its commitments."""

    path: Path

    @classmethod
    def create(cls, path: Path | str) -> KeyFile:
        """A new key; an existing file is never overwritten (StorageError)."""
        write_file(Path(path), os.urandom(KEY_BYTES), mode=0o600, replace=False)
        return cls(path=Path(path))

    def read(self) -> bytes:
        """The 32 bytes. Raises StorageError when it was destroyed, IntegrityError when it is damaged."""
        with storage_errors(self.path, "read key"):
            key = self.path.read_bytes()
        if len(key) != KEY_BYTES:
            raise IntegrityError(f"key file {self.path} is damaged", expected="32 bytes", got=f"{len(key)} bytes")
        return key

    def destroy(self) -> None:
        """Overwrite and unlink: commitments under this key can no longer be opened by us."""
        destroy_file(self.path)


def _check(key: bytes) -> bytes:
    if len(key) != KEY_BYTES:
        raise InputError("a commitment key has 32 bytes", got=f"{len(key)} bytes")
    return key
