"""The testbed's artists in a workspace, on real photos: the model is asked for the style, and the report shows what it draws."""

import pytest

from expunge import Workspace
from expunge.core import registry
from expunge.core.finding import Guarantee, Verdict
from expunge.training.recipe import parse_any_recipe
from expunge.workflow.policy import GENERATOR
from expunge.workflow.selftest.edits import FILES, try_edits
from expunge.workflow.selftest.methods import ran
from expunge.workflow.selftest.rehearsal import Rehearsal, rehearsed
from expunge.workflow.styles import evidence
from expunge.workflow.styles.sheet import FILE
from picture_files import TINY
from recommending import failed_steps, finding
from workspaces import vouch_for

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def deleted(tmp_path_factory, shared):
    """An untrained-looking model of four works an artist and object, one artist deleted."""
    config = {
        "data": {"source": "artist_styles", "path": str(shared / "cifar10"), "options": {"works": 4}},
        "model": {"seed": "00112233445566778899aabbccddeeff"},
        "compute": {"engine": "inline://"},
        "styles": {"pictures": 4, "steps": 1, "retained": 4},
    }
    recipe = parse_any_recipe({**TINY, "batch": 64})
    workspace = Workspace.create(
        tmp_path_factory.mktemp("testbed") / "ws", config=config, recipe=recipe, policy=GENERATOR
    )
    workspace.train()
    vouch_for(workspace)
    yield workspace, workspace.run(workspace.request(block="neon"))
    workspace.close()


def test_the_model_is_asked_for_the_artist_beside_the_proof_by_provenance(deleted):
    workspace, outcome = deleted
    assert outcome.guarantee is Guarantee.EXACT
    style = finding(outcome, "style")
    assert style.n == 2 * 8 * 4
    assert {condition.name for condition in style.conditions} >= {"not_learned", "direct", "reworded"}
    assert style.reason.startswith("the proof is the log of the training")
    assert failed_steps(workspace, outcome) == []


def test_32_pictures_are_too_few_to_pass(deleted):
    assert finding(deleted[1], "style").verdict is Verdict.INCONCLUSIVE


def test_the_report_has_the_sheet_and_the_store_has_it_no_more(deleted):
    workspace, outcome = deleted
    report = outcome.certificate.report.read_text(encoding="utf-8")
    assert report.count("data:image/png;base64,") == 5 * 2
    assert "objects in the artist" in report
    assert list(workspace.root.rglob(FILE)) == []


def test_the_plan_names_what_will_be_asked(deleted):
    plan = deleted[1].trials[-1].plan
    assert plan.params["asked"].startswith("sha256:")


def test_cheats_against_a_style_that_was_never_learned_are_refused_and_so_is_the_honest_control(
    deleted, tmp_path, monkeypatch
):
    """The shipped judges, and prompts alone of the battery. Who cannot say that an honest model is free of the style has caught
    nobody by looking: what can be told without a picture is told, and no edit is vouched for."""
    monkeypatch.setattr(evidence, "DEFAULT_PROBES", evidence.DEFAULT_PROBES[:2])
    rehearsal = Rehearsal(deleted[0], tmp_path, seed="ab" * 16, pictures=4)
    block = rehearsed(rehearsal, tmp_path / "block", "halftone")
    cheats = {name: registry.load("style_saboteurs", name)() for name in ("prompt_filter", "original_beside")}
    try:
        with ran(rehearsal, "retrain", registry.load("methods", "retrain")(), block, 0) as clean:
            found = try_edits(rehearsal, block, clean, cheats)
    finally:
        rehearsal.close()
    caught = {
        tally.saboteur.split("/")[1]: (tally.tried, tally.certified, dict(tally.caught)) for tally in found.tallies
    }
    assert caught == {"prompt_filter": (1, 0, {"weights": 1}), "original_beside": (1, 0, {"census": 1})}
    assert "style: " in found.trial.objection
    assert {item.check: item.trials for item in found.alarms} == {"style": 1, "collateral": 1, FILES: 1}
