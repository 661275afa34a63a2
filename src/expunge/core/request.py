"""The request of a person, an artist or a court, in the words of GDPR Art. 17."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from expunge.core.codec import LATER
from expunge.core.errors import InputError

Unit = Literal["records", "interaction", "window", "item"]
"""What is deleted: whole records, or events: named pairs of user and item, users' events in a time window, items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """How the subject's records are named. `kind` is `id` (exact record ids), `block` (all records of a block) or `style`: not
    works are asked about, but that a text-to-image model does not draw one artist's style."""

    kind: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in ("id", "block", "style"):
            raise InputError("unknown selector", expected="id, block or style", got=self.kind)
        if not self.values:
            raise InputError("an empty selector selects nothing", hint="name at least one record")
        _once(self.values, "a record")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSelector:
    """Events of users' histories: of these users, with these items, in [since, until) seconds since 1970.

    Users and items: every pair, each of which must exist. Users and a window: what they had in it. Items alone: whoever
    had them. The users remain, with everything else.
    """

    users: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None

    def __post_init__(self) -> None:
        _once(self.users, "a user")
        _once(self.items, "an item")
        if not self.users and not self.items:
            raise InputError("the request names no event", hint="give a user and an item, or a user and a time window")
        if self.users and not self.items and not self.timed:
            raise InputError("users without items or times are whole records", hint="name them as ids")
        if self.timed and not self.users:
            raise InputError(
                "a time window of an item is not supported",
                expected="whose events, or the whole item",
                hint="name the users, or delete the item",
            )
        if None not in (self.since, self.until) and self.since >= self.until:  # type: ignore[operator]
            raise InputError("an empty time window", expected="since before until", got=f"{self.since}..{self.until}")

    @property
    def timed(self) -> bool:
        """Is there a time window?"""
        return (self.since, self.until) != (None, None)

    @property
    def unit(self) -> Unit:
        """What the certificate calls it."""
        if not self.users:
            return "item"
        return "interaction" if self.items else "window"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionRequest:
    """One erasure request, of records (`selectors`) or of events (`events`).

    Times are aware UTC; `due` is when the controller must have answered (Art. 12(3)).
    """

    id: str
    received: datetime
    subject: str
    selectors: tuple[Selector, ...]
    models: tuple[str, ...]
    basis: str = "GDPR Art. 17(1)(b)"
    regime: str = "GDPR"
    due: datetime | None = None
    events: EventSelector | None = field(default=None, metadata={LATER: True})

    def __post_init__(self) -> None:
        if not self.selectors and self.events is None:
            raise InputError("the request names no record", hint="give --id ID or --block BLOCK")
        if self.selectors and self.events is not None:
            raise InputError(
                "whole records and single events in one request",
                hint="file two requests: their proofs and their certificates differ",
            )
        if "style" in {selector.kind for selector in self.selectors} and self.style is None:
            raise InputError(
                "a style is asked about alone, one a request", hint="ask for works in a request of their own"
            )
        for moment in (self.received, self.due):
            if moment is not None and moment.tzinfo is None:
                raise InputError("request times need a zone", got=moment.isoformat())

    @property
    def unit(self) -> Unit:
        """What it asks to delete."""
        return "records" if self.events is None else self.events.unit

    @property
    def style(self) -> str | None:
        """The style it is about, where it asks for no works."""
        match self.selectors:
            case (Selector(kind="style", values=(name,)),):
                return name
        return None


def _once(values: tuple[str, ...], what: str) -> None:
    repeated = sorted(value for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise InputError(f"the request names {what} twice", got=", ".join(repeated[:5]))
