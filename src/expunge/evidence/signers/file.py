"""An Ed25519 key in a PKCS#8 PEM file: `file:PATH` or `file:PATH?passphrase_env=NAME`.

The file must belong to this user (or root) and be closed to group and others; a key anyone can read signs for anyone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from expunge.core.errors import InputError
from expunge.evidence.durable import storage_errors, write_file
from expunge.evidence.keys import keyid_of

_SCHEME = "file:"
_PARAMETER = "passphrase_env="
_MAX_KEY_BYTES = 1 << 16


class FileSigner:
    """Signs with a private key held in a file. `custody` is where the key lives: host and user."""

    __slots__ = ("_key", "custody", "keyid")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.keyid = keyid_of(self.public_bytes())
        self.custody = f"file://{os.uname().nodename}/uid/{os.geteuid()}"

    @classmethod
    def open(cls, uri: str, *, ask: Callable[[str], str] | None = None) -> FileSigner:
        """Read the key. Raises InputError on wrong permissions, format or passphrase, StorageError on I/O."""
        path, variable = _parse(uri)
        return cls(_decrypt(path, _read_private(path), variable, ask))

    @classmethod
    def create(cls, path: Path | str, *, passphrase: bytes | None = None) -> FileSigner:
        """A new key in a new file of mode 0600. An existing file is never overwritten: StorageError."""
        key = Ed25519PrivateKey.generate()
        lock: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        write_file(Path(path), pem, mode=0o600, replace=False)
        return cls(key)

    def sign(self, payload: bytes) -> bytes:
        """64 bytes, RFC 8032."""
        return self._key.sign(payload)

    def public_bytes(self) -> bytes:
        """Raw 32-byte public key."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def __repr__(self) -> str:
        return f"FileSigner(keyid={self.keyid[:16]}…)"


def _parse(uri: str) -> tuple[Path, str | None]:
    rest = uri.removeprefix(_SCHEME).removeprefix("//")
    text, _, query = rest.partition("?")
    if not uri.startswith(_SCHEME) or not text or (query and not query.startswith(_PARAMETER)):
        raise InputError("not a file key URI", expected="file:PATH or file:PATH?passphrase_env=NAME")
    return Path(text), query.removeprefix(_PARAMETER) or None


def _read_private(path: Path) -> bytes:
    with storage_errors(path, "read key"), open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"key {path} is not a regular file")
        if status.st_mode & 0o077:
            raise InputError(
                f"key {path} can be read or written by others",
                expected="mode 0600",
                got=f"mode {stat.S_IMODE(status.st_mode):04o}",
                hint=f"chmod 600 {path}, and replace the key if others could have read it",
            )
        if status.st_uid not in (os.geteuid(), 0):
            raise InputError(f"key {path} belongs to another user", got=f"uid {status.st_uid}")
        return file.read(_MAX_KEY_BYTES)


def _decrypt(path: Path, pem: bytes, variable: str | None, ask: Callable[[str], str] | None) -> Ed25519PrivateKey:
    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in pem
    secret = _passphrase(path, variable, ask) if encrypted else None
    try:
        key = load_pem_private_key(pem, password=secret)
    except (ValueError, TypeError) as error:
        got = "a wrong passphrase or a damaged file" if encrypted else "something else"
        raise InputError(f"key {path} does not open", expected="an Ed25519 PKCS#8 PEM", got=got) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"key {path} is of another kind", expected="Ed25519", got=type(key).__name__)
    return key


def _passphrase(path: Path, variable: str | None, ask: Callable[[str], str] | None) -> bytes:
    if variable is not None and variable in os.environ:
        return os.environ[variable].encode()
    if ask is not None:
        return ask(f"Passphrase of {path}").encode()
    raise InputError(
        f"key {path} is encrypted and no passphrase was given",
        hint=f"set the variable {variable}" if variable else "use file:PATH?passphrase_env=NAME",
    )
