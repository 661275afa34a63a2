"""TDMRep (W3C community group report, 10 May 2024): text and data mining reserved by a header or /.well-known/tdmrep.json.

Where several rules of a file match a path, one that reserves is enough: the order in which they stand is not relied on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from expunge.core.codec import loads
from expunge.core.errors import DataError, InputError
from expunge.data.opt_out.robots import matches
from expunge.data.opt_out.signals import Protocol, Says, Signal, digest_of_bytes

LARGEST = 256 << 10
MOST_RULES = 5000
_LONGEST = 2048
_VALUES = {0: Says.PERMITTED, 1: Says.RESERVED}


def header_signal(value: str, *, where: str, read: datetime) -> Signal:
    """A `tdm-reservation` header: 1 reserves, 0 does not; anything else cannot be read."""
    says = {"0": Says.PERMITTED, "1": Says.RESERVED}.get(value.strip(), Says.UNREADABLE)
    digest = digest_of_bytes(value.encode("utf-8", "replace"))
    return Signal(protocol=Protocol.TDMREP, says=says, where=where, read=read, digest=digest)


def parse_tdmrep(data: bytes) -> tuple[tuple[str, Says], ...]:
    """(location, what it says) of every rule of a tdmrep.json. Raises DataError on one that is too large or none."""
    if len(data) > LARGEST:
        raise DataError("a tdmrep.json of this size is not read", expected=f"at most {LARGEST}", got=str(len(data)))
    try:
        plain = loads(data, what="tdmrep.json")
    except InputError as error:
        raise DataError("tdmrep.json is not JSON", got=error.got) from error
    if not isinstance(plain, list) or len(plain) > MOST_RULES:
        raise DataError("tdmrep.json is a list of rules", expected=f"at most {MOST_RULES}")
    return tuple(_rule(number, rule) for number, rule in enumerate(plain))


def _rule(number: int, rule: Any) -> tuple[str, Says]:
    location = rule.get("location") if isinstance(rule, Mapping) else None
    value = rule.get("tdm-reservation") if isinstance(rule, Mapping) else None
    if not isinstance(location, str) or not location.startswith("/") or len(location) > _LONGEST:
        raise DataError(f"rule {number} of tdmrep.json has no location", expected="a path")
    if not isinstance(value, int) or isinstance(value, bool) or value not in _VALUES:
        raise DataError(f"rule {number} of tdmrep.json", expected="tdm-reservation 0 or 1", got=repr(value)[:40])
    return location, _VALUES[value]


def file_signal(data: bytes, path: str, *, where: str, read: datetime) -> Signal:
    """What a tdmrep.json says of one path; a file that cannot be read says so."""
    try:
        said = {says for location, says in parse_tdmrep(data) if matches(location, path)}
    except DataError:
        said = {Says.UNREADABLE}
    order = (Says.RESERVED, Says.UNREADABLE, Says.PERMITTED)
    says = next((answer for answer in order if answer in said), Says.SILENT)
    return Signal(protocol=Protocol.TDMREP, says=says, where=where, read=read, digest=digest_of_bytes(data[:LARGEST]))
