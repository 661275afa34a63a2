"""V5: copies, exports, indices and backups that were made from the model with the user in it, and a backup that is put back."""

import json
import shutil
import zipfile
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from expunge import Workspace
from expunge.core.errors import InputProblems, IntegrityError
from expunge.core.finding import Guarantee, Verdict
from expunge.core.ladder import Place
from expunge.workflow.artefacts import inventory
from expunge.workflow.execute import require_logged
from recommending import a_user, cached_lists, failed_steps, finding, make, refused, verdicts, with_place

NEW = "sha256:" + "ab" * 32
TODAY = datetime.now(UTC).date()
NEXT_WEEK = (TODAY + timedelta(days=7)).isoformat()
YESTERDAY = (TODAY - timedelta(days=1)).isoformat()


def declared(workspace: Workspace, path, more: str = "") -> Workspace:
    """The same workspace with one artefact declared."""
    folder = workspace.root
    workspace.close()
    with (folder / "expunge.toml").open("a") as file:
        file.write(f'\n[[artefacts]]\nname = "a copy"\npath = "{path}"\n{more}\n')
    return Workspace.open(folder)


def found_of(workspace: Workspace, places=()):
    """What V5 lists when a model that is `NEW` is to replace the one in service."""
    candidate = SimpleNamespace(record=SimpleNamespace(digest=NEW), folder=workspace.root / "store" / "runs" / "new")
    return inventory(workspace, candidate, places)


def label(path, model, what="tensor"):
    """An artefact that says it was made from `model`."""
    if what == "tensor":
        save_file({"weights": np.ones((2, 2), np.float32)}, path, metadata={"model": model})
    elif what == "index":
        path.write_bytes(b"IxF2 whatever")
        path.with_name(path.name + ".json").write_text(json.dumps({"model": model}))
    elif what == "object":
        path.write_text(json.dumps({"model": model, "top": ["m001"]}))
    else:
        path.write_text(json.dumps([{"user": "u001", "model": model}, {"user": "u002", "model": NEW}]))


MADE = {"tensor": "export.safetensors", "index": "index.faiss", "object": "top.json", "entries": "lists.json"}


@pytest.mark.parametrize("what", MADE)
def test_a_copy_that_still_names_the_original_is_stale(workspace, tmp_path, what):
    file, original = tmp_path / MADE[what], workspace.served().digest
    with declared(workspace, file) as opened:
        for model, stale in ((original, ("a copy",)), (original[7:27], ("a copy",)), (NEW, ())):
            label(file, model, what)
            assert found_of(opened).stale == stale
            assert found_of(opened).unknown == ()


def test_the_originals_own_weights_are_told_whatever_their_label_says(workspace, tmp_path):
    """The attack: yesterday's model under today's name. Its digest is worked out, not read."""
    from expunge.training.checkpoint import load_tensors, save_tensors

    run = workspace.root / workspace.served().run
    tensors, _ = load_tensors(run / "model.safetensors")
    save_tensors(tmp_path / "backup.safetensors", tensors, {"model": NEW})
    shutil.copytree(run, tmp_path / "run")
    for name in ("backup.safetensors", "run"):
        with declared(workspace, tmp_path / name, f"# {name}") as opened:
            assert found_of(opened).stale == ("a copy",)
        text = (opened.root / "expunge.toml").read_text()
        (opened.root / "expunge.toml").write_text(text[: text.index("\n[[artefacts]]")])
        workspace = Workspace.open(opened.root)
    workspace.close()


PROMISES = {
    'expires = "{next_week}"': "until " + NEXT_WEEK,
    "days = 0": "until " + TODAY.isoformat(),
    "days = 7": "until " + NEXT_WEEK,
    'days = 31\nexpires = "{next_week}"': "until " + NEXT_WEEK,
    'expires = "{yesterday}"': None,
    "": None,
}


@pytest.mark.parametrize("promise", PROMISES)
def test_a_day_by_which_it_is_gone_is_told_and_one_that_has_passed_is_none(workspace, tmp_path, promise):
    label(tmp_path / "export.safetensors", workspace.served().digest)
    more = promise.format(next_week=NEXT_WEEK, yesterday=YESTERDAY)
    with declared(workspace, tmp_path / "export.safetensors", more) as opened:
        found = found_of(opened)
        if PROMISES[promise] is None:
            assert found.stale == ("a copy",)
        else:
            assert (found.stale, found.expiring[0]) == ((), f"a copy ({PROMISES[promise]})")


def test_a_promise_that_was_not_kept_is_stale_at_the_next_deletion(workspace, tmp_path, monkeypatch):
    """The days are counted from when its model was replaced: who never makes it anew cannot promise it again."""
    file = tmp_path / "export.safetensors"
    label(file, workspace.served().digest)
    with declared(workspace, file, "days = 7") as opened:
        outcome = opened.run(opened.request(ids=[a_user(opened)]))
        told = finding(outcome, "downstream")
        assert told.verdict is Verdict.PASS
        assert f"a copy (until {NEXT_WEEK})" in told.reason
        with zipfile.ZipFile(outcome.certificate.path) as bundle:
            report = bundle.read("report.html").decode()
        assert f"a copy: made from an older model, until {NEXT_WEEK}" in report
        assert found_of(opened).stale == ()

        class Later(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.now(tz) + timedelta(days=8)

        monkeypatch.setattr("expunge.workflow.artefacts.datetime", Later)
        assert found_of(opened).stale == ("a copy",)
        label(file, opened.served().digest)
        assert found_of(opened).stale == ()


UNKNOWN = {
    "nobody's digest": lambda file: label(file, "sha256:" + "77" * 32),
    "an abbreviation of all digests": lambda file: label(file, "sha256:"),
    "no label": lambda file: save_file({"w": np.ones(1, np.float32)}, file),
    "no file of its kind": lambda file: file.write_bytes(b"weights"),
    "a link": lambda file: file.symlink_to(file.parent / "elsewhere"),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_an_artefact_of_unknown_origin_is_never_a_pass(workspace, tmp_path, what):
    file = tmp_path / "export.safetensors"
    UNKNOWN[what](file)
    with declared(workspace, file, "days = 31") as opened:
        assert (found_of(opened).unknown, found_of(opened).stale) == (("a copy",), ())


def test_an_entry_without_its_model_makes_all_of_them_unknown(workspace, tmp_path):
    file = tmp_path / "lists.json"
    file.write_text(json.dumps({"u001": {"model": NEW, "items": []}, "u002": {"items": []}}))
    with declared(workspace, file) as opened:
        assert found_of(opened).unknown == ("a copy",)


def test_what_is_gone_is_counted_and_the_workspaces_own_runs_are_listed(workspace, tmp_path):
    with declared(workspace, tmp_path / "nothing.bin") as opened:
        found = found_of(opened)
        assert (found.gone, found.stale, found.unknown) == (1, (), ())
        assert found.expiring == ("runs in the workspace: 1 (with the release)",)


def test_lists_that_could_not_be_cleaned_are_stale_and_other_kinds_are_no_question_of_the_model(workspace):
    def place(kind, **changes):
        known = {"kind": kind, "name": kind, "before": 3, "after": 0, "planted": (3, 3)}
        return Place(**{**known, **changes})

    assert "lists (with the release)" in found_of(workspace, [place("lists"), place("events", after=3)]).expiring
    assert found_of(workspace, [place("lists", after=1), place("events", after=3)]).stale == ("lists",)
    assert found_of(workspace, [place("lists", unread="damaged")]).unknown == ("lists",)


def test_a_stale_copy_refuses_the_deletion(workspace, tmp_path):
    """The attack: delete the user from the model, and go on serving from an export of the old one."""
    label(tmp_path / "export.safetensors", workspace.served().digest)
    with declared(workspace, tmp_path / "export.safetensors") as opened:
        said = refused(opened, a_user(opened))
        assert "downstream: FAIL: 1 artefacts still name the original (a copy)" in said


def test_cached_lists_are_swapped_with_the_release_and_the_finding_says_so(workspace, tmp_path):
    cached_lists(tmp_path / "lists.json", workspace.served().digest, ["u001", "u002"])
    with with_place(workspace, "lists", tmp_path / "lists.json") as opened:
        told = finding(opened.run(opened.request(ids=[a_user(opened)])), "downstream")
        assert told.verdict is Verdict.PASS
        assert "a place (with the release)" in told.reason
        assert told.original == 2.0


def test_names_are_told_apart_and_days_are_days(workspace, tmp_path):
    opened = declared(workspace, tmp_path / "x")
    folder = opened.root
    opened.close()
    text = (folder / "expunge.toml").read_text()
    for wrong, said in (
        ('\n[[artefacts]]\nname = "a copy"\npath = "y"\n', "same name"),
        ('expires = "soon"\n', "soon"),
    ):
        (folder / "expunge.toml").write_text(text + wrong)
        with pytest.raises(InputProblems, match=said):
            Workspace.open(folder)
    assert date.fromisoformat(NEXT_WEEK) > TODAY


# ------------------------------------------------------------------------------------------------ an old backup is put back


@pytest.mark.parametrize("family", ["ease", "ials", "multvae"])
def test_an_old_backup_is_put_back(tmp_path, family):
    """It is refused as it is, and with the deletion done again it is the model that was certified, bit for bit."""
    with make(tmp_path / "ws", family=family) as workspace:
        backup = shutil.copytree(workspace.root / workspace.served().run, tmp_path / "backup")
        outcome = workspace.run(workspace.request(ids=[a_user(workspace)]))
        assert outcome.guarantee is Guarantee.EXACT
        assert verdicts(outcome)["downstream"] is Verdict.PASS
        told = finding(outcome, "downstream")
        assert (told.details["replays"], told.details["refused"]) == ("1", "yes")
        assert "is the candidate; as it is, it is refused" in told.reason
        assert failed_steps(workspace, outcome) == []
        again = workspace.adapter.fit(workspace.fit_job(tmp_path / "again", absent=workspace.book.tombstones))
        assert again.digest == workspace.served().digest
        served = workspace.root / workspace.served().run / "model.safetensors"
        shutil.copyfile(backup / "model.safetensors", served)
        with pytest.raises(IntegrityError, match="not the model that was logged"):
            workspace.run(workspace.request(ids=[a_user(workspace)]))
        require_logged(again.model, workspace.served().digest)


def test_a_guard_that_lets_a_backup_pass_fails_the_rung(workspace, monkeypatch):
    """The negative control of the guard: without it the restored original would be taken for the candidate."""
    monkeypatch.setattr("expunge.workflow.ladder.require_logged", lambda file, digest: None)
    assert "downstream: FAIL" in refused(workspace, a_user(workspace))


def test_a_trained_candidate_that_no_replay_gives_is_no_way_back(tmp_path, monkeypatch):
    """The attack: weights that were nudged after the retraining; a restore that is trained again would be another model."""
    from expunge.core import registry
    from expunge.training.checkpoint import load_tensors, save_tensors

    retrain = registry.load("methods", "retrain")
    honest = retrain.unlearn

    def nudged(self, job):
        result = honest(self, job)
        tensors, labels = load_tensors(result.model)
        name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
        digest = save_tensors(result.model, {**tensors, name: tensors[name] + 1e-6}, labels)
        return type(result)(**{**{k: getattr(result, k) for k in result.__slots__}, "digest": digest})

    monkeypatch.setattr(retrain, "unlearn", nudged)
    with make(tmp_path / "ws", family="ials") as workspace:
        said = refused(workspace, a_user(workspace))
        assert "downstream: FAIL" in said
        assert "with the deletions replayed is not the candidate" in said
