"""What a published result saw: a bitmap over slots, bound to the task and to the result by digests.

Private (0600): it says which slots a model was trained on. A result whose manifest is missing, damaged or of another
result is treated as having seen everything.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.core.codec import canonical, loads, sha256_hex
from expunge.core.errors import ErasedRecord, InputError, IntegrityError
from expunge.evidence.durable import write_file

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Slots an artefact derives from: `bits` packs one bit per slot, first slot first, over `total` slots."""

    total: int
    bits: bytes

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Seen:
        """From a boolean per slot, shape (N,)."""
        return cls(total=len(mask), bits=np.packbits(mask).tobytes())

    @classmethod
    def all_but(cls, absent: Iterable[int], total: int) -> Seen:
        """Every slot but these."""
        mask = np.ones(total, bool)
        mask[list(absent)] = False
        return cls.of(mask)

    def mask(self) -> NDArray[np.bool_]:
        """A boolean per slot, shape (N,)."""
        return np.unpackbits(np.frombuffer(self.bits, np.uint8), count=self.total).astype(bool)

    def among(self, slots: Collection[int]) -> list[int]:
        """Which of these slots are in it, ascending; a slot beyond the end is not."""
        mask = self.mask()
        return [slot for slot in sorted(slots) if slot < self.total and mask[slot]]

    @property
    def digest(self) -> str:
        """`sha256:` of the bitmap."""
        return "sha256:" + hashlib.sha256(b"expunge/seen/v1|%d|" % self.total + self.bits).hexdigest()

    def text(self) -> str:
        """The bitmap as text."""
        return base64.b64encode(zlib.compress(self.bits, 9)).decode()

    @classmethod
    def parse(cls, text: str, total: int) -> Seen:
        """Inverse of `text`. Raises IntegrityError on anything but a bitmap of `total` slots."""
        try:
            bits = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), total // 8 + 2)
        except (ValueError, zlib.error) as error:
            raise IntegrityError("not a bitmap of slots", got=str(error)[:100]) from error
        if len(bits) != -(-total // 8):
            raise IntegrityError("a bitmap of another size", expected=f"{total} slots", got=f"{len(bits)} bytes")
        return cls(total=total, bits=bits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`function` and `key` are the task's, `result` is the digest of its published bytes, `seen` None = unknown."""

    function: str
    key: str
    result: str
    seen: Seen | None

    def write(self, home: Path) -> None:
        """Beside the result, 0600, durable before the result is."""
        plain = {"v": 1, "function": self.function, "key": self.key, "result": self.result}
        known = {} if self.seen is None else {"slots": self.seen.total, "seen": self.seen.text()}
        digest = {} if self.seen is None else {"digest": self.seen.digest}
        write_file(home / MANIFEST, canonical({**plain, **known, **digest}), mode=0o600)


def result_digest(data: bytes) -> str:
    """`sha256:` of a published result."""
    return "sha256:" + sha256_hex(data)


def read_manifest(home: Path) -> Manifest | None:
    """The manifest of the task in `home`, None if there is none. Raises IntegrityError when it is damaged."""
    file = home / MANIFEST
    if not file.exists():
        return None
    try:
        plain = loads(file.read_bytes(), what=MANIFEST)
        seen = Seen.parse(plain["seen"], int(plain["slots"])) if "seen" in plain else None
        if seen is not None and seen.digest != plain["digest"]:
            raise IntegrityError("the bitmap is not the one whose digest stands beside it")
        return Manifest(function=plain["function"], key=plain["key"], result=plain["result"], seen=seen)
    except (InputError, IntegrityError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(
            f"{MANIFEST} of a published result cannot be read", got=str(error)[:200], hint="discard the result"
        ) from error


def refuse_erased(home: Path, result: bytes, key: str, erased: Collection[int]) -> None:
    """Raises ErasedRecord unless the result in `home` says, for itself, that it saw none of these slots."""
    if not erased:
        return
    manifest = read_manifest(home)
    if manifest is None or manifest.seen is None:
        raise ErasedRecord(
            "a cached result does not say what it saw, and records have been erased",
            expected=f"a {MANIFEST} beside it",
            hint="discard it; it is computed again without them",
        )
    if (manifest.key, manifest.result) != (key, result_digest(result)):
        raise IntegrityError("the manifest of a cached result belongs to another result", hint="discard the result")
    seen = manifest.seen.among(erased)
    if seen:
        raise ErasedRecord(
            f"a cached result saw {len(seen)} records that have been erased since",
            expected="a result computed without them",
            hint="discard it, or retire its bank; it is not used again",
        )
