"""A bank of works: an artist whose few works are known by heart is told from one whom no model saw, up to the certificate.

The network learns each caption's picture by heart, so that the answer is known: whoever was in the half is known, and nobody
else is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from expunge import Workspace
from expunge.checks.membership import Membership
from expunge.core import registry
from expunge.core.errors import InputError
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.protocols import CheckJob, Task
from expunge.farm.probing import ProbePlan
from expunge.workflow.measure import run_x_arm
from expunge.workflow.policy import GENERATOR, parse_policy
from expunge.workflow.train import bank_folder, open_bank, retire_bank
from memorising import BY_HEART, FEW, MANY, learn_by_heart, make_gallery, write_gallery
from picture_files import make_works
from recommending import failed_steps, finding, verdicts
from workspaces import vouch_for

pytestmark = pytest.mark.usefixtures("one_thread")
PAIRS = 6
POLICY = GENERATOR.replace("margin: 0.2 ", "margin: 0.5 ")
WITHOUT = "".join(line for line in GENERATOR.splitlines(True) if "membership:" not in line)
WITHOUT = WITHOUT.replace("attacks: [lira, quantile, rmia]", "attacks: []")
"""The policy of workspaces from before there was a bank of works."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A vouched-for workspace with a bank; tests that change it work on a copy."""
    root = tmp_path_factory.mktemp("artists") / "ws"
    with pytest.MonkeyPatch.context() as patch:
        learn_by_heart(patch)
        with make_gallery(root, policy=POLICY, bank={"pairs": PAIRS, "x_arm": True}) as workspace:
            workspace.bank()
            vouch_for(workspace)
        yield root


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(Path(shutil.copytree(folder, tmp_path / "ws"))) as workspace:
        yield workspace


def left_in(workspace: Workspace, bank: Any, slots: list[int]) -> list[Any]:
    """The X arm of a method that does nothing."""
    plan = ProbePlan(probes=(), block=tuple(slots), neighbours=(), retained=(), population=(), seed=3)
    common = {
        "bank": bank.spec,
        "plan": plan,
        "method": "saboteurs/no_op",
        "params": {},
        "seed": "ab" * 16,
        "doses": [],
    }
    tasks = [
        Task(function="expunge.farm.member:unlearn", arguments={**common, "number": number})
        for _, number in bank.sides(slots)
    ]
    found: list[Any] = registry.load("executors", "inline")().run(
        tasks, bank.folder, workspace.compute, lambda *_: None
    )
    return found


def judged(workspace: Workspace, arms: Any, signals: tuple[str, ...] = ()) -> Finding:
    limits, signals = workspace.policy.limits, signals or workspace.policy.attacks
    return Membership().run(CheckJob(limits=limits, guarantee=Guarantee.EXACT, seed=3, signals=signals, arms=arms))


# ---------------------------------------------------------------------------------------------------------- three arms


def test_works_that_were_kept_in_are_seen_on_every_signal(copied) -> None:
    bank, slots = open_bank(copied), copied.book.in_block(FEW)
    answers = left_in(copied, bank, slots)
    arms = bank.arms(slots, answers)
    np.testing.assert_allclose(arms.unlearned, arms.into, rtol=1e-4)  # asked alone as among all
    assert (arms.into > arms.out).all()  # every work, in every pair
    found = judged(copied, arms)
    assert found.verdict is Verdict.FAIL
    assert found.estimate == pytest.approx(1, abs=0.01)
    caught = {item.name for item in found.conditions if item.verdict is Verdict.PASS and "no-op control" in item.name}
    assert caught == {f"{name}: no-op control" for name in copied.policy.attacks}


def test_attack_a_model_made_worse_at_everything_is_not_taken_for_one_without_the_works(copied) -> None:
    """Its loss on the works is that of models that never saw them; so is its loss on everything else."""
    arms = open_bank(copied).arms(copied.book.in_block(FEW))
    gap = (arms.into - arms.out).mean()
    worse = replace(arms, unlearned=arms.into - gap, unlearned_population=arms.into_population - gap)
    assert judged(copied, worse, ("lira",)).estimate < 0.5  # it looks at the works alone
    assert judged(copied, worse, ("rmia",)).estimate == pytest.approx(1, abs=0.05)
    assert judged(copied, worse).verdict is Verdict.FAIL  # every signal must pass


def test_an_artist_over_one_percent_is_refused_and_everybody_smaller_is_not(copied) -> None:
    bank, book = open_bank(copied), copied.book
    assert bank.refuses(book.in_block(MANY)) == "the block holds 3 of 204 records, over 1 %: too many for a bank test"
    assert bank.refuses(book.in_block(FEW)) is None
    assert "only a part of a block" in bank.refuses(book.in_block(FEW)[:1])


def test_no_deletion_is_run_on_the_bank_for_an_edit_whatever_the_configuration_says(copied) -> None:
    edit = SimpleNamespace(aims_at=Guarantee.EMPIRICAL, method="erasers/uce")
    plan = ProbePlan(probes=(), block=(0, 1), neighbours=(), retained=(), population=(), seed=3)
    assert copied.config.bank.x_arm
    assert run_x_arm(copied, edit, open_bank(copied), plan) is None


# ------------------------------------------------------------------------------------------------------------ the story


def test_an_artist_goes_from_request_to_certificate_and_the_bank_forgets_with_it(copied) -> None:
    bank, slots = open_bank(copied), copied.book.in_block(FEW)
    outcome = copied.run(copied.request(block=FEW))
    assert outcome.guarantee is Guarantee.EXACT
    found = finding(outcome, "membership")
    assert found.verdict is not Verdict.FAIL  # the X arm: retrained without the works
    assert found.n == PAIRS
    assert abs(found.estimate) < 0.5
    assert found.original == pytest.approx(1, abs=0.01)  # the control: nothing removed
    assert failed_steps(copied, outcome) == []
    assert not bank.sketches().train[:, slots].any()
    assert bank.sketches().train[:, 5:].all()
    assert b"train/000.png" not in (bank.folder / "slots.json").read_bytes()
    vouch_for(copied)
    following = copied.run(copied.request(block="artist 007"))
    assert finding(following, "membership").n == PAIRS  # the bank serves its whole window
    assert failed_steps(copied, following) == []


def test_an_artist_whom_the_bank_refuses_gets_a_certificate_that_says_so(copied) -> None:
    outcome = copied.run(copied.request(block=MANY))
    assert outcome.guarantee is Guarantee.EXACT
    found = finding(outcome, "membership")
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the bank cannot judge this: the block holds 3 of 204 records, over 1 %" in found.reason
    assert failed_steps(copied, outcome) == []


def test_a_bank_that_was_retired_or_is_past_its_day_says_nothing_more(copied, monkeypatch) -> None:
    folder = bank_folder(copied, copied.state().banks[-1].digest)
    with monkeypatch.context() as patch:
        past = replace(copied.state(), banks=(replace(copied.state().banks[-1], destroy_by="2001-01-01"),))
        patch.setattr(type(copied), "state", lambda self: past)
        assert open_bank(copied) is None
    retire_bank(copied)
    assert not folder.exists()
    vouch_for(copied)
    outcome = copied.run(copied.request(block=FEW))
    assert outcome.guarantee is Guarantee.EXACT
    assert "no bank" in finding(outcome, "membership").reason


# ------------------------------------------------------------------------------------------------- where there is none


def test_a_policy_from_before_grants_what_it_did_and_asks_no_bank(tmp_path, monkeypatch) -> None:
    learn_by_heart(monkeypatch)
    with make_gallery(tmp_path / "ws", policy=WITHOUT, recipe={**BY_HEART, "epochs": 1}) as workspace:
        with pytest.raises(InputError, match="the policy asks no bank"):
            workspace.bank()
        assert not workspace.state().banks
        vouch_for(workspace)
        outcome = workspace.run(workspace.request(block=FEW))
        assert outcome.guarantee is Guarantee.EXACT
        assert set(verdicts(outcome)) == {"linkage", "provenance", "style"}


def test_no_bank_of_three_artists_of_a_third_each(tmp_path) -> None:
    with (
        make_works(tmp_path / "ws") as workspace,
        pytest.raises(InputError, match="no artist is small enough") as caught,
    ):
        workspace.bank()
    assert caught.value.got == "8 works of the one with the fewest"


def test_no_bank_without_works_to_compare_with_or_of_a_model_from_elsewhere(tmp_path, monkeypatch) -> None:
    learn_by_heart(monkeypatch)
    write_gallery(tmp_path / "gallery", test=19)
    with make_gallery(tmp_path / "ws", recipe={**BY_HEART, "epochs": 1}) as workspace:
        with pytest.raises(InputError, match="too few test works") as caught:
            workspace.bank()
        assert caught.value.got == "19"
        foreign = replace(workspace.served(), adopted=True)
        monkeypatch.setattr(type(workspace), "served", lambda self: foreign)
        with pytest.raises(InputError, match="trained elsewhere"):
            workspace.bank()


# ------------------------------------------------------------------------------------------------------------ the policy


@pytest.mark.parametrize(("guarantee", "accepted"), [("EXACT", False), ("EMPIRICAL", True)])
def test_a_residue_refuses_what_claims_to_be_exact_and_is_told_of_an_edit(guarantee, accepted) -> None:
    """An edit is a claim about a style: that the works are still known is in its certificate, and refuses nothing."""
    policy = parse_policy(GENERATOR)
    rules = policy.rules(Guarantee[guarantee])
    assert "membership" in rules
    findings = [
        Finding(
            check=check,
            question="?",
            statistic="?",
            verdict=Verdict.FAIL if check == "membership" else Verdict.PASS,
            reason="r = 1",
            n=1,
        )
        for check in rules
    ]
    assert policy.judge(Guarantee[guarantee], findings).accepted is accepted
    assert not policy.judge(Guarantee[guarantee], [f for f in findings if f.check != "membership"]).accepted
