"""Sabotaged processes: each is caught, its honest twin is not, and it would succeed if the one defence were gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evidence.story import NOW, selftest
from expunge.core import policy as policy_module
from expunge.core import registry
from expunge.core.sabotage import Attempt
from expunge.core.selftest import REQUIRED_PROCESSES, SelftestReport, SelftestRule, Tally
from expunge.evidence import verify_steps
from expunge.testing.saboteurs import refiled_request, soft_policy
from expunge.training.recipe import Recipe, load_recipe, parse_recipe
from expunge.training.schedule import Schedule
from expunge.workflow import pipeline
from expunge.workflow.selftest import stage
from expunge.workflow.state import State
from selftest.test_rule import alarm

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage.prepared_stage(tmp_path_factory.mktemp("stage") / "ws", selftest())


def leaves_a_trace(recipe: Recipe, seed: str, slot: int, records: int = 1437) -> bool:
    """Whether a training reads the slot at any step whose learning rate is not 0."""
    schedule = Schedule(recipe=recipe, seed=seed, slots=np.arange(records))
    steps = [batch for epoch in range(recipe.epochs) for batch in schedule.batches(epoch)]
    return any(slot in batch and schedule.lr(step, len(steps)) > 0 for step, batch in enumerate(steps))


def test_the_record_that_the_stage_deletes_has_left_a_trace_whatever_the_seed() -> None:
    """With slices it had none in one stage of a hundred: the honest deletion was refused, and the self-test broke off."""
    untraced, seeds = "1e3f65e221bf81bb3854894236be2665", [f"{k:032x}" for k in range(100)]
    assert all(leaves_a_trace(stage.stage_recipe(), seed, 2) for seed in (untraced, *seeds))
    sliced = parse_recipe({**load_recipe("digits").model_dump(), "epochs": stage.EPOCHS})
    assert not leaves_a_trace(sliced, untraced, 2), "control: the seed with which it was seen"


def attempt(name: str, master: Path, folder: Path) -> Attempt:
    copy = Path(shutil.copytree(master, folder / "ws"))
    return registry.load("saboteurs", name)().attempt(stage.Stage(copy, folder / "outside", selftest()))


@pytest.mark.parametrize("name", REQUIRED_PROCESSES)
def test_the_cheat_is_caught_and_its_honest_twin_is_not(name: str, master: Path, tmp_path: Path) -> None:
    came = attempt(name, master, tmp_path)
    assert came.control, came
    assert not came.accepted, came
    assert set(registry.load("saboteurs", name).caught_by) == set(came.by.split(", "))


def nobody_recomputes(patch: Patch) -> None:
    patch.setattr(stage, "recompute", lambda *_, **__: None)


def records_are_not_compared(patch: Patch) -> None:
    patch.setattr(verify_steps, "check_expected", lambda *_: None)


def plans_are_not_compared(patch: Patch) -> None:
    patch.setattr(verify_steps, "check_plan", lambda *_: None)
    patch.setattr(verify_steps, "check_order", lambda extract, _: type("Case", (), {"attempts": 1, "last_index": 0}))


def attempts_are_not_counted(patch: Patch) -> None:
    honest = State.apply
    patch.setattr(State, "apply", lambda self, body: replace(honest(self, body), planned={}, judged={}))


def the_reader_has_no_limits(patch: Patch) -> None:
    patch.setattr(verify_steps, "_looser", lambda *_: False)


def policies_have_no_floors(patch: Patch) -> None:
    patch.setattr(policy_module, "FLOORS", {})


def seeds_are_drawn_at_will(patch: Patch) -> None:
    drawn = iter(range(1000))
    patch.setattr(pipeline, "seed_after", lambda *_: f"{next(drawn):08x}" * 4)


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("forged_transcript", nobody_recomputes),
        ("reused_certificate", records_are_not_compared),
        ("thresholds_changed", plans_are_not_compared),
        ("refiled_request", attempts_are_not_counted),
        ("soft_policy", the_reader_has_no_limits),
        ("soft_policy", policies_have_no_floors),
        ("seed_shopping", seeds_are_drawn_at_will),
    ],
)
def test_without_its_defence_the_cheat_gets_through(
    name: str, without: Callable[[Patch], Any], master: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    without(monkeypatch)
    assert attempt(name, master, tmp_path).accepted


def report_with(*tallies: Tally) -> SelftestReport:
    names = {tally.saboteur for tally in tallies}
    report = selftest(made_at=NOW)
    return replace(report, tallies=(*(t for t in report.tallies if t.saboteur not in names), *tallies))


@pytest.mark.parametrize("name", REQUIRED_PROCESSES)
def test_a_scene_whose_honest_control_was_refused_was_not_tried_and_the_report_vouches_for_nothing(name: str) -> None:
    tally = stage.process_tally(name, Attempt(accepted=False, by="verify", objection="step 8: no"))
    assert (tally.tried, tally.certified, tally.caught) == (0, 0, {})
    assert tally.skipped == "not tried: the honest control was refused: step 8: no"
    report = report_with(tally)
    assert report.passed == ()
    assert SelftestRule().problems(report, NOW) == [f"saboteurs that may not be skipped: {name} ({tally.skipped})"]


def test_a_cheat_that_was_believed_counts_even_where_its_control_was_refused() -> None:
    tally = stage.process_tally("soft_policy", Attempt(accepted=True, by="read", objection="step 8: no"))
    assert (tally.tried, tally.certified) == (1, 1)
    assert "certified: soft_policy" in SelftestRule().problems(report_with(tally), NOW)[0]


def test_the_same_scene_with_its_control_accepted_vouches() -> None:
    tally = stage.process_tally("soft_policy", Attempt(accepted=False, by="verify", objection=None))
    assert (tally.tried, tally.certified, tally.caught) == (1, 0, {"verify": 1})
    assert SelftestRule().problems(report_with(tally), NOW) == []


def everybody_is_refused_by_readers(patch: Patch) -> None:
    patch.setattr(stage.Stage, "verify", lambda *_, **__: "step 8: refused")


def everybody_is_refused_by_recomputation(patch: Patch) -> None:
    patch.setattr(stage.Stage, "recompute", lambda *_, **__: "another model")


def every_request_counts_as_a_later_attempt(patch: Patch) -> None:
    honest = refiled_request._number
    patch.setattr(refiled_request, "_number", lambda *about: honest(*about) + 1)


def all_cases_share_a_seed(patch: Patch) -> None:
    patch.setattr(pipeline, "seed_after", lambda *_: "0" * 32)


def policies_say_something_else(patch: Patch) -> None:
    patch.setattr(soft_policy, "_SOFTER", {"alpha: 0.7": "alpha: 0.9"})


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("forged_transcript", everybody_is_refused_by_recomputation),
        ("reused_certificate", everybody_is_refused_by_readers),
        ("thresholds_changed", everybody_is_refused_by_readers),
        ("refiled_request", every_request_counts_as_a_later_attempt),
        ("soft_policy", everybody_is_refused_by_readers),
        ("soft_policy", policies_say_something_else),
        ("seed_shopping", all_cases_share_a_seed),
    ],
)
def test_a_broken_scene_never_vouches(
    name: str, broken: Callable[[Patch], Any], master: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    """The negative control of every control: where the honest twin is refused, catching the cheat shows nothing."""
    broken(monkeypatch)
    came = attempt(name, master, tmp_path)
    assert not came.control, came
    report = report_with(stage.process_tally(name, came))
    assert name in "; ".join(SelftestRule().problems(report, NOW))
    assert name not in {tally.saboteur for tally in report.tallies if tally.tried and not tally.certified}


def test_what_spoils_the_report_spoils_the_controls_and_is_not_called_a_cheat_that_passed(tmp_path: Path) -> None:
    """Seen in the demo: a check's false alarms made every certificate on the stage worthless, its honest one as well."""
    rows = stage.try_processes(tmp_path, selftest(alarms=(alarm(5, 20),)), lambda _: None)
    tallies = [stage.process_tally(name, came) for name, came in rows.items()]
    assert [tally.saboteur for tally in tallies if tally.certified] == []
    owed = {tally.saboteur: tally.skipped for tally in tallies if not tally.tried}
    assert set(owed) == {"reused_certificate", "soft_policy", "thresholds_changed"}
    assert all("the honest control was refused: step 8" in why for why in owed.values())
    assert all("false alarms: 5 of 20" in why for why in owed.values())
    found = SelftestRule().problems(report_with(*tallies), NOW)
    assert [name in found[0] for name in sorted(owed)] == [True] * 3


def test_the_rule_of_the_stage_waits_for_processes_whose_turn_has_not_come_and_for_nothing_else() -> None:
    waiting = report_with(stage.process_tally("soft_policy", None, stage.PENDING))
    broken = report_with(stage.process_tally("soft_policy", Attempt(accepted=False, by="x", objection="no")))
    assert stage.StageRule().problems(waiting, NOW) == []
    assert stage.StageRule().problems(broken, NOW) == SelftestRule().problems(broken, NOW) != []
    assert SelftestRule().problems(waiting, NOW) != [], "outside the stage nobody waits"
    assert stage.StageRule().problems(replace(waiting, tallies=waiting.tallies[1:]), NOW) != []
