"""Sabotaged processes: each is caught, its honest twin is not, and it would succeed if the one defence were gone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evidence.story import selftest
from expunge.core import policy as policy_module
from expunge.core import registry
from expunge.core.sabotage import Attempt
from expunge.core.selftest import REQUIRED_PROCESSES
from expunge.evidence import verify_steps
from expunge.workflow import pipeline
from expunge.workflow.selftest import stage
from expunge.workflow.state import State

Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage.prepared_stage(tmp_path_factory.mktemp("stage") / "ws", selftest())


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


def test_a_scene_whose_honest_twin_is_refused_counts_as_a_cheat_that_passed() -> None:
    broken = Attempt(accepted=False, by="verify", control=False)
    assert stage.process_tally("soft_policy", broken).certified == 1
