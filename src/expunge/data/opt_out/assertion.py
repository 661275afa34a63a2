"""The training and data mining assertion of CAWG 1.x (and the C2PA assertion that it took over), already parsed to JSON.

Reading and validating the manifest in a file is its library's work: no binary format is opened here, and no signature is
checked. An assertion that was forged into a file can only keep the file out of a training.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from expunge.core.codec import canonical
from expunge.core.errors import DataError, InputError
from expunge.data.opt_out.signals import Protocol, Says, Signal, digest_of_bytes

MOST_ENTRIES = 64
_LARGEST = 64 << 10
_PREFIXES = ("cawg.", "c2pa.")
TRAINING = frozenset({"ai_generative_training", "ai_training", "data_mining"})
"""Entries that are about training; `ai_inference` is not."""
_USES = {"allowed": Says.PERMITTED, "notAllowed": Says.RESERVED, "constrained": Says.RESERVED}
"""A constraint is a condition that no loader can check, so it reserves."""


def read_assertion(plain: Any) -> Says:
    """What an assertion {"entries": {name: {"use": ...}}} says about training; the strictest entry counts. Raises DataError on
    what is none, on more than 64 entries and on a use that the assertion does not have."""
    entries = plain.get("entries") if isinstance(plain, Mapping) else None
    if not isinstance(entries, Mapping) or len(entries) > MOST_ENTRIES:
        raise DataError("no training-mining assertion", expected=f"an object with at most {MOST_ENTRIES} entries")
    said = set()
    for name, entry in entries.items():
        use = entry.get("use") if isinstance(entry, Mapping) else None
        if not isinstance(use, str) or use not in _USES:
            raise DataError(f"entry {str(name)[:60]} of the assertion", expected=", ".join(_USES), got=repr(use)[:40])
        if _bare(str(name)) in TRAINING:
            said.add(_USES[use])
    return next((answer for answer in (Says.RESERVED, Says.PERMITTED) if answer in said), Says.SILENT)


def assertion_signal(plain: Any, *, where: str, read: datetime) -> Signal:
    """The same as a signal; one that cannot be read says so."""
    try:
        data = canonical(plain)
        says = read_assertion(plain) if len(data) <= _LARGEST else Says.UNREADABLE
    except InputError:
        data, says = b"", Says.UNREADABLE
    return Signal(protocol=Protocol.CAWG, says=says, where=where, read=read, digest=digest_of_bytes(data))


def _bare(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
