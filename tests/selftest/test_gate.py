"""Nothing is certified in a workspace whose self-test is missing, old, of something else, or bad."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evidence.story import NOW, Story, policy, selftest
from expunge import Workspace
from expunge.core.codec import canonical, encode
from expunge.core.errors import ExitCode, ExpungeError, Held, IntegrityError
from expunge.core.selftest import SelftestReport, SelftestRule
from expunge.evidence.verify import Verification, verify_bundle
from expunge.training.recipe import load_recipe, parse_recipe
from expunge.workflow.selftest.gate import check_surrogates, latest, pseudonyms, record, subject_of
from selftest.test_rule import alarm, skipped
from workspaces import nothing_changed, vouch_for

DIGIT = "train/7/0007"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A trained workspace without bank and without self-test."""
    recipe = parse_recipe({**load_recipe("digits").model_dump(), "epochs": 1})
    config = {
        "data": {"source": "digits"},
        "model": {"seed": "00112233445566778899aabbccddeeff"},  # some seed puts the record where it leaves no trace
        "compute": {"executor": "inline"},
        "owner": {"name": "test owner"},
    }
    with Workspace.create(tmp_path / "ws", config=config, recipe=recipe) as workspace:
        workspace.train()
    return tmp_path / "ws"


def good(workspace: Workspace, **changes: Any) -> SelftestReport:
    on = subject_of(workspace)
    now = datetime.now(UTC).replace(microsecond=0)
    plain = {"made_at": now, "policy": on.policy, "bank": on.bank, "expunge": on.expunge, **changes}
    return selftest(**plain)


def refused(folder: Path) -> ExpungeError:
    with Workspace.open(folder) as workspace:
        case = workspace.request(ids=[DIGIT])
        with nothing_changed(folder), pytest.raises(ExpungeError) as error:
            workspace.run(case)
    return error.value


def test_without_a_self_test_nothing_is_planned_or_certified(bare: Path) -> None:
    error = refused(bare)
    assert isinstance(error, Held)
    assert error.exit_code is ExitCode.HELD
    assert "expunge selftest" in str(error.hint)
    with Workspace.open(bare) as workspace:
        vouch_for(workspace)
        assert workspace.run(workspace.request(ids=[DIGIT])).certificate is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"made_at": NOW - timedelta(days=100)}, "days old"),
        ({"policy": "sha256:" + "0" * 64}, "another policy"),
        ({"bank": "sha256:" + "0" * 64}, "another bank"),
        ({"expunge": "0.0.9"}, "another expunge"),
        ({"tallies": ()}, "not tried"),
    ],
)
def test_a_self_test_of_something_else_vouches_for_nothing(bare: Path, change: dict[str, Any], reason: str) -> None:
    with Workspace.open(bare) as workspace:
        record(workspace, good(workspace, **change))
    assert reason in str(refused(bare).got)


def test_a_process_whose_control_was_refused_stops_everything(bare: Path) -> None:
    with Workspace.open(bare) as workspace:
        record(workspace, without_soft_policy(good(workspace)))
    assert "may not be skipped: soft_policy (not tried: the honest control was refused)" in str(refused(bare).got)


def without_soft_policy(report: SelftestReport) -> SelftestReport:
    others = tuple(item for item in report.tallies if item.saboteur != "soft_policy")
    return replace(report, tallies=(*others, skipped("soft_policy")))


def test_a_cheat_that_was_certified_stops_everything(bare: Path) -> None:
    with Workspace.open(bare) as workspace:
        report = good(workspace)
        tallies = [replace(t, certified=int(t.saboteur == "no_op"), caught={}) for t in report.tallies]
        record(workspace, replace(report, tallies=tuple(tallies)))
    assert "certified: no_op" in str(refused(bare).got)


def test_the_newest_self_test_counts_and_not_an_older_and_kinder_one(bare: Path) -> None:
    with Workspace.open(bare) as workspace:
        record(workspace, good(workspace))
        record(workspace, good(workspace, tallies=()))
    assert "not tried" in str(refused(bare).got)


@pytest.mark.parametrize("how", ["edited", "removed"])
def test_a_report_edited_or_removed_after_it_was_logged_is_found(bare: Path, how: str) -> None:
    with Workspace.open(bare) as workspace:
        digest = record(workspace, good(workspace)).digest
        file = bare / "store" / "selftest" / f"{digest[7:]}.json"
        if how == "removed":
            file.unlink()
        else:
            file.write_bytes(canonical(encode(good(workspace, size="full"))))
    assert isinstance(refused(bare), IntegrityError)


def test_the_block_the_cheats_were_tried_on_is_not_judged_by_that_self_test(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        record(workspace, good(workspace, blocks=pseudonyms(workspace, ["surrogate"])))
        with pytest.raises(Held, match="very block"):
            workspace.run(workspace.request(block="surrogate"))
        vouched = latest(workspace)
        assert vouched is not None
        check_surrogates(workspace, vouched, ["another"])
        with pytest.raises(Held, match="very block"):  # several blocks at once, all of those that were tried among them
            check_surrogates(workspace, vouched, ["another", "surrogate"])


def test_every_certificate_names_the_self_test_and_carries_its_rates(folder: Path) -> None:
    from expunge.core.codec import loads
    from expunge.evidence.bundle import read_bundle
    from expunge.evidence.envelope import payload_of
    from expunge.evidence.statement import parse_statement

    with Workspace.open(folder) as workspace:
        found = latest(workspace)
        assert found is not None
        certificate = workspace.run(workspace.request(ids=[DIGIT])).certificate
    bundle = read_bundle(certificate.path)
    predicate = parse_statement(payload_of(bundle.json("certificate.json"))).predicate
    assert predicate.selftest == found.digest
    assert bundle.files["selftest.json"] == found.data
    assert {t["saboteur"] for t in loads(found.data)["tallies"]} >= {"defeat_device", "forged_transcript"}
    assert "no listed cheat passed" in certificate.report.read_text()


# ------------------------------------------------------------------------------------------------------ the other side


def told(tmp_path: Path, report: SelftestReport | None) -> Story:
    story = Story(tmp_path / "s", selftest=report)
    story.tell()
    return story


def judged(story: Story, **rule: Any) -> Verification:
    mine = replace(policy(), selftest=SelftestRule(**rule))
    return verify_bundle(story.folder / "bundle.zip", roots=story.roots, policy=mine)


def reason(result: Verification) -> str:
    assert [step.number for step in result.steps if step.status == "failed"] == [8]
    return result.steps[7].reason


def test_a_reader_is_told_what_the_self_test_found(tmp_path: Path) -> None:
    result = judged(told(tmp_path, selftest()))
    assert result.ok
    assert result.selftest is not None
    assert "no listed cheat passed, n = 19" in "\n".join(result.lines())


def test_a_reader_refuses_a_certificate_without_a_self_test(tmp_path: Path) -> None:
    assert "no self-test" in reason(judged(told(tmp_path, None)))


def test_a_reader_may_ask_for_a_younger_self_test_and_for_more_placebos(tmp_path: Path) -> None:
    story = told(tmp_path, selftest(alarms=(alarm(0, 20),)))
    assert judged(story).ok
    assert "days old" in reason(judged(story, max_age_days=5))
    assert "not bounded" in reason(judged(story, alarm_upper=0.05))


@pytest.mark.parametrize("change", [{"policy": "sha256:" + "1" * 64}, {"bank": "sha256:" + "1" * 64}, {"tallies": ()}])
def test_a_reader_refuses_a_self_test_of_something_else(tmp_path: Path, change: dict[str, Any]) -> None:
    assert "does not vouch" in reason(judged(told(tmp_path, selftest(**change))))


def test_a_reader_refuses_a_self_test_in_which_a_control_was_refused(tmp_path: Path) -> None:
    assert "may not be skipped" in reason(judged(told(tmp_path, without_soft_policy(selftest()))))


def test_a_self_test_that_is_younger_than_the_plan_is_refused(tmp_path: Path) -> None:
    class Late(Story):
        def intake(self, log: Any) -> str:
            own, self.selftest = self.selftest, None
            receipt = super().intake(log)
            self.selftest = own
            return receipt

        def run(self, log: Any) -> None:
            super().run(log)
            from expunge.core.codec import digest_of

            log.append("selftest.recorded", {"report": digest_of(self.selftest)})

    story = Late(tmp_path / "s")
    story.tell()
    assert "not logged before the plan" in reason(judged(story))
