"""The request of a person, an artist or a court, in the words of GDPR Art. 17."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from expunge.core.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """How the subject's records are named. `kind` is `id` (exact record ids) or `block` (all records of a block)."""

    kind: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in ("id", "block"):
            raise InputError("unknown selector", expected="id or block", got=self.kind)
        if not self.values:
            raise InputError("an empty selector selects nothing", hint="name at least one record")
        repeated = sorted(value for value, count in Counter(self.values).items() if count > 1)
        if repeated:
            raise InputError("the request names a record twice", got=", ".join(repeated[:5]))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionRequest:
    """One erasure request. Times are aware UTC; `due` is when the controller must have answered (Art. 12(3))."""

    id: str
    received: datetime
    subject: str
    selectors: tuple[Selector, ...]
    models: tuple[str, ...]
    basis: str = "GDPR Art. 17(1)(b)"
    regime: str = "GDPR"
    due: datetime | None = None

    def __post_init__(self) -> None:
        if not self.selectors:
            raise InputError("the request names no record", hint="give --id ID or --block BLOCK")
        for moment in (self.received, self.due):
            if moment is not None and moment.tzinfo is None:
                raise InputError("request times need a zone", got=moment.isoformat())
