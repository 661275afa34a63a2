"""What a recommender's findings say, arranged for tables. Figures are taken from the findings; nothing is computed.

A finding keeps some figures in its notes alone; a note that reads otherwise than expected is shown as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from expunge.apps.reports._words import FIGURES, RUNGS

Finding = Mapping[str, Any]

_CHANGE = re.compile(r"[+-][\d.]+ \[([+-][\d.]+), ([+-][\d.]+)\] on (\d+) users")
_PLACE = re.compile(r"(?P<kind>[^;]+); (?P<before>\d+) before; (?P<action>.*); control: (?P<control>\d+ of \d+) found")
_UNREAD = re.compile(r"(?P<kind>[^;]+); (?P<action>could not be read.*)")
_MODELS = {"before": "original", "after": "candidate", "retraining": "reference"}
_SIZES = ("low", "middle", "high")
_SPREAD = ("coverage", "gini")


def by_name(findings: Sequence[Finding], check: str) -> Finding | None:
    """The finding of a check."""
    return next((finding for finding in findings if finding["check"] == check), None)


def climbed(findings: Sequence[Finding]) -> list[Finding]:
    """In the order of the ladder; checks that are no part of it come last, as they came."""
    order = list(RUNGS)
    return sorted(findings, key=lambda f: order.index(f["check"]) if f["check"] in order else len(order))


def quality(findings: Sequence[Finding]) -> Mapping[str, Any] | None:
    """The ranking finding as rows: `metrics`, and `others` (what is shown to anybody, active users, segments)."""
    finding = by_name(findings, "ranking")
    if finding is None:
        return None
    return {
        "reason": finding["reason"],
        "split": finding["details"].get("split", ""),
        "level": finding["interval"]["level"] if finding["interval"] else None,
        "limit": finding["limit"],
        "gained": finding["reference"],
        "metrics": _metrics(finding),
        "others": [*_spread(finding["details"]), *_gap(finding["details"]), *_segments(finding["details"])],
    }


def _metrics(finding: Finding) -> list[Mapping[str, Any]]:
    details, rows = finding["details"], dict[str, Any]()
    for condition in finding["conditions"]:
        name, _, base = condition["name"].rpartition(" against ")
        row = rows.setdefault(
            name,
            {
                "name": name,
                "words": FIGURES.get(name, ""),
                "before": details.get(f"original.{name}"),
                "after": details.get(f"candidate.{name}"),
                "retraining": details.get(f"retraining.{name}"),
                "changes": {},
            },
        )
        row["changes"]["before" if base == "before" else "retraining"] = _change(condition)
    return list(rows.values())


def _change(condition: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _CHANGE.match(condition["note"])
    return {
        "estimate": condition["estimate"],
        "interval": None if found is None else (found[1], found[2]),
        "note": "" if found else condition["note"],
        "verdict": condition["verdict"],
        "margin": condition["limit"],
    }


def _row(name: str, details: Mapping[str, str], keys: Mapping[str, str]) -> Mapping[str, Any]:
    empty = dict.fromkeys((*_MODELS, "change", "users"))
    return {
        "name": name,
        "words": FIGURES.get(name, ""),
        **empty,
        **{column: details.get(key) for column, key in keys.items()},
    }


def _spread(details: Mapping[str, str]) -> list[Mapping[str, Any]]:
    rows = [_row(name, details, {column: f"{model}.{name}" for column, model in _MODELS.items()}) for name in _SPREAD]
    return [row for row in rows if any(row[column] is not None for column in _MODELS)]


def _gap(details: Mapping[str, str]) -> list[Mapping[str, Any]]:
    columns = {"before": "original", "after": "candidate", "change": "change"}
    row = _row("activity gap", details, {column: f"activity_gap.{key}" for column, key in columns.items()})
    return [row] if any(row[column] is not None for column in columns) else []


def _segments(details: Mapping[str, str]) -> list[Mapping[str, Any]]:
    names = [key[len("segment.") : -len(".users")] for key in details if re.fullmatch(r"segment\..*\.users", key)]
    return [
        _row(name, details, {"change": f"segment.{name}.difference", "users": f"segment.{name}.users"})
        for name in sorted(names, key=_size)
    ]


def _size(name: str) -> tuple[str, int, str]:
    """Low before middle before high, which is no order of letters."""
    stem, _, last = name.rpartition(" ")
    return (stem, _SIZES.index(last), "") if last in _SIZES else (name, len(_SIZES), name)


def places(findings: Sequence[Finding]) -> Mapping[str, Any] | None:
    """The census finding as rows, one a place, and the counts that are told in words."""
    finding = by_name(findings, "census")
    if finding is None:
        return None
    return {
        "reason": finding["reason"],
        "rows": [_place(condition) for condition in finding["conditions"][:-1]],  # the last is about the test users
        "counts": finding["details"],
    }


def _place(condition: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _PLACE.fullmatch(condition["note"]) or _UNREAD.fullmatch(condition["note"])
    said = {"kind": "", "action": condition["note"]} if found is None else found.groupdict()
    own = {"name": condition["name"], "after": condition["estimate"], "verdict": condition["verdict"]}
    return {"before": None, "control": "", **said, **own}
