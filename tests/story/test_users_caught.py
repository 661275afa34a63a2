"""What a deletion of a recommender's user must not get away with: places, hidden copies, second accounts, changed data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from expunge import Workspace
from expunge.core import registry
from expunge.core.errors import DataError, EvidenceError, Held, InputError, InputProblems, IntegrityError, NotErased
from expunge.core.finding import Guarantee, Verdict
from expunge.training.checkpoint import load_tensors, save_tensors, weights_identity
from expunge.workflow import pipeline, places
from expunge.workflow.policy import DEFAULT
from recommending import (
    a_user,
    a_user_to_judge,
    cached_lists,
    failed_steps,
    finding,
    make,
    refused,
    rows_of,
    verdicts,
    with_place,
    write_rows,
)
from workspaces import vouch_for

# ---------------------------------------------------------------------------------------------- what must be caught


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


def two_tables(folder, bare):
    """One file with two tables in different orders, and a list of ids for each."""
    rows = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    for file, people in (("factors.json", ["u001", bare, "u002"]), ("moments.json", [bare, "u002", "u001"])):
        (folder / file).write_text(json.dumps(people))
    two_tensors(folder, rows)
    options = '[places.options]\narray = "{0}"\nrows = "{0}.json"\n'
    return folder / "model.safetensors", options, rows


def two_tensors(folder, rows):
    save_file({"factors": rows, "moments": rows * 10, "items": rows * 100}, folder / "model.safetensors")


def test_a_file_with_two_tables_and_two_lists_of_their_rows_is_cleaned_of_both_at_once(
    workspace, tmp_path, monkeypatch
):
    name = a_user(workspace)
    file, options, rows = two_tables(tmp_path, name.partition("/")[2])
    swapped, swap = [], places._replace
    monkeypatch.setattr(places, "_replace", lambda target, copy: (swapped.append(target), swap(target, copy)))
    before = {one.name: one.read_bytes() for one in tmp_path.glob("*.json")}
    with with_place(workspace, "table", file, options.format("factors")) as first:  # noqa: SIM117
        with with_place(first, "table", file, options.format("moments"), second="b") as opened:
            outcome = opened.run(opened.request(ids=[name]))
            assert outcome.guarantee is Guarantee.EXACT
            assert finding(outcome, "census").original >= 2
    found = load_file(file)
    assert np.array_equal(found["factors"], rows * np.array([[1], [0], [1]]))
    assert np.array_equal(found["moments"], rows * 10 * np.array([[0], [1], [1]]))
    assert np.array_equal(found["items"], rows * 100)
    assert len(swapped) == 1
    assert before == {one.name: one.read_bytes() for one in tmp_path.glob("*.json")}


def test_two_tables_may_share_a_list_and_are_cleaned_again_when_the_file_changes(workspace, tmp_path, monkeypatch):
    name = a_user(workspace)
    file, _, rows = two_tables(tmp_path, name.partition("/")[2])
    options, judge = '[places.options]\narray = "{}"\nrows = "factors.json"\n', pipeline.judge

    def and_then_the_nightly_export(*given):
        trial = judge(*given)
        two_tensors(tmp_path, rows + 1)
        return trial

    monkeypatch.setattr(pipeline, "judge", and_then_the_nightly_export)
    with with_place(workspace, "table", file, options.format("factors")) as first:  # noqa: SIM117
        with with_place(first, "table", file, options.format("moments"), second="b") as opened:
            opened.run(opened.request(ids=[name]))
    found = load_file(file)
    assert np.array_equal(found["factors"], (rows + 1) * np.array([[1], [0], [1]]))
    assert np.array_equal(found["moments"], (rows + 1) * 10 * np.array([[1], [0], [1]]))


def test_a_second_list_that_does_not_fit_refuses_the_case_and_changes_nothing(workspace, tmp_path):
    name = a_user(workspace)
    file, options, _ = two_tables(tmp_path, name.partition("/")[2])
    (tmp_path / "moments.json").write_text(json.dumps(["u001", "u002"]))
    before = file.read_bytes()
    with with_place(workspace, "table", file, options.format("factors")) as first:  # noqa: SIM117
        with with_place(first, "table", file, options.format("moments"), second="b") as opened:
            assert "could not be read" in refused(opened, name)
    assert file.read_bytes() == before


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


def test_a_log_that_names_everybody_is_no_false_alarm_of_the_self_test(tmp_path):
    """The users that cheats are tried on are still in it, rightly: an honest deletion in the rehearsal is not to blame."""
    (tmp_path / "app.log").write_text("".join(f"list for u{number:03d} sent\n" for number in range(60)))
    place = {"name": "log", "kind": "text", "path": str(tmp_path / "app.log")}
    with make(tmp_path / "ws", places=(place,)) as workspace:
        report = workspace.selftest("quick").report
        assert [item.check for item in report.alarms if item.alarms] == []
        assert report.passed == ()
        assert {tally.saboteur: tally.caught for tally in report.tallies}["hidden_copy"] == {"census": 1}
        assert "census: FAIL" in refused(workspace, a_user_to_judge(workspace))


def test_a_user_without_events_is_answered_and_no_incident(tmp_path):
    source = tmp_path / "events.csv"
    write_rows(source, [*rows_of(), *(("solo", f"only{n}", 4.0, 10**9) for n in range(3))])
    options = {"min_item_events": 2}
    with make(tmp_path / "ws", data={"source": "interactions", "path": str(source), "options": options}) as workspace:
        outcome = workspace.run(workspace.request(ids=["user/solo"]))
        assert "The weights did not have to change" in outcome.certificate.sentence
        assert failed_steps(workspace, outcome) == []
        assert not workspace.state().incidents


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
