"""The testbed's artists in a workspace, on real photos: the model is asked for the style, and the report shows what it draws."""

import pytest

from expunge import Workspace
from expunge.core.finding import Guarantee, Verdict
from expunge.training.recipe import parse_any_recipe
from expunge.workflow.policy import GENERATOR
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
    assert {condition.name for condition in style.conditions} == {"not_learned", "direct", "reworded"}
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
