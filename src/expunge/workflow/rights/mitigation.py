"""The interim filter: names blocked in prompts, pictures close to the works filtered. Never a removal, and it expires.

A mitigation that runs out while its request is open is an incident, not an oversight: the model still draws what it drew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from expunge.core.errors import InputError
from expunge.workflow.rights.facts import check_record
from expunge.workflow.rights.policy import MITIGATION_LABEL, RightsPolicy

Filter = Literal["name_block", "similarity_filter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigation:
    """A filter in front of an unchanged model, for one request, in [since, until). `settings` is the digest of what it blocks."""

    request: str
    filter: Filter
    since: datetime
    until: datetime
    settings: str

    def __post_init__(self) -> None:
        check_record(self.settings, "a mitigation")
        if self.since.tzinfo is None or self.until.tzinfo is None:
            raise InputError("a mitigation begins and ends at times with a zone")
        if self.until <= self.since:
            raise InputError("a mitigation ends after it begins", got=f"{self.since} to {self.until}")

    @property
    def label(self) -> str:
        """What is said of it wherever it is listed."""
        return f"{MITIGATION_LABEL}: the weights are as they were."

    def active(self, now: datetime) -> bool:
        """Does it hold now?"""
        return self.since <= now < self.until


def mitigation_for(request: str, kind: Filter, settings: str, policy: RightsPolicy, since: datetime) -> Mitigation:
    """A filter from now on, for as long as the policy allows."""
    until = since + timedelta(days=policy.limits.mitigation_days)
    return Mitigation(request=request, filter=kind, since=since, until=until, settings=settings)


def check_mitigation(found: Mitigation, policy: RightsPolicy) -> None:
    """Raises InputError on one that would last longer than the policy allows: a filter for good is no interim measure."""
    longest = timedelta(days=policy.limits.mitigation_days)
    if found.until - found.since > longest:
        raise InputError("a mitigation that lasts too long", expected=f"at most {longest.days} days")


def active(found: Iterable[Mitigation], now: datetime) -> tuple[Mitigation, ...]:
    """Those that hold now, and no others."""
    return tuple(one for one in found if one.active(now))


def lapsed(found: Iterable[Mitigation], still_open: frozenset[str], now: datetime) -> tuple[str, ...]:
    """Requests that are not done with and have no mitigation left: each is an incident. Sorted."""
    filters = tuple(found)
    covered = {one.request for one in active(filters, now)}
    had = {one.request for one in filters if one.since <= now}
    return tuple(sorted((had & still_open) - covered))
