"""The self-test itself, run for real on digits: what it found, and that it would notice a verifier that is asleep."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from expunge import Workspace
from expunge.core.errors import Held, InputError
from expunge.core.finding import Guarantee, Verdict
from expunge.core.policy import Decision, Policy
from expunge.core.selftest import REQUIRED_METHODS, REQUIRED_PROCESSES, SelftestReport
from expunge.workflow.selftest import conduct
from expunge.workflow.selftest.conduct import SIZES, surrogates
from expunge.workflow.selftest.gate import latest


@pytest.fixture(scope="module")
def tried(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose quick self-test was really run."""
    folder = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("tried") / "ws"))
    with Workspace.open(folder) as workspace:
        workspace.selftest("quick")
    return folder


@pytest.fixture(scope="module")
def report(tried: Path) -> SelftestReport:
    """What it found."""
    with Workspace.open(tried) as workspace:
        found = latest(workspace)
    assert found is not None
    return found.report


def tallies(report: SelftestReport) -> dict[str, Any]:
    return {tally.saboteur: tally for tally in report.tallies}


def test_every_required_saboteur_was_tried_or_says_why_not_and_none_passed(report: SelftestReport) -> None:
    found = tallies(report)
    assert set(found) == {*REQUIRED_METHODS, *REQUIRED_PROCESSES}
    assert report.passed == ()
    assert {name for name, tally in found.items() if not tally.tried} == {"batchnorm_only"}
    assert sum(tally.certified for tally in found.values()) == 0


def test_cheats_that_leave_the_block_in_are_caught_by_a_check_and_not_only_undecided(report: SelftestReport) -> None:
    found = tallies(report)
    for name in ("no_op", "one_epoch", "last_layer_only", "label_flip", "gradient_ascent"):
        assert found[name].caught.get("membership"), name
    for name in ("wrong_record", "retrain_with_data"):
        assert found[name].caught.get("provenance"), name
    for name in REQUIRED_PROCESSES:
        assert found[name].caught, name


def test_honest_retrainings_raise_hardly_an_alarm_and_few_of_them_claim_no_rate(report: SelftestReport) -> None:
    """One check in fifty workspaces may raise one. Several at once are no chance: they share an arm that is not honest."""
    assert len([item for item in report.alarms if item.alarms]) <= 1
    retrained = [item for item in report.alarms if item.trials]
    assert {item.check for item in retrained} >= {"membership", "deployed", "utility", "provenance"}
    assert all("too few" in item.claim for item in retrained)


def test_the_block_put_back_is_seen_and_more_of_it_is_seen_more(report: SelftestReport) -> None:
    for signal in {dose.signal for dose in report.doses}:
        rises = [dose.rise for dose in sorted(report.doses, key=lambda d: d.dose) if dose.signal == signal]
        assert rises == sorted(rises)
        assert rises[-1] > 1


def test_planted_canaries_are_found_with_this_bank(report: SelftestReport) -> None:
    assert report.canary_power is not None
    assert report.canary_power >= 0.9


def test_design_is_logged_before_and_rates_after(tried: Path) -> None:
    with Workspace.open(tried) as workspace:
        kinds = [entry.kind for entry in workspace.log.entries() if entry.kind.startswith("selftest")]
        logged = [entry.payload for entry in workspace.log.entries() if entry.kind == "selftest.recorded"][-1]
    assert kinds[-2:] == ["selftest.begun", "selftest.recorded"]
    assert logged["certified"]["defeat_device"] == [0, 1]


def test_nothing_of_the_cheats_is_left_behind(tried: Path) -> None:
    with Workspace.open(tried) as workspace:
        kinds = {entry.kind for entry in workspace.log.entries()}
        assert workspace.state().planned == {}
    assert not kinds & {"plan.committed", "candidate.executed", "certificate.issued"}
    assert [run.name for run in (tried / "store/runs").iterdir()] == ["original"]


def test_no_block_that_a_request_names_is_tried_on(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        assert surrogates(workspace, 2) == ["surrogate", "canary"]
        workspace.request(block="surrogate")
        assert surrogates(workspace, 2)[0] == "canary"
        assert "surrogate" not in surrogates(workspace, 5)


def test_a_verifier_that_is_asleep_is_noticed_and_certifies_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy accepts whatever is found: then every saboteur is certified, and the report says so."""

    def asleep(self: Policy, guarantee: Guarantee, findings: object) -> Decision:
        return Decision(accepted=True, guarantee=guarantee, verdict=Verdict.PASS, reasons=())

    monkeypatch.setattr(Policy, "judge", asleep)
    monkeypatch.setattr(conduct, "sabotaged_methods", lambda kind: ("no_op", "retrain_with_data"))
    monkeypatch.setattr(conduct, "try_processes", lambda *_: {})
    with Workspace.open(folder) as workspace:
        report = workspace.selftest("quick").report
        assert set(report.passed) == {"no_op", "retrain_with_data"}
        with pytest.raises(Held, match="does not vouch"):
            workspace.run(workspace.request(ids=["train/7/0007"]))


def test_sizes_by_name() -> None:
    assert SIZES["full"].placebos >= 5
    assert SIZES["full"].halves >= 59
    assert SIZES["full"].pairs is None


def test_an_unknown_size_is_refused(folder: Path) -> None:
    with Workspace.open(folder) as workspace, pytest.raises(InputError, match="size"):
        workspace.selftest("huge")
