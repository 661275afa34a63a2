"""The fold of the log: which requests a bank has judged, told from plain entries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from expunge.workflow.state import State

BANK = {"bank": "sha256:b", "n": 16, "anchors": 0, "destroy_by": "2027-01-01", "model": "sha256:m"}


def entry(kind: str, case: str | None = None, **payload: Any) -> Any:
    return SimpleNamespace(body={"kind": kind, "case": case, "payload": payload})


def judged(case: str, subject: str, verdict: str) -> list[Any]:
    return [
        entry("plan.committed", case, subjects=[subject]),
        entry("findings.recorded", case, verdicts={"membership": verdict, "utility": "PASS"}),
    ]


def test_a_bank_counts_the_cases_it_judged_and_those_in_which_it_found_a_residue() -> None:
    entries = [
        entry("bank.built", **BANK),
        *judged("a", "1", "PASS"),
        *judged("b", "2", "FAIL"),
        *judged("b", "2", "PASS"),  # a later attempt of one case is no other request, and does not undo its finding
        *judged("c", "3", "INCONCLUSIVE"),
        *judged("d", "4", "UNVERIFIABLE"),  # nothing was looked at
    ]
    assert State.fold(entries).looked == {"a": False, "b": True, "c": False}


def test_a_new_bank_has_judged_nobody_and_no_bank_judges() -> None:
    before = [entry("bank.built", **BANK), *judged("a", "1", "FAIL")]
    assert State.fold(before).looked == {"a": True}
    assert State.fold([*before, entry("bank.built", **BANK)]).looked == {}
    assert State.fold(judged("a", "1", "FAIL")).looked == {}
