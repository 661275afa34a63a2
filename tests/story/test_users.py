"""Whole deletions of a recommender's users: what is certified, what is refused, and what is left behind."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from expunge import Workspace
from expunge.core import registry
from expunge.core.codec import loads
from expunge.core.errors import DataError, EvidenceError, Held, InputError, InputProblems, IntegrityError, NotErased
from expunge.core.finding import Guarantee, Verdict
from expunge.evidence.keys import read_roots
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.verify import verify_bundle
from expunge.training.checkpoint import load_tensors, save_tensors, weights_identity
from expunge.workflow import pipeline
from expunge.workflow.policy import DEFAULT, read_policy
from expunge.workflow.recompute import recompute
from expunge.workflow.train import refresh
from recommending import a_user, cached_lists, make, rows_of, write_rows
from workspaces import vouch_for


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("users")
    make(folder / "ws").close()
    return folder


@pytest.fixture
def workspace(trained: Path, tmp_path: Path):
    """A fresh copy, with its own copy of the source."""
    folder = Path(shutil.copytree(trained, tmp_path / "copy"))
    text = (folder / "ws" / "expunge.toml").read_text()
    (folder / "ws" / "expunge.toml").write_text(text.replace(str(trained), str(folder)))
    with Workspace.open(folder / "ws") as opened:
        yield opened


def verdicts(outcome) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in outcome.trials[-1].findings}


def failed_steps(workspace: Workspace, outcome) -> list[str]:
    receipt = outcome.certificate.path.parent / "receipt.json"
    result = verify_bundle(
        outcome.certificate.path,
        roots=read_roots(workspace.root / "roots.json"),
        policy=read_policy(workspace.root / "policy.yaml"),
        against=str(loads(receipt.read_bytes())["checkpoint"]),
    )
    return [f"{step.number}: {step.reason}" for step in result.steps if step.status == "failed"]


def finding(outcome, name: str):
    return next(item for item in outcome.trials[-1].findings if item.check == name)


# ------------------------------------------------------------------------------------------------------ what is right


@pytest.mark.parametrize("family", ["ease", "ridge", "itemknn", "rp3beta", "popularity", "covisitation"])
def test_a_user_is_forgotten_exactly_in_every_family(family, tmp_path):
    with make(tmp_path / "ws", family=family) as workspace:
        name = a_user(workspace)
        outcome = workspace.run(workspace.request(ids=[name]))
        assert outcome.guarantee is Guarantee.EXACT
        assert outcome.trials[-1].method == "downdate"
        found = verdicts(outcome)
        assert {found[check] for check in ("algebra", "census", "left_out", "behaviour", "downstream")} == {
            Verdict.PASS
        }
        assert failed_steps(workspace, outcome) == []
        without = workspace.adapter.fit(workspace.fit_job(tmp_path / "again", absent=workspace.book.tombstones))
        assert without.digest == workspace.served().digest


@pytest.mark.parametrize(("family", "method"), [("ials", "retrain"), ("multvae", "retrain"), ("multvae", "replay")])
def test_a_trained_family_is_certified_by_running_its_recipe_again(family, method, tmp_path):
    with make(tmp_path / "ws", family=family) as workspace:
        outcome = workspace.run(workspace.request(ids=[a_user(workspace)]), [method])
        assert outcome.guarantee is Guarantee.EXACT
        found = finding(outcome, "algebra")
        assert found.verdict is Verdict.PASS
        assert found.estimate == 0 < found.original
        assert verdicts(outcome)["left_out"] is Verdict.PASS
        assert verdicts(outcome)["weights_only"] is Verdict.INCONCLUSIVE
        assert failed_steps(workspace, outcome) == []
        assert not list(Path(tempfile.gettempdir()).glob("expunge-retraining-*"))


def test_a_training_too_long_to_run_again_is_not_certified(tmp_path, monkeypatch):
    monkeypatch.setattr("expunge.workflow.ladder.LONGEST", -1.0)
    with make(tmp_path / "ws", family="ials") as workspace:
        assert "algebra: INCONCLUSIVE, must pass: no retraining was made" in refused(workspace, a_user(workspace))


def test_warm_starts_are_offered_and_never_certified(tmp_path):
    with make(tmp_path / "ws", family="ials") as workspace:
        case = workspace.request(ids=[a_user(workspace)])
        refusals = {item.method: item.refused for item in workspace.plan(case)}
        assert refusals["retrain"] is None
        assert refusals["warm_start"] == "the policy does not grant EMPIRICAL"


def test_retraining_is_the_fallback_and_gives_the_same_model(workspace, tmp_path):
    twin = Path(shutil.copytree(workspace.root, tmp_path / "twin"))
    name = a_user(workspace)
    workspace.run(workspace.request(ids=[name]))
    with Workspace.open(twin) as other:
        outcome = other.run(other.request(ids=[name]), ["retrain"])
        assert outcome.guarantee is Guarantee.EXACT
        assert other.served().digest == workspace.served().digest


def test_several_users_in_one_request_and_one_after_another(workspace):
    batch = [a_user(workspace, rank) for rank in (0.1, 0.4, 0.8)]
    outcome = workspace.run(workspace.request(ids=batch))
    assert finding(outcome, "left_out").n == 3
    assert workspace.run(workspace.request(ids=[a_user(workspace)])).guarantee is Guarantee.EXACT
    assert len(workspace.book.tombstones) == 4
    with pytest.raises(InputError, match="already deleted"):
        workspace.request(ids=batch[:1])


def test_a_second_holder_recomputes_from_the_retained_users_alone(workspace, tmp_path):
    name = a_user(workspace)
    outcome = workspace.run(workspace.request(ids=[name]))
    theirs = tmp_path / "theirs.csv"
    write_rows(theirs, [row for row in rows_of() if f"user/{row[0]}" != name])
    FileSigner.create(tmp_path / "second.pem")
    bundle = outcome.certificate.path
    done = recompute(
        bundle,
        bundle.parent / "recompute.json",
        data=str(theirs),
        key=f"file:{tmp_path / 'second.pem'}",
        by="second",
        out=tmp_path / "cosignature.json",
    )
    assert done.model == workspace.served().digest


def test_columns_stay_when_the_source_loses_its_users_and_their_items(workspace):
    lonely = np.bincount(workspace.data.train.indices, minlength=len(workspace.data.items)) == 1
    owner = next(s for s in range(len(workspace.data.train)) if lonely[workspace.data.train.row(s)[0]].any())
    name = str(workspace.book.ids[owner])
    workspace.run(workspace.request(ids=[name]))
    source = Path(workspace.named_data["options"]["path"])
    write_rows(source, [row for row in rows_of() if f"user/{row[0]}" != name])
    served, folder = workspace.served().digest, workspace.root
    workspace.close()
    with Workspace.open(folder) as again:
        assert len(again.data.items) == len(again.vocabulary)
        assert again.adapter.fit(again.fit_job(folder / "again", absent=again.book.tombstones)).digest == served
        assert again.run(again.request(ids=[a_user(again)])).guarantee is Guarantee.EXACT


def test_a_restored_source_brings_nobody_back(workspace, tmp_path):
    name = a_user(workspace)
    workspace.run(workspace.request(ids=[name]))  # the source still holds the user, as a restored backup would
    assert name in (row_name for row_name in {f"user/{row[0]}" for row in rows_of()})
    fitted = workspace.adapter.fit(workspace.fit_job(tmp_path / "again", absent=workspace.book.tombstones))
    assert fitted.digest == workspace.served().digest


def test_a_refresh_builds_the_cache_anew_and_leaves_the_model(workspace):
    workspace.run(workspace.request(ids=[a_user(workspace)]))
    served, run = workspace.served().digest, workspace.root / workspace.served().run
    drifted = np.load(run / "inverse.npy")
    np.save(run / "inverse.npy", drifted * (1 + 1e-6))
    before, after = refresh(workspace)
    assert after < 1e-12 < 1e-7 < before
    assert workspace.served().digest == served
    assert np.abs(np.load(run / "inverse.npy") - drifted).max() < 1e-12
    assert [entry.kind for entry in workspace.log.entries()].count("cache.refreshed") == 1


# -------------------------------------------------------------------------------------------------- what may not leak


def test_the_bundle_holds_no_trace_of_the_history(workspace):
    name = a_user(workspace, 0.9)
    slot = workspace.book.slots_of([name])[0]
    columns, values = workspace.data.train.row(slot)
    items = [workspace.data.items[column] for column in columns.tolist()]
    words = [name, name.partition("/")[2], *items, *(item.partition("/")[2] for item in items)]
    digests = [hashlib.sha256(word.encode()).hexdigest() for word in words] + [
        workspace.data.train.content_digest(slot)
    ]
    lists = [
        json.dumps(columns.tolist())[1:-1],
        ",".join(map(str, columns.tolist())),
        " ".join(map(str, columns.tolist())),
    ]
    outcome = workspace.run(workspace.request(ids=[name]))
    with zipfile.ZipFile(outcome.certificate.path) as archive:
        texts = {member: archive.read(member) for member in archive.namelist()}
    assert len(texts) > 5
    for word in [*words, *digests, *lists]:
        assert [member for member, text in texts.items() if word.encode() in text] == [], word
    for array in (columns, values, columns.astype(np.int64), np.asarray(columns, np.float64)):
        assert all(array.tobytes() not in text for text in texts.values())


def test_both_models_are_never_kept_because_their_difference_is_the_history(workspace):
    before = load_tensors(workspace.root / workspace.served().run / "model.safetensors")[0]["gram"].clone()
    name = a_user(workspace)
    history = workspace.data.train.row(workspace.book.slots_of([name])[0])[0]
    workspace.run(workspace.request(ids=[name]))
    after = load_tensors(workspace.root / workspace.served().run / "model.safetensors")[0]["gram"]
    assert int((before != after).sum()) == len(history) * (len(history) + 1) // 2  # so whoever has both reads it
    assert len(list(workspace.root.rglob("model.safetensors"))) == 1
    assert len(list(workspace.root.rglob("inverse.npy"))) == 1


# ---------------------------------------------------------------------------------------------- what must be caught


def with_place(workspace: Workspace, kind: str, path: Path, options: str = "", second: str = "") -> Workspace:
    """The same workspace with one place declared."""
    folder = workspace.root
    workspace.close()
    with (folder / "expunge.toml").open("a") as file:
        file.write(f'\n[[places]]\nname = "a place{second}"\nkind = "{kind}"\npath = "{path}"\n{options}')
    return Workspace.open(folder)


def refused(workspace: Workspace, name: str) -> str:
    """Why nothing was released."""
    with pytest.raises(NotErased) as caught:
        workspace.run(workspace.request(ids=[name]))
    assert workspace.state().incidents
    return str(caught.value.got)


def test_lists_of_other_users_made_by_the_old_model_are_cleaned(workspace, tmp_path):
    file, name = tmp_path / "lists.json", a_user(workspace)
    cached_lists(file, workspace.served().digest, ["u001", "u002", name.partition("/")[2]])
    with with_place(workspace, "lists", file) as opened:
        outcome = opened.run(opened.request(ids=[name]))
        assert verdicts(outcome)["census"] is Verdict.PASS
        assert json.loads(file.read_text()) == {}
        assert not list(opened.root.rglob("places"))


def test_nothing_outside_is_touched_when_a_deletion_is_not_accepted(workspace, tmp_path):
    file, name = tmp_path / "lists.json", a_user(workspace)
    cached_lists(file, workspace.served().digest, [name.partition("/")[2]])
    (tmp_path / "app.log").write_text(f"served {name.partition('/')[2]} at noon\n")
    before = file.read_bytes()
    with (
        with_place(workspace, "lists", file) as first,
        with_place(first, "text", tmp_path / "app.log", second="b") as opened,
    ):
        assert "census" in refused(opened, name)
    assert file.read_bytes() == before


def test_an_index_that_was_not_rebuilt_is_found_and_nothing_is_released(workspace, tmp_path):
    name = a_user(workspace)
    slot = workspace.book.slots_of([name])[0]
    vectors = np.random.Generator(np.random.Philox(1)).normal(size=(len(workspace.book.ids) + 10, 8)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    (tmp_path / "users.index").write_bytes(b"IxFI" + b"\0" * 60 + vectors[: len(workspace.book.ids)].tobytes())
    options = '[places.options]\nvectors = "vectors.npy"\n'
    with with_place(workspace, "index", tmp_path / "users.index", options) as opened:
        assert slot < len(vectors)
        served = opened.served().digest
        assert "census" in refused(opened, name)
        assert opened.served().digest == served


def test_a_log_that_names_the_user_holds_the_release(workspace, tmp_path):
    name = a_user(workspace)
    (tmp_path / "app.log").write_text(f"12:00 list for {name.partition('/')[2]} sent\n")
    with with_place(workspace, "text", tmp_path / "app.log") as opened:
        assert "census: FAIL" in refused(opened, name)


def test_a_place_that_cannot_be_read_is_no_pass(workspace, tmp_path):
    with with_place(workspace, "lists", tmp_path / "nowhere.json") as opened:
        assert "census: UNVERIFIABLE" in refused(opened, a_user(opened))


def test_the_same_person_under_two_ids_holds_the_case(tmp_path):
    rows = rows_of()
    longest = max({row[0] for row in rows}, key=lambda user: sum(row[0] == user for row in rows))
    twin = [("zz9", item, stars, time) for user, item, stars, time in rows if user == longest]
    with make(tmp_path / "ws", rows=rows + twin) as workspace:
        names = [name for name in (f"user/{longest}", "user/zz9") if name in workspace.book.ids]
        if len(names) < 2:  # one of the two is a test user: then it is a copy among these
            outcome = refused(workspace, names[0])
            assert "census" in outcome
            return
        with pytest.raises(Held, match="hold the same content"):
            workspace.run(workspace.request(ids=names[:1]))
        assert workspace.run(workspace.request(ids=names)).guarantee is Guarantee.EXACT


def test_a_second_account_that_is_much_alike_is_counted_and_named_to_a_person(tmp_path):
    rows = rows_of()
    longest = max({row[0] for row in rows}, key=lambda user: sum(row[0] == user for row in rows))
    mine = [row for row in rows if row[0] == longest]
    alike = [("zz9", item, stars, time) for _, item, stars, time in mine[: round(0.9 * len(mine))]]
    with make(tmp_path / "ws", rows=rows + alike) as workspace:
        name = "user/zz9" if "user/zz9" in workspace.book.ids else f"user/{longest}"
        case = workspace.request(ids=[name])
        outcome = workspace.run(case)
        found = finding(outcome, "linkage")
        outside, test = (int(found.details[name]) for name in ("outside", "test"))
        assert outside + test == 1
        assert found.verdict is (Verdict.INCONCLUSIVE if outside else Verdict.PASS)
        assert found.details["twins_found"] == found.details["twins_planted"] == "60"


def test_a_copy_of_the_user_among_the_test_users_fails_the_census(workspace):
    name = a_user(workspace, 0.9)
    slot = workspace.book.slots_of([name])[0]
    test, train = workspace.data.test, workspace.data.train
    span, own = test.span(0), train.span(slot)
    cut = lambda theirs, mine: np.concatenate([mine, theirs[span.stop :]])  # noqa: E731
    copied = type(test)(
        ids=test.ids,
        blocks=test.blocks,
        items=test.items,
        indptr=np.concatenate([[0], test.indptr[1:] - (span.stop - span.start) + (own.stop - own.start)]),
        indices=cut(test.indices, train.indices[own]),
        values=cut(test.values, train.values[own]),
        times=cut(test.times, train.times[own]),
    )
    workspace.__dict__["data"] = type(workspace.data)(
        source="s", note="n", scale=workspace.data.scale, train=train, test=copied
    )
    assert "census: FAIL" in refused(workspace, name)


def test_somebody_who_is_not_there_is_answered_with_where_was_searched(workspace):
    size = workspace.log.size
    with pytest.raises(InputError) as caught:
        workspace.request(ids=["user/nobody"])
    assert caught.value.code == "not_present"
    assert "searched: 45 present records, 0 erased ones and the test split" in str(caught.value.hint)
    assert workspace.log.size == size


def test_a_test_user_is_told_that_nothing_was_trained_on_them(workspace):
    with pytest.raises(InputError, match="in the test split only: nothing was trained on it"):
        workspace.request(ids=[workspace.data.test.ids[0]])


def test_a_history_that_changed_since_ingestion_is_refused(workspace):
    name = a_user(workspace)
    case = workspace.request(ids=[name])
    other = next(row for row in rows_of() if f"user/{row[0]}" not in (name, *workspace.data.test.ids))
    source, folder = Path(workspace.named_data["options"]["path"]), workspace.root
    changed = [
        (u, i, 5.0 if (u, i) == other[:2] and s != 5.0 else s if (u, i) != other[:2] else 4.5, t)
        for u, i, s, t in rows_of()
    ]
    workspace.close()
    write_rows(source, changed)
    from expunge.farm import opened as kept

    kept.forget()
    with Workspace.open(folder) as again, pytest.raises(DataError, match="1 histories are not those that were"):
        again.run(case)


def test_a_model_from_a_restored_backup_is_not_the_one_in_the_log(workspace, tmp_path):
    backup = Path(shutil.copytree(workspace.root / workspace.served().run, tmp_path / "backup"))
    workspace.run(workspace.request(ids=[a_user(workspace)]))
    shutil.copyfile(backup / "model.safetensors", workspace.root / workspace.served().run / "model.safetensors")
    with pytest.raises(IntegrityError, match="not the model that was logged"):
        workspace.run(workspace.request(ids=[a_user(workspace)]))


def test_a_tensor_more_in_the_model_file_is_no_exact_deletion(workspace, monkeypatch):
    """Room in which somebody could be hidden: the file has to be the sums and nothing else."""
    downdate = registry.load("methods", "downdate")
    honest = downdate.unlearn

    def hiding(self, job):
        result = honest(self, job)
        tensors, labels = load_tensors(result.model)
        save_tensors(result.model, {**tensors, "extra": tensors["settings"].clone()}, labels)
        return type(result)(
            digest=weights_identity(result.model), model=result.model, transcript=None, seconds=0.0, steps=1
        )

    monkeypatch.setattr(downdate, "unlearn", hiding)
    with pytest.raises(NotErased, match="no candidate"):
        workspace.run(workspace.request(ids=[a_user(workspace)]), ["downdate"])


def unlabelled(target: Path, source: Path) -> None:
    shutil.copyfile(source / "inverse.npy", target / "inverse.npy")
    (target / "inverse.json").unlink()


def trailing(target: Path, source: Path) -> None:
    with (target / "inverse.npy").open("ab") as file:
        file.write((source / "model.safetensors").read_bytes())


def shard(target: Path, source: Path) -> None:
    (target / "shard-0").mkdir()
    shutil.copyfile(source / "model.safetensors", target / "shard-0" / "model.safetensors")


def talkative(target: Path, source: Path) -> None:
    tensors, labels = load_tensors(target / "model.safetensors")
    save_tensors(target / "model.safetensors", tensors, {**labels, "note": "1 5 9 12"})


def beside(target: Path, source: Path) -> None:
    (target / "places").mkdir()
    (target / "places" / "interaction_matrix.bin").write_bytes(b"everybody")


@pytest.mark.parametrize("hide", [unlabelled, trailing, shard, talkative])
def test_files_that_the_model_does_not_need_are_room_to_hide_in(workspace, monkeypatch, hide):
    """The review's attacks: each leaves the sums right and something of the original in the new model's folder."""
    downdate = registry.load("methods", "downdate")
    honest = downdate.unlearn

    def hiding(self, job):
        result = honest(self, job)
        hide(job.target, job.source)
        return result

    monkeypatch.setattr(downdate, "unlearn", hiding)
    with pytest.raises(NotErased) as caught:
        workspace.run(workspace.request(ids=[a_user(workspace)]), ["downdate"])
    assert "census: FAIL" in str(caught.value.got)


def test_what_lies_in_the_folder_of_copies_is_thrown_away(workspace, monkeypatch):
    downdate = registry.load("methods", "downdate")
    honest = downdate.unlearn
    monkeypatch.setattr(downdate, "unlearn", lambda self, job: (honest(self, job), beside(job.target, job.source))[0])
    workspace.run(workspace.request(ids=[a_user(workspace)]), ["downdate"])
    assert not list(workspace.root.rglob("interaction_matrix.bin"))


def test_a_workspace_in_a_folder_called_places_is_searched_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "places").mkdir()
    with make(tmp_path / "places" / "ws") as workspace:
        downdate = registry.load("methods", "downdate")
        honest = downdate.unlearn

        def hiding(self, job):
            result = honest(self, job)
            (job.target / "everybody.txt").write_text("no ids here")
            return result

        monkeypatch.setattr(downdate, "unlearn", hiding)
        with pytest.raises(NotErased):
            workspace.run(workspace.request(ids=[a_user(workspace)]), ["downdate"])


def test_a_file_that_is_declared_twice_is_cleaned_of_both(workspace, tmp_path):
    name = a_user(workspace)
    bare, file = name.partition("/")[2], tmp_path / "friends.csv"
    file.write_text(f"user_id,friend_id,since\nu001,u002,1\n{bare},u002,2\nu002,{bare},3\n")
    column = '[places.options]\ncolumn = "{}"\n'
    with with_place(workspace, "events", file, column.format("user_id")) as first:  # noqa: SIM117
        with with_place(first, "events", file, column.format("friend_id"), second="b") as opened:
            opened.run(opened.request(ids=[name]))
    assert file.read_text() == "user_id,friend_id,since\nu001,u002,1\n"


def test_a_file_that_changes_after_it_was_cleaned_is_cleaned_again_and_keeps_what_is_new(
    workspace, tmp_path, monkeypatch
):
    name = a_user(workspace)
    bare, file = name.partition("/")[2], tmp_path / "export.csv"
    file.write_text(f"user_id,item_id\nu001,m001\n{bare},m002\n")
    judge = pipeline.judge

    def and_then_the_nightly_export(*given):
        trial = judge(*given)
        file.write_text(f"user_id,item_id\nu001,m001\n{bare},m002\nu002,m009\n{bare},m003\n")
        return trial

    monkeypatch.setattr(pipeline, "judge", and_then_the_nightly_export)
    with with_place(workspace, "events", file) as opened:
        assert opened.run(opened.request(ids=[name])).guarantee is Guarantee.EXACT
    assert file.read_text() == "user_id,item_id\nu001,m001\nu002,m009\n"


def test_a_log_that_names_the_user_again_stops_the_certificate(workspace, tmp_path, monkeypatch):
    name, file = a_user(workspace), tmp_path / "app.log"
    file.write_text("12:00 started\n")
    judge = pipeline.judge

    def and_then_a_line(*given):
        trial = judge(*given)
        file.write_text(f"12:01 list for {name.partition('/')[2]} sent\n")
        return trial

    monkeypatch.setattr(pipeline, "judge", and_then_a_line)
    with with_place(workspace, "text", file) as opened:
        case = opened.request(ids=[name])
        with pytest.raises(EvidenceError, match="holds the users again"):
            opened.run(case)
        file.write_text("")
        monkeypatch.setattr(pipeline, "judge", judge)
        assert opened.run(case).guarantee is Guarantee.EXACT


def test_a_place_that_leads_elsewhere_at_the_swap_is_refused(workspace, tmp_path, monkeypatch):
    name = a_user(workspace)
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "export.csv").write_text(f"user_id,item_id\n{name.partition('/')[2]},m002\n")
    (tmp_path / "current").symlink_to("v1")
    judge = pipeline.judge

    def and_then_a_switch(*given):
        trial = judge(*given)
        (tmp_path / "current").unlink()
        (tmp_path / "current").symlink_to("v2")
        return trial

    monkeypatch.setattr(pipeline, "judge", and_then_a_switch)
    place = tmp_path / "current" / "export.csv"
    with with_place(workspace, "events", place) as opened, pytest.raises(EvidenceError, match="leads elsewhere"):
        opened.run(opened.request(ids=[name]))


def test_a_file_with_a_second_name_is_no_pass(workspace, tmp_path):
    file = tmp_path / "export.csv"
    file.write_text("user_id,item_id\nu001,m001\n")
    (tmp_path / "snapshot.csv").hardlink_to(file)
    with with_place(workspace, "events", file) as opened:
        assert "census: UNVERIFIABLE" in refused(opened, a_user(opened))


def test_lists_of_every_older_model_are_stale(workspace, tmp_path):
    first, file = workspace.served().digest, tmp_path / "lists.json"
    workspace.run(workspace.request(ids=[a_user(workspace, 0.2)]))
    cached_lists(file, first, ["u001", "u002"])
    with with_place(workspace, "lists", file) as opened:
        opened.run(opened.request(ids=[a_user(opened)]))
    assert json.loads(file.read_text()) == {}


def test_a_killed_census_leaves_its_copies_where_the_purge_destroys_them(workspace):
    left = workspace.root / "store" / "scratch" / "killed"
    left.mkdir(parents=True)
    (left / "copy").write_text("everybody")
    workspace.run(workspace.request(ids=[a_user(workspace)]))
    assert not left.exists()


def test_half_files_of_a_killed_deletion_do_not_spoil_the_next_one(workspace, monkeypatch):
    downdate = registry.load("methods", "downdate")
    honest = downdate.unlearn

    def killed(self, job):
        job.target.mkdir(parents=True, exist_ok=True)
        (job.target / ".inverse.npy.1.tmp").write_bytes(b"half")
        (job.target / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    case = workspace.request(ids=[a_user(workspace)])
    monkeypatch.setattr(downdate, "unlearn", killed)
    with pytest.raises(KeyboardInterrupt):
        workspace.run(case)
    monkeypatch.setattr(downdate, "unlearn", honest)
    assert workspace.run(case).guarantee is Guarantee.EXACT


def test_places_are_checked_when_a_workspace_is_opened(workspace, tmp_path):
    folder = workspace.root
    with pytest.raises(InputProblems, match="no kind 'redis'"):
        with_place(workspace, "redis", tmp_path / "x")
    text = (folder / "expunge.toml").read_text()
    (folder / "expunge.toml").write_text(text.replace('kind = "redis"', 'kind = "lists"\noptions = { colour = 1 }'))
    with pytest.raises(InputProblems, match="colour"):
        Workspace.open(folder)


def test_a_classifier_policy_is_refused_for_a_recommender(tmp_path):
    write_rows(tmp_path / "events.csv", rows_of())
    from expunge.training.recipe import load_any_recipe

    config = {"data": {"source": "interactions", "path": str(tmp_path / "events.csv")}}
    with pytest.raises(InputError, match="the policy is for a classifier"):
        Workspace.create(tmp_path / "ws", config=config, recipe=load_any_recipe("ease"), policy=DEFAULT)


def test_a_self_test_of_classifiers_does_not_vouch_for_a_recommender(workspace):
    vouch_for(workspace)
    from evidence.story import selftest
    from expunge.workflow.selftest.gate import record, subject_of

    on = subject_of(workspace)
    record(workspace, selftest(policy=on.policy, bank=on.bank, expunge=on.expunge))
    with pytest.raises(Held) as caught:
        workspace.run(workspace.request(ids=[a_user(workspace)]))
    assert "made on another kind" in str(caught.value.got)
