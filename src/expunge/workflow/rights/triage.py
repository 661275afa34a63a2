"""From facts to a decision: pure, total, first match wins. The table is data in the policy; nothing else decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from string import Template

from expunge.core.codec import digest_of, timestamp
from expunge.core.errors import CheckBroken
from expunge.workflow.rights.deadlines import deadlines
from expunge.workflow.rights.facts import Facts, measurements, readings
from expunge.workflow.rights.jurisdictions import Jurisdiction, Source
from expunge.workflow.rights.policy import RightsPolicy, Row
from expunge.workflow.rights.terms import NEEDS, Action, Basis, Ground, Readings

SWITCHES = frozenset({"reproduction", "protectable", "training"})
MITIGATED = frozenset({Ground.MEMORISED_REPRODUCTION, Ground.MEMORISED_COPY, Ground.OPTED_OUT, Ground.STYLE_LEARNED})
"""Grounds on which an interim filter starts at once; so does every retraining."""
_DUE: Mapping[Action, tuple[str, ...]] = {
    Action.STYLE_EDIT: ("edit",),
    Action.PURGE_WORKS: ("edit", "retrain"),
    Action.RETRAIN: ("retrain",),
    Action.EXCLUDE_NEXT: ("retrain",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filed:
    """What the clock and the law of a request depend on."""

    received: datetime
    basis: Basis
    jurisdiction: Jurisdiction


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is done and why. `row`: number in the table; `measurements`: reading -> what was measured, those that carried it;
    `law`: sources of the jurisdiction, where the row asks one of its switches; `mitigate`: names and near-copies are filtered
    by the deadline `mitigation`; `policy` and `facts` are digests."""

    action: Action
    also: tuple[Action, ...]
    ground: Ground
    row: int
    jurisdiction: str
    measurements: Mapping[str, str]
    law: tuple[str, ...]
    deadlines: Mapping[str, datetime]
    mitigate: bool
    words: str
    policy: str
    facts: str


def row_for(found: Readings, policy: RightsPolicy) -> int:
    """Number of the first row that applies. There always is one: the last has no conditions."""
    number = next((number for number, row in enumerate(policy.table) if row.applies(found)), None)
    if number is None:
        raise CheckBroken("a table that does not decide everything")
    return number


def triage(facts: Facts, policy: RightsPolicy, filed: Filed) -> Decision:
    """The decision on a request (EU GPAI code of practice, copyright chapter: reservations, mitigation, complaints; the table
    follows the policy). The same facts, policy and law always give the same decision, and none but a hold is given without
    the measurement on which it rests."""
    found = readings(facts, policy, filed.jurisdiction)
    number = row_for(found, policy)
    row = policy.table[number]
    said = measurements(facts, _asked(row))
    if row.ground in NEEDS and NEEDS[row.ground][0] not in said:
        raise CheckBroken(f"{row.ground.value} without a measurement", expected=NEEDS[row.ground][0])
    law = tuple(map(_cited, filed.jurisdiction.sources)) if SWITCHES & set(row.when) else ()
    mitigate = row.ground in MITIGATED or row.action is Action.RETRAIN
    due = _due(row, mitigate, deadlines(filed.received, policy, filed.basis))
    return Decision(
        action=row.action,
        also=row.also,
        ground=row.ground,
        row=number,
        jurisdiction=filed.jurisdiction.code,
        measurements=said,
        law=law,
        deadlines=due,
        mitigate=mitigate,
        words=_letter(row, facts, policy, said, law, due),
        policy=policy.digest,
        facts=digest_of(facts),
    )


def _asked(row: Row) -> tuple[str, ...]:
    """The readings that the row asks, and the counts of works beside them: every letter says what was searched."""
    return tuple(dict.fromkeys((*row.when, "works")))


def _due(row: Row, mitigate: bool, all_due: Mapping[str, datetime]) -> dict[str, datetime]:
    names = ["acknowledge", "decision", *(name for name in all_due if name.startswith("gdpr_"))]
    names += ["mitigation"] * mitigate
    names += [name for action in (row.action, *row.also) for name in _DUE.get(action, ())]
    return {name: all_due[name] for name in dict.fromkeys(names)}


def _cited(source: Source) -> str:
    sure = {"V": "read in the source", "V secondary": "read in secondary sources", "M": "from memory"}[
        source.confidence
    ]
    when = f", {source.date}" if source.date else ""
    return f"{source.name} ({source.citation}{when}; {source.status}; {sure})"


def _letter(
    row: Row,
    facts: Facts,
    policy: RightsPolicy,
    said: Mapping[str, str],
    law: tuple[str, ...],
    due: Mapping[str, datetime],
) -> str:
    """Ground, numbers, law, deadlines, honest words: no names, so it can be kept and published with the case."""
    expiry = f"{policy.limits.mitigation_days} days after it starts"
    numbers = {**_numbers(facts), "expiry": expiry}
    parts = [Template(policy.letters[row.ground.value]).substitute(numbers)]
    if said:
        parts.append("What was measured: " + "; ".join(f"{name}: {text}" for name, text in said.items()) + ".")
    if law:
        parts.append("What the law that you named says of it, as we have it on record: " + "; ".join(law) + ".")
    if "mitigation" in due:
        parts.append(Template(policy.mitigation).substitute(numbers))
    parts.append("Due: " + "; ".join(f"{name} by {timestamp(moment)[:16]}Z" for name, moment in due.items()) + ".")
    parts += policy.honest_words
    return "\n\n".join(part.strip() for part in parts)


def _numbers(facts: Facts) -> dict[str, int]:
    works, copies, style, harm = facts.works, facts.copies, facts.style, facts.harm
    return {
        "present": works.present if works else 0,
        "listed": works.listed if works else 0,
        "searched": works.searched if works else 0,
        "copies": copies.found if copies else 0,
        "draws": copies.draws if copies else 0,
        "others": style.others if style else 0,
        "neighbours": harm.neighbours if harm else 0,
    }
