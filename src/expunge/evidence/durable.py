"""Small files that are either wholly there or not there at all, and the errors of disks in our words."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from expunge.core.errors import StorageError

_BLOCK = 1 << 20


@contextmanager
def storage_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn OSError into StorageError that names the file and what was being done."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot {doing} {path}",
            got=error.strerror or str(error),
            hint="check free space, permissions and the path; nothing acknowledged was lost",
        ) from error


def write_file(path: Path, data: bytes, *, mode: int = 0o644, replace: bool = True) -> None:
    """Write, fsync and rename, then fsync the folder: a crash leaves the old file or the new one.

    With `replace=False` an existing file is an error (private keys are never overwritten). Raises StorageError.
    """
    path = Path(path)
    with storage_errors(path, "write"):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(name, path)
            else:
                os.link(name, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)
        _sync_folder(path.parent)


def destroy_file(path: Path) -> None:
    """Overwrite with random bytes, fsync, unlink. No promise on SSDs, journals, snapshots or backups: say so there.

    A large file gets the same random block over and over: what was there is gone either way.
    """
    with storage_errors(path, "destroy"):
        with open(path, "r+b") as file:
            length = os.fstat(file.fileno()).st_size
            block = os.urandom(min(length, _BLOCK))
            for start in range(0, length, _BLOCK):
                file.write(block[: length - start])
            file.flush()
            os.fsync(file.fileno())
        os.unlink(path)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
