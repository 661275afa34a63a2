"""A bank of users: one user between two tastes leaves a trace in every model that saw them, and none in the others.

The halves of the bank, and the seed of a judgement, follow from keys that are drawn anew in every workspace; here they are
fixed, so that what is asserted does not hang on a draw.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recommending
from expunge import Workspace
from expunge.core import registry
from expunge.core.finding import Guarantee, Verdict
from expunge.farm.users import FILE
from expunge.workflow import measure, pipeline, train
from expunge.workflow.policy import RECOMMENDER
from expunge.workflow.selftest.methods import Tried, refusal, try_method
from expunge.workflow.selftest.rehearsal import Rehearsal, Rehearsed, rehearsed
from expunge.workflow.train import open_bank
from recommending import failed_steps, finding, make, verdicts
from workspaces import vouch_for

USERS, PAIRS, PEERS, PILOT = 120, 32, 38, 8
PLANTED = "user/planted"
RECIPE = {"solver": "als", "sweeps": 40, "model": {"factors": 3, "regularization": "1", "alpha": "5"}}
POLICY = RECOMMENDER.replace("margin: 0.2 ", "margin: 0.5 ").replace("ranking_margin: 0.005", "ranking_margin: 0.05")


def rows_of_two_tastes() -> list[tuple[str, str, float, int]]:
    """Everybody has 8 of their half of 60 films and sometimes one more; one user has every third film of both halves."""
    draw, rows = np.random.default_rng(1), []
    for user in range(USERS):
        films = {*(draw.choice(30, size=8, replace=False) + 30 * (user % 2)).tolist()}
        films |= {int(draw.integers(60))} if draw.random() < 0.3 else set()
        rows += [(f"u{user:03d}", f"m{film:02d}", 4.0, 10**9 + film) for film in sorted(films)]
    return [*rows, *(("planted", f"m{film:02d}", 4.0, 10**9 + film) for film in range(0, 60, 3))]


@pytest.fixture(scope="module")
def fixed() -> Iterator[None]:
    """Pseudonyms of blocks by their place, and one seed for every judgement."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "bank_blocks", lambda ws: [name and f"c{k:06d}" for k, name in enumerate(ws.book.blocks)])
        patch.setattr(measure, "DOSES", (4,))  # of three that are costly here, one is enough to be seen
        patch.setattr(pipeline, "seed_after", lambda case, checkpoint: "5eed" * 8)
        patch.setattr(recommending, "TEST_USERS", 30)
        patch.setattr(recommending, "RECOMMENDER", POLICY)
        patch.setitem(recommending.TRAINED, "ials", RECIPE)
        yield


@pytest.fixture(scope="module")
def folder(fixed: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("users") / "ws"
    bank = {"pairs": PAIRS, "anchors": PEERS, "monitored": (PLANTED,)}
    with make(root, rows=rows_of_two_tastes(), family="ials", bank=bank) as workspace:
        workspace.bank()
        vouch_for(workspace)
    return root


@pytest.fixture(scope="module")
def stage(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rehearsal, Rehearsed]]:
    """The workspace with a scratch log, and the planted user's case, judged by the first pairs of the bank."""
    with Workspace.open(folder) as workspace:
        scratch = tmp_path_factory.mktemp("stage")
        rehearsal = Rehearsal(workspace, scratch, seed="ab" * 16, pairs=PILOT)
        try:
            yield rehearsal, rehearsed(rehearsal, scratch / "block-0", PLANTED)
        finally:
            rehearsal.close()


def tried(stage: tuple[Rehearsal, Rehearsed], name: str) -> Tried:
    rehearsal, case = stage
    assert refusal(rehearsal, name, case) is None
    return try_method(rehearsal, f"saboteurs/{name}", case, 0)


def of(found: Tried, check: str) -> Any:
    return next(item for item in found.findings if item.check == check)


# ---------------------------------------------------------------------------------------------------------- the controls


def test_a_model_that_was_left_as_it_is_fails_on_its_kin_and_on_itself(stage) -> None:
    found = tried(stage, "users_left_in")
    assert not found.certified
    assert {"membership", "deployed"} <= set(found.failed)
    assert of(found, "membership").estimate == pytest.approx(1, abs=0.05)  # r: nothing removed


def test_a_retraining_is_not_flagged(stage) -> None:
    found = tried(stage, "placebo")
    assert (
        found.failed == ("behaviour",) or found.failed == ()
    )  # another seed gives other scores: reported, and no alarm
    assert abs(of(found, "membership").estimate) < 0.5


def test_lists_of_popular_items_pass_neither_for_a_member_nor_for_an_erasure(stage) -> None:
    found = tried(stage, "popular_lists")
    assert not found.certified
    assert of(found, "membership").verdict is not Verdict.PASS
    assert "deployed" in found.failed


def test_honest_on_the_bench_and_idle_on_the_road_is_seen_in_the_served_file_alone(stage) -> None:
    found = tried(stage, "honest_on_the_bench")
    assert not found.certified
    assert of(found, "membership").verdict is not Verdict.FAIL
    assert "deployed" in found.failed


# ------------------------------------------------------------------------------------------------------------- the story


def test_a_warm_start_that_arrives_is_certified_empirical_and_the_bank_forgets_with_it(folder, tmp_path, monkeypatch):
    method = registry.load("methods", "warm_start")
    monkeypatch.setattr(method, "_config", lambda self, job: method.Config(sweeps=RECIPE["sweeps"]))
    with Workspace.open(Path(shutil.copytree(folder, tmp_path / "ws"))) as workspace:
        bank, slot = open_bank(workspace), workspace.book.slots_of([PLANTED])[0]
        history = workspace.data.train.row(slot)[0].tobytes()
        outcome = workspace.run(workspace.request(ids=[PLANTED]), ["warm_start"])
        assert outcome.guarantee is Guarantee.EMPIRICAL
        assert {verdicts(outcome)[check] for check in ("membership", "deployed", "census")} == {Verdict.PASS}
        assert verdicts(outcome)["behaviour"] is Verdict.FAIL  # it is not the retraining, and nobody says that it is
        assert (
            0 < float(finding(outcome, "behaviour").details["residual_ratio"]) < 1
        )  # a warm start shows how far it came
        assert finding(outcome, "membership").n == PAIRS
        said = outcome.certificate.sentence
        assert said.startswith(f"On {PAIRS} retrainings, attacks lira, own_rank, reconstruction found a mean residual")
        assert "other attacks and copies were not tested" in said
        assert failed_steps(workspace, outcome) == []
        assert not bank.sketches().train[:, slot].any()
        assert all(history not in file.read_bytes() for file in bank.folder.rglob("*") if file.is_file())
        with np.load(bank.folder / FILE) as held:
            assert np.diff(held["train_indptr"])[slot] == 0


def test_a_deletion_by_retraining_says_whether_the_bank_could_see_the_user(folder, tmp_path):
    with Workspace.open(Path(shutil.copytree(folder, tmp_path / "ws"))) as workspace:
        case = workspace.request(ids=[PLANTED])
        assert {item.method: item.refused for item in workspace.plan(case)}["warm_start"] is None
        outcome = workspace.run(case, ["retrain"])
        assert outcome.guarantee is Guarantee.EXACT
        found = finding(outcome, "membership")
        assert found.verdict is not Verdict.FAIL
        assert "the assay sees this block" in found.reason
        assert "no X arm was run" in found.reason
        assert "deployed" not in verdicts(outcome)
        assert failed_steps(workspace, outcome) == []


# ------------------------------------------------------------------------------------------------- trained by gradients


def test_a_family_of_the_loop_is_judged_by_the_same_bank(fixed, tmp_path, monkeypatch) -> None:
    """BPR, on the fewest pairs that are judged: what was left in is seen, and a retraining from another seed is not flagged."""
    loop = {"epochs": 40, "batch": 16, "lr": 2.0, "threads": 1, "introduce": (0.0,), "model": {"factors": 16}}
    monkeypatch.setitem(recommending.TRAINED, "bpr", loop)
    bank = {"pairs": 6, "monitored": (PLANTED,)}
    with make(tmp_path / "ws", rows=rows_of_two_tastes(), family="bpr", bank=bank) as workspace:
        workspace.bank()
        (tmp_path / "stage").mkdir()
        rehearsal = Rehearsal(workspace, tmp_path / "stage", seed="ab" * 16)
        case = rehearsed(rehearsal, tmp_path / "stage" / "block-0", PLANTED)
        left, honest = (try_method(rehearsal, f"saboteurs/{name}", case, 0) for name in ("users_left_in", "placebo"))
        rehearsal.close()
    assert of(left, "membership").verdict is Verdict.FAIL
    assert of(left, "membership").estimate == pytest.approx(1, abs=0.1)
    assert of(honest, "membership").verdict is not Verdict.FAIL
    assert abs(of(honest, "membership").estimate) < 0.5
    assert {of(found, "deployed").verdict for found in (left, honest)} == {Verdict.UNVERIFIABLE}  # no full-size models
    assert not left.certified
    assert not honest.certified
