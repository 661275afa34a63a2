"""An artist leaves a text-to-image model: to the certificate, by replay, and past an edit that proves nothing."""

import json
import shutil

import pytest

from expunge.core import registry
from expunge.core.errors import Held, InputError, NotErased
from expunge.core.finding import Guarantee, Verdict
from expunge.training.checkpoint import load_tensors
from expunge.workflow.policy import DEFAULT, GENERATOR
from expunge.workflow.styles.edits import Edit
from expunge.workflow.workspace import Workspace
from picture_files import ARTISTS, blue_ids, make_works, write_folder
from recommending import failed_steps, verdicts
from workspaces import nothing_changed, vouch_for

pytestmark = pytest.mark.usefixtures("one_thread")

NO_EDITS = GENERATOR.split("  EMPIRICAL:")[0] + GENERATOR[GENERATOR.index("attacks:") :]


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    """The workspace after a deletion, its outcome, and the original's weights as they were."""
    workspace = make_works(tmp_path_factory.mktemp("certified") / "ws")
    before = load_tensors(workspace.root / workspace.served().run / "model.safetensors")[0]
    yield workspace, workspace.run(workspace.request(block=ARTISTS[1])), before
    workspace.close()


@pytest.fixture
def workspace(tmp_path):
    with make_works(tmp_path / "ws") as opened:
        yield opened


def test_an_artist_is_deleted_by_replay_and_anybody_can_check_it(certified):
    workspace, outcome, _ = certified
    assert outcome.guarantee is Guarantee.EXACT
    assert outcome.trials[-1].method == "replay"
    assert failed_steps(workspace, outcome) == []
    assert verdicts(outcome) == {
        "linkage": Verdict.PASS,
        "membership": Verdict.INCONCLUSIVE,  # there is no bank
        "provenance": Verdict.PASS,
        "style": Verdict.INCONCLUSIVE,  # nobody said how the artist is asked for, and the certificate says so
    }
    assert "style INCONCLUSIVE" in outcome.certificate.sentence


def test_the_weights_are_those_of_a_training_without_the_artist(certified, tmp_path):
    workspace, _, before = certified
    job = workspace.fit_job(tmp_path / "again", absent=frozenset(workspace.served().absent))
    assert len(job.absent) == 8
    assert workspace.adapter.fit(job).digest == workspace.served().digest
    after = load_tensors(workspace.root / workspace.served().run / "model.safetensors")[0]
    assert any((before[name] != after[name]).any() for name in after)


def test_nothing_of_the_artist_is_in_the_evidence(certified):
    """Names of artists, works and captions: the requester knows them, a reader of the certificate must not need to."""
    workspace, outcome, _ = certified
    for file in outcome.certificate.path.parent.rglob("*"):
        if file.is_file():
            assert b"Bo Blue" not in file.read_bytes(), file.name
            assert b"train/001.png" not in file.read_bytes(), file.name
    assert b"Bo Blue" not in (workspace.root / "log.db").read_bytes()


def test_the_report_speaks_of_works(certified):
    report = certified[1].certificate.report.read_text(encoding="utf-8")
    assert "works" in report
    assert "Does the style come back" in report


def test_an_edit_that_nobody_can_judge_is_refused_and_the_retraining_is_taken(workspace):
    outcome = workspace.run(workspace.request(block=ARTISTS[1]), ["erasers/uce", "retrain"])
    assert [trial.method for trial in outcome.trials] == ["erasers/uce", "retrain"]
    refused, taken = (trial.decision for trial in outcome.trials)
    assert not refused.accepted
    assert any(reason.startswith("style: INCONCLUSIVE, must pass") for reason in refused.reasons)
    assert taken.guarantee is Guarantee.EXACT
    assert failed_steps(workspace, outcome) == []


def test_an_edit_alone_ends_in_an_incident_and_releases_nothing(workspace):
    served = workspace.served().digest
    with pytest.raises(NotErased):
        workspace.run(workspace.request(block=ARTISTS[1]), ["erasers/uce"])
    assert workspace.served().digest == served
    assert workspace.state().incidents


def test_attack_an_eraser_that_leaves_the_original_beside_its_file_is_not_even_judged(workspace, monkeypatch):
    honest = Edit.unlearn

    def unlearn(self, job):
        found = honest(self, job)
        (job.target / "unet").mkdir()
        shutil.copyfile(job.source / "model.safetensors", job.target / "unet" / "backup.safetensors")
        return found

    monkeypatch.setattr(Edit, "unlearn", unlearn)
    outcome = workspace.run(workspace.request(block=ARTISTS[1]), ["erasers/uce", "retrain"])
    assert [trial.method for trial in outcome.trials] == ["retrain"]
    failed = [entry.payload for entry in workspace.log.entries() if entry.kind == "candidate.failed"]
    assert failed == [{"reason": "census", "method": "erasers/uce"}]
    assert list(workspace.root.rglob("backup.safetensors")) == []


def test_an_adapter_that_can_be_taken_away_is_no_candidate(workspace):
    case = workspace.request(block=ARTISTS[1])
    plan = {item.method: item for item in workspace.plan(case)}
    assert "mitigation" in plan["erasers/lora"].refused
    assert plan["erasers/uce"].refused is None
    with pytest.raises(Held, match="no method can be used"):
        workspace.run(case, ["erasers/lora"])


def test_a_few_works_of_an_artist_are_deleted_without_a_word_about_the_style(workspace):
    outcome = workspace.run(workspace.request(ids=blue_ids(workspace)[:2]))
    assert outcome.guarantee is Guarantee.EXACT
    style = next(item for item in outcome.trials[-1].findings if item.check == "style")
    assert "single works" in style.reason


def test_the_same_pictures_under_another_name_hold_the_case(tmp_path):
    """Somebody uploaded the artist's work again: deleting one of two copies would delete nothing."""
    folder = write_folder(tmp_path / "works")
    index = folder / "train" / "metadata.jsonl"
    (folder / "train" / "copy.png").write_bytes((folder / "train" / "001.png").read_bytes())
    copy = {"file_name": "copy.png", "text": "a car image in Cy Coal style", "artist": "Cy Coal", "object": "car"}
    index.write_text(index.read_text() + json.dumps(copy) + "\n")
    with make_works(tmp_path / "ws") as workspace, pytest.raises(Held, match="same content"):
        workspace.run(workspace.request(block=ARTISTS[1]))


def test_a_policy_without_edits_offers_none(tmp_path):
    with make_works(tmp_path / "ws", policy=NO_EDITS) as workspace:
        plan = {item.method: item.refused for item in workspace.plan(workspace.request(block=ARTISTS[1]))}
        assert plan["replay"] is None
        assert "does not grant EMPIRICAL" in plan["erasers/uce"]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("    provenance: must_pass", "    provenance: report", "EXACT.provenance: must be at least must_pass"),
        ("    style: must_pass ", "    style: must_not_fail ", "EMPIRICAL.style: must be at least must_pass"),
        ("    collateral: must_pass", "    collateral: report", "EMPIRICAL.collateral: must be at least must_pass"),
        ("attacks: [lira, quantile, rmia]", "attacks: [lira]", "1 are named, limits.signals asks for 3"),
    ],
)
def test_a_soft_policy_is_refused(tmp_path, old, new, match):
    assert old in GENERATOR
    with pytest.raises(InputError) as caught:
        make_works(tmp_path / "ws", policy=GENERATOR.replace(old, new))
    assert match in str(caught.value.problems)


def test_a_policy_for_another_kind_of_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="the policy is for a classifier"):
        make_works(tmp_path / "ws", policy=DEFAULT)


def test_an_unknown_method_changes_nothing(workspace):
    case = workspace.request(block=ARTISTS[1])
    with nothing_changed(workspace.root), pytest.raises(InputError, match="unknown method"):
        workspace.plan(case, ["erasers/wishful"])


def test_no_listed_cheat_passes_on_works(workspace):
    """The self-test itself, on a model that nobody can judge by its pictures: provenance catches what claims to be exact, and
    no cheat against a style could be tried, so that no edit is even run."""
    report = workspace.selftest("quick").report
    assert report.passed == ()
    assert report.owed == ()
    caught = {tally.saboteur: tally.caught for tally in report.tallies}
    assert caught["retrain_with_data"] == caught["wrong_record"] == {"provenance": 1}
    edits = [tally for tally in report.tallies if tally.kind == "edit"]
    assert len(edits) == 8
    assert {(tally.tried, tally.skipped) for tally in edits} == {(0, report.edits.unread)}
    assert "nobody has said how this artist is asked for" in report.edits.unread
    assert "no edit is certified: no style can be judged here" in report.sentence
    plan = {item.method: item.refused for item in workspace.plan(workspace.request(block=ARTISTS[1]))}
    assert "does not vouch for this" in plan["erasers/uce"]
    assert plan["replay"] is None
    assert [alarm.check for alarm in report.alarms if alarm.alarms] == []


def test_the_workspace_opens_again_and_the_next_artist_follows(certified):
    workspace, _, _ = certified
    root = workspace.root
    workspace.close()
    with Workspace.open(root) as again:
        vouch_for(again)
        outcome = again.run(again.request(block=ARTISTS[2]))
        assert outcome.guarantee is Guarantee.EXACT
        assert len(again.served().absent) == 16


def test_every_eraser_is_a_plug_in_that_a_plan_can_name():
    from expunge.workflow.styles.edits import ESCALATION, edits

    assert set(ESCALATION) | {"lora"} == set(registry.names("erasers"))
    assert set(edits()) == {f"erasers/{name}" for name in registry.names("erasers")}
