"""What an edit of a text-to-image model did to everybody else, as tables. Figures are the finding's; nothing is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expunge.apps.reports._recommender import Finding, by_name

_DISTANCES = {
    "edit": "after the edit, same words and noise",
    "seeds": "the original drawn again, other noise",
    "unit": "two different artists",
}


def others(findings: Sequence[Finding]) -> Mapping[str, Any] | None:
    """The collateral finding: `losses` a row a limit, `asked` shares before and after, `distances` a row a comparison."""
    finding = by_name(findings, "collateral")
    if finding is None:
        return None
    details = finding["details"]
    measured = "kid.edit" in details
    return {
        "reason": finding["reason"],
        "losses": finding["conditions"],
        "asked": details if "asked.before" in details else None,
        "space": details.get("kid.space", ""),
        "pictures": details.get("kid.pictures", ""),
        "distances": [_row(name, details) for name in _DISTANCES] if measured else [],
    }


def _row(name: str, details: Mapping[str, str]) -> Mapping[str, Any]:
    centre, _, span = details[f"kid.{name}"].partition(" ")
    return {"words": _DISTANCES[name], "kid": centre, "span": span, "frechet": details.get(f"frechet.{name}")}
