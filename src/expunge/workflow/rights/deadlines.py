"""By when what is due, as aware times in UTC. Holidays are not known here: a business day is Monday to Friday."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from expunge.core.errors import InputError
from expunge.workflow.rights.policy import RightsPolicy
from expunge.workflow.rights.terms import Basis

_SATURDAY = 5


def deadlines(received: datetime, policy: RightsPolicy, basis: Basis) -> Mapping[str, datetime]:
    """What -> by when, from receipt. A request under the GDPR has one month (art. 12(3)), and whatever the policy sets later
    than that is due by then; the extension has to be announced within the month and is listed apart."""
    if received.tzinfo is None:
        raise InputError("a request was received at a time with a zone", got=received.isoformat())
    start, days = received.astimezone(UTC), policy.deadlines
    found = {
        "acknowledge": business_days(start, days.acknowledge),
        "triage": start + timedelta(days=days.triage),
        "mitigation": start + timedelta(hours=days.mitigation),
        "decision": start + timedelta(days=days.decision),
        "edit": start + timedelta(days=days.edit),
        "retrain": start + timedelta(days=days.retrain),
    }
    if basis is Basis.GDPR:
        answer = months(start, days.gdpr_answer)
        extended = months(start, days.gdpr_answer + days.gdpr_extension)
        found = {name: min(due, extended if name == "retrain" else answer) for name, due in found.items()}
        found |= {"gdpr_answer": answer, "gdpr_extended": extended}
    return found


def business_days(start: datetime, count: int) -> datetime:
    """`count` days on, of which none is a Saturday or a Sunday."""
    day = start
    while count:
        day += timedelta(days=1)
        count -= day.weekday() < _SATURDAY
    return day


def months(start: datetime, count: int) -> datetime:
    """The same day of the month, or the last one where that month is shorter (Regulation 1182/71, art. 3(2)(c))."""
    year, month = divmod(start.year * 12 + start.month - 1 + count, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return start.replace(year=year, month=month + 1, day=min(start.day, last))
