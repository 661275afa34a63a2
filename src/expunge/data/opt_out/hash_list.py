"""Lists of works that may not be trained on, by hex SHA-256, one a line. Kept locally: a registry may be gone tomorrow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from expunge.core.errors import DataError
from expunge.data.opt_out.signals import Protocol, Says, Signal, digest_of_bytes
from expunge.evidence.durable import storage_errors

LARGEST = 256 << 20
_LINE = re.compile(rb"(?:sha256:)?([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class HashList:
    """Digests (32 bytes each) of a list, and the list's own."""

    name: str
    digest: str
    works: frozenset[bytes]

    def signal(self, work: str, *, read: datetime) -> Signal:
        """What the list says of a work by its hex SHA-256; a work that is not on it was not permitted either."""
        says = Says.RESERVED if bytes.fromhex(work) in self.works else Says.SILENT
        return Signal(protocol=Protocol.HASH_LIST, says=says, where=self.name, read=read, digest=self.digest)


def read_hash_list(path: Path) -> HashList:
    """A list from a file; `#` begins a comment. Raises DataError on a file that is too large, or on a line that is no digest:
    a list that is half understood would let works through."""
    with storage_errors(path, "read"):
        if path.stat().st_size > LARGEST:
            raise DataError("a hash list of this size is not read", expected=f"at most {LARGEST} bytes")
        data = path.read_bytes()
    works = set()
    for number, line in enumerate(data.splitlines(), 1):
        text = line.partition(b"#")[0].strip()
        found = _LINE.fullmatch(text)
        if found is not None:
            works.add(bytes.fromhex(found[1].decode()))
        elif text:
            raise DataError(f"line {number} of {path.name} is no digest", expected="64 hex digits")
    if not works:
        raise DataError(f"{path.name} lists no work", hint="an empty list would permit everything")
    return HashList(name=path.name, digest=digest_of_bytes(data), works=frozenset(works))
