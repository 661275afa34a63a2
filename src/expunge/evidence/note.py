"""C2SP signed notes and checkpoints (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), with Ed25519 only.

A checkpoint is three lines of text (origin, size, base64 root), a blank line, and signature lines
`— name base64(key hash || signature)`, where the key hash is the first 4 bytes of SHA-256(name || 0x0A || 0x01 || key).
Unknown signatures are skipped, as the specification asks; a known key with a wrong signature refuses the note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from expunge.core.errors import EvidenceError, InputError
from expunge.core.protocols import Signer
from expunge.evidence.keys import Root, TrustRoots, signature_ok
from expunge.evidence.merkle import HASH_BYTES

_ED25519 = b"\x01"
_MAX_NOTE_CHARS = 65_536
_MAX_SIGNATURES = 100
_SIGNATURE_BYTES = 64
_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})\Z")
_SIZE = re.compile(r"(0|[1-9][0-9]{0,15})\Z")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A log's promise: the tree of its first `size` entries has this 32-byte root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The signed text: three lines."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedNote:
    """A note's text and the trusted keys that signed it, each with the name on its signature line."""

    text: str
    signers: tuple[tuple[str, Root], ...]


def key_hash(name: str, public: bytes) -> bytes:
    """The 4 bytes that tell which key a signature line is of."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def check_name(name: str) -> str:
    """A key name has no space and no plus. Raises InputError."""
    if not name or re.search(r"[\s+\x00-\x1f]", name):
        raise InputError("not a key name", expected="text without spaces and plus signs", got=repr(name[:80]))
    return name


def sign_note(text: str, *, name: str, signer: Signer) -> str:
    """The note: text, blank line, one signature line. `text` ends with a newline."""
    if not text.endswith("\n") or _CONTROL.search(text):
        raise InputError("not a note text", expected="printable lines, the last one ended")
    check_name(name)
    blob = key_hash(name, signer.public_bytes()) + signer.sign(text.encode())
    return f"{text}\n— {name} {base64.b64encode(blob).decode()}\n"


def open_note(note: str, roots: TrustRoots | Iterable[Root]) -> OpenedNote:
    """The text, if at least one of these keys signed it. Raises EvidenceError on anything else."""
    text, lines = _split_note(note)
    trusted = roots.keys if isinstance(roots, TrustRoots) else tuple(roots)
    good: dict[str, tuple[str, Root]] = {}
    for line in lines:
        name, blob = _parse_line(line)
        for root in trusted:
            if blob[:4] != key_hash(name, root.raw) or len(blob) != 4 + _SIGNATURE_BYTES:
                continue
            if not signature_ok(root.raw, blob[4:], text.encode()):
                raise EvidenceError(f"signature of {root.name!r} on the note is wrong", code="signature")
            good[root.keyid] = (name, root)
    if not good:
        raise EvidenceError(
            "no trusted key signed the note", expected="a signature by one of your roots", code="signature"
        )
    return OpenedNote(text=text, signers=tuple(good.values()))


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint in a note's text (open the note first). Extension lines are refused: we write none."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0] or not _SIZE.match(lines[1]):
        raise EvidenceError("not a checkpoint", expected="origin, size and root on three lines", code="checkpoint")
    try:
        root = base64.b64decode(lines[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise EvidenceError("checkpoint root is not base64", code="checkpoint") from error
    checkpoint = Checkpoint(origin=lines[0], size=int(lines[1]), root=root)
    if len(root) != HASH_BYTES or checkpoint.text != text:
        raise EvidenceError("checkpoint root is not 32 bytes in plain base64", code="checkpoint")
    return checkpoint


def open_checkpoint(note: str, roots: TrustRoots | Iterable[Root]) -> Checkpoint:
    """A checkpoint signed by a trusted key under the log's own name. Raises EvidenceError."""
    opened = open_note(note, roots)
    checkpoint = parse_checkpoint(opened.text)
    if checkpoint.origin not in {name for name, _ in opened.signers}:
        raise EvidenceError(
            "the checkpoint is not signed in the log's name", expected=checkpoint.origin, code="checkpoint"
        )
    return checkpoint


def _split_note(note: str) -> tuple[str, list[str]]:
    body, blank, tail = note.rpartition("\n\n")
    lines = tail.split("\n")
    ok = blank and body and lines[-1] == "" and 1 <= len(lines) - 1 <= _MAX_SIGNATURES
    if not ok or len(note) > _MAX_NOTE_CHARS or _CONTROL.search(note):
        raise EvidenceError("not a signed note", expected="text, a blank line, signature lines", code="note")
    return body + "\n", lines[:-1]


def _parse_line(line: str) -> tuple[str, bytes]:
    match = _LINE.match(line)
    try:
        blob = base64.b64decode(match.group(2), validate=True) if match else b""
    except (binascii.Error, ValueError):
        blob = b""
    if match is None or len(blob) <= 4:
        raise EvidenceError("malformed signature line in the note", got=line[:80], code="note")
    return match.group(1), blob
