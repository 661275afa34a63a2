"""What could have been chosen after seeing scores must stand in the plan that was logged first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evidence.story import Story, findings
from evidence.test_certificate import check
from expunge.core.errors import EvidenceError
from expunge.core.finding import Condition, Finding, Verdict
from expunge.evidence.preregistered import check_preregistered


def _story(folder: Path) -> Story:
    return Story(folder / "s", found=findings(Verdict.PASS))


def _other(found: tuple[Finding, ...], **changes: object) -> tuple[Finding, ...]:
    return tuple(replace(item, **changes) if item.check == "membership" else item for item in found)  # type: ignore[arg-type]


def test_findings_as_planned_are_accepted(tmp_path: Path) -> None:
    story = _story(tmp_path)
    check_preregistered(story.plan(), story.found)
    story.tell()
    assert check(story).ok


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("margin widened after the run", {"limit": 0.5}, "margin"),
        ("alpha of a first attempt used at the second", {"details": {"alpha_spent": "0.025"}}, "alpha spent"),
        ("alpha left out", {"details": {}}, "alpha spent"),
        ("pairs dropped that looked bad", {"n": 40}, "40 pairs, planned were 48"),
        ("a signal that disagreed left out", {"conditions": ()}, "passed without gradient_norm, lira, rmia"),
        (
            "a signal added that agrees",
            {"conditions": (Condition(name="loss: assay", verdict=Verdict.PASS),)},
            "used loss, which the plan does not name",
        ),
    ],
)
def test_what_was_chosen_after_the_run_is_refused(
    tmp_path: Path, name: str, change: dict[str, object], said: str
) -> None:
    story = _story(tmp_path)
    changed = _other(story.found, **change)
    with pytest.raises(EvidenceError, match="not computed as the plan says") as caught:
        check_preregistered(story.plan(), changed)
    assert said in str(caught.value.got)
    story.found = changed
    story.tell()
    result = check(story)
    assert not result.ok
    assert [step.number for step in result.steps if step.status == "failed"] == [8], name


def test_a_check_that_was_not_planned_is_refused(tmp_path: Path) -> None:
    story = _story(tmp_path)
    plan = story.plan()
    extra = Finding(check="luck", question="q", statistic="s", verdict=Verdict.PASS, reason="r", n=1)
    with pytest.raises(EvidenceError) as caught:
        check_preregistered(plan, (*story.found, extra))
    assert caught.value.got == "luck was not planned"


def test_a_plan_with_fewer_signals_than_mine_is_refused(tmp_path: Path) -> None:
    class Thin(Story):
        def plan(self):  # type: ignore[no-untyped-def]
            plan = super().plan()
            return replace(plan, checks=tuple(replace(spec, signals=("lira",)) for spec in plan.checks))

    story = Thin(tmp_path / "s", found=findings(Verdict.UNVERIFIABLE))
    story.found = _other(story.found, conditions=())
    story.tell()
    result = check(story)
    assert [step.number for step in result.steps if step.status == "failed"] == [8]
    assert any("membership without gradient_norm, rmia" in step.reason for step in result.steps)
