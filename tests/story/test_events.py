"""Deletions of less than a user: one interaction, a time window, an item; and what must not pass for one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from asking import UNITS, asked, history, retrained, without
from expunge import EventSelector, Workspace
from expunge.apps.cli.verify import _expectation, checkpoint_in
from expunge.core import registry
from expunge.core.errors import EvidenceError, InputError, NotErased
from expunge.core.finding import Guarantee, Verdict
from expunge.evidence.keys import read_roots
from expunge.evidence.standalone import Verifier
from expunge.evidence.verify import verify_bundle
from expunge.farm import opened as kept
from expunge.testing.closed_form_surgery import left_as_it_was
from expunge.workflow.policy import read_policy
from recommending import (
    TRAINED,
    a_user,
    cached_lists,
    failed_steps,
    finding,
    make,
    rows_of,
    second_holders_model,
    verdicts,
    with_place,
    write_rows,
)

# ------------------------------------------------------------------------------------------------------ what is right


@pytest.mark.parametrize("unit", UNITS)
def test_events_are_forgotten_exactly_and_the_user_remains(workspace, tmp_path, unit):
    name, users, wanted = a_user(workspace), len(workspace.book.ids), asked(workspace, unit)
    case = workspace.request(events=wanted)
    theirs = tmp_path / "receipt.json"
    shutil.copyfile(case.receipt, theirs)  # the owner's copy is reduced when the case is closed
    outcome = workspace.run(case)
    assert outcome.guarantee is Guarantee.EXACT
    assert outcome.trials[-1].method == "downdate"
    found = verdicts(outcome)
    assert {found[check] for check in ("algebra", "census", "left_out", "behaviour", "downstream")} == {Verdict.PASS}
    assert workspace.served().digest == retrained(without(wanted, rows_of()), tmp_path / "again", workspace)
    assert workspace.book.ids.count(None) == 0
    assert len(workspace.book.slots_of([name])) == 1
    assert len(workspace.book.ids) == users
    checked = verify_bundle(
        outcome.certificate.path,
        roots=read_roots(workspace.root / "roots.json"),
        policy=read_policy(workspace.root / "policy.yaml"),
        against=checkpoint_in(theirs),
        expect=_expectation(theirs, None),
    )
    assert [step.reason for step in checked.steps if step.status != "ok"] == []
    for _, step in Verifier(str(outcome.certificate.path), str(workspace.root / "roots.json"), None).steps():
        step()


def test_the_sentence_says_what_went_and_who_remains(workspace):
    said = {}
    for unit in UNITS:
        said[unit] = workspace.run(workspace.request(events=asked(workspace, unit))).certificate.sentence
    assert (
        "does not contain the one interaction of the request, whose user remains with everything" in said["interaction"]
    )
    assert (
        "what a user had in the time window of the request, whose user remains with everything else" in said["window"]
    )
    assert "does not contain the one item of the request in any history; " in said["item"]
    assert "histories became shorter, and their users remain" in said["item"]
    assert all(
        "EXACT means: equal to this recipe run on histories without these events" in text for text in said.values()
    )
    assert not any("contain the record" in text for text in said.values())


@pytest.mark.parametrize("unit", UNITS)
def test_retraining_gives_the_same_model(workspace, tmp_path, unit):
    wanted = asked(workspace, unit)
    outcome = workspace.run(workspace.request(events=wanted), ["retrain"])
    assert outcome.guarantee is Guarantee.EXACT
    assert workspace.served().digest == retrained(without(wanted, rows_of()), tmp_path / "again", workspace)


@pytest.mark.parametrize("family", ["ridge", "itemknn", "rp3beta", "popularity", "covisitation"])
def test_every_family_with_sums_forgets_events(family, tmp_path):
    with make(tmp_path / "ws", family=family) as workspace:
        left = rows_of()
        for number, unit in enumerate(UNITS):
            wanted = asked(workspace, unit)
            left = without(wanted, left)
            outcome = workspace.run(workspace.request(events=wanted))
            assert outcome.trials[-1].method == "downdate"
            assert failed_steps(workspace, outcome) == []
            assert workspace.served().digest == retrained(left, tmp_path / f"again-{number}", workspace)


@pytest.mark.parametrize(
    ("family", "method"),
    [("ials", "retrain"), ("multvae", "retrain"), ("multvae", "replay"), ("multvae", "sisa"), ("lightgcn", "replay")],
)
def test_trained_families_forget_events_by_running_the_recipe_again(family, method, tmp_path, monkeypatch):
    if method == "sisa":
        monkeypatch.setitem(TRAINED, family, {**TRAINED[family], "shards": 2})
    with make(tmp_path / "ws", family=family) as workspace:
        for unit in ("interaction", "item"):
            outcome = workspace.run(workspace.request(events=asked(workspace, unit)), [method])
            assert outcome.guarantee is Guarantee.EXACT
            assert finding(outcome, "algebra").estimate == 0 < finding(outcome, "algebra").original
        again = workspace.adapter.fit(workspace.fit_job(tmp_path / "again", absent=frozenset()))
        assert again.digest == workspace.served().digest


def test_methods_that_only_empty_slots_are_refused_in_the_plan(tmp_path):
    with make(tmp_path / "ws", family="ials") as workspace:
        case = workspace.request(events=asked(workspace, "interaction"))
        refusals = {item.method: item.refused for item in workspace.plan(case)}
        assert refusals["retrain"] is None
        assert refusals["warm_start"]


def test_deletions_of_every_kind_one_after_another(workspace, tmp_path):
    name, left = a_user(workspace), rows_of()
    for unit in (*UNITS, "interaction"):
        wanted = asked(workspace, unit, name)
        left = without(wanted, left)
        workspace.run(workspace.request(events=wanted))
    workspace.run(workspace.request(ids=[name]))
    left = [row for row in left if f"user/{row[0]}" != name]
    assert workspace.served().digest == retrained(left, tmp_path / "again", workspace)
    folder = workspace.root
    workspace.close()
    with Workspace.open(folder) as again:
        assert len(again.book.tombstones) == 1
        again.run(again.request(events=asked(again, "interaction")))


def test_several_pairs_and_several_users_in_one_request(workspace, tmp_path):
    one, other = a_user(workspace, 0.9), a_user(workspace, 1.0)
    shared = sorted({item for item, _ in history(workspace, one)} & {item for item, _ in history(workspace, other)})
    wanted = EventSelector(users=(one, other), items=tuple(shared[:2]))
    outcome = workspace.run(workspace.request(events=wanted))
    assert "the 4 interactions of the request, whose 2 users remain" in outcome.certificate.sentence
    assert workspace.served().digest == retrained(without(wanted, rows_of()), tmp_path / "again", workspace)


def test_the_last_event_of_an_item_and_of_a_user(workspace, tmp_path):
    lonely = np.bincount(workspace.data.train.indices, minlength=len(workspace.data.items)) == 1
    column = int(np.flatnonzero(lonely)[0])
    train = workspace.data.train
    slot = int(np.searchsorted(train.indptr, np.flatnonzero(train.indices == column)[0], "right") - 1)
    wanted = EventSelector(users=(str(workspace.book.ids[slot]),), items=(train.items[column],))
    outcome = workspace.run(workspace.request(events=wanted))
    assert finding(outcome, "census").details["orphans"] == "1"
    everything = EventSelector(users=(str(workspace.book.ids[slot]),), since=0, until=2**40)
    assert workspace.run(workspace.request(events=everything)).guarantee is Guarantee.EXACT
    assert len(workspace.data.train.row(slot)[0]) == 0
    assert workspace.book.ids[slot] is not None
    assert workspace.run(workspace.request(ids=[str(workspace.book.ids[slot])])).guarantee is Guarantee.EXACT


def test_a_restored_source_brings_no_event_back(workspace, tmp_path):
    wanted = asked(workspace, "interaction")
    workspace.run(workspace.request(events=wanted))  # the source still holds the event, as a restored backup would
    kept.forget()
    workspace.reread()
    fitted = workspace.adapter.fit(workspace.fit_job(tmp_path / "again", absent=frozenset()))
    assert fitted.digest == workspace.served().digest


def test_a_second_holder_recomputes_from_what_is_left(workspace, tmp_path):
    wanted = asked(workspace, "window")
    outcome = workspace.run(workspace.request(events=wanted))
    bundle = outcome.certificate.path
    for number, rows in enumerate((without(wanted, rows_of()), rows_of())):  # their copy may still hold the events
        theirs = tmp_path / f"theirs-{number}.csv"
        write_rows(theirs, rows)
        assert second_holders_model(bundle, theirs, tmp_path) == workspace.served().digest


def test_after_a_kill_between_purge_and_certificate_the_case_is_finished(workspace, monkeypatch):
    from expunge.workflow import pipeline

    certify = pipeline.certify

    def killed(*given):
        raise KeyboardInterrupt

    for unit in UNITS:
        case = workspace.request(events=asked(workspace, unit))
        monkeypatch.setattr(pipeline, "certify", killed)
        with pytest.raises(KeyboardInterrupt):
            workspace.run(case)
        monkeypatch.setattr(pipeline, "certify", certify)
        assert failed_steps(workspace, workspace.run(case)) == []


# -------------------------------------------------------------------------------------------------- what must be caught


def nothing(job):
    """The original, with one tensor more."""
    return left_as_it_was(job)


def too_much(job):
    """The whole user goes."""
    return job.adapter.fit(replace(job.job, folder=job.target, absent=job.job.absent | job.forget))


def another_item(job):
    """The user's first event that was not asked for, instead of the one that was."""
    before, after, slot = job.job.data, job.shortened.data.train, min(job.forget)
    span, left = before.train.span(slot), set(after.row(slot)[0].tolist())
    events = np.ones(before.train.events, bool)
    events[span.start + next(k for k, c in enumerate(before.train.indices[span].tolist()) if c in left)] = False
    data = before.with_users(before.train.keep(events), before.test)
    return job.adapter.fit(replace(job.job, folder=job.target, data=data))


def one_more(job):
    """What was asked for, and one event more of the same user."""
    data, slot = job.shortened.data, min(job.forget)
    events = np.ones(data.train.events, bool)
    events[data.train.span(slot).start] = False
    return job.adapter.fit(replace(job.wanted, data=data.with_users(data.train.keep(events), data.test)))


@pytest.mark.parametrize("cheat", [nothing, too_much, another_item, one_more])
@pytest.mark.parametrize("unit", UNITS)
def test_another_deletion_than_the_one_asked_for_is_not_certified(workspace, monkeypatch, cheat, unit):
    monkeypatch.setattr(registry.load("methods", "downdate"), "unlearn", lambda self, job: cheat(job))
    served = workspace.served().digest
    with pytest.raises(NotErased) as caught:
        workspace.run(workspace.request(events=asked(workspace, unit)), ["downdate"])
    assert "algebra: FAIL" in str(caught.value.got)
    assert workspace.served().digest == served
    assert workspace.state().incidents


def test_the_event_in_a_place_is_deleted_and_the_users_other_rows_stay(workspace, tmp_path):
    name, file = a_user(workspace), tmp_path / "export.csv"
    wanted = asked(workspace, "interaction", name)
    bare, item = name.partition("/")[2], wanted.items[0].partition("/")[2]
    rows = ["user_id,item_id,note", f"{bare},{item},a", f"{bare},other,b", f"u002,{item},c", f" {bare} , {item} ,d", ""]
    file.write_text("\n".join(rows))
    with with_place(workspace, "events", file) as opened:
        outcome = opened.run(opened.request(events=wanted))
        assert verdicts(outcome)["census"] is Verdict.PASS
        place = next(c for c in finding(outcome, "census").conditions if c.name == "a place")
        assert "2 before" in place.note
        assert "control: 3 of 3 found" in place.note
    assert file.read_text() == f"user_id,item_id,note\n{bare},other,b\nu002,{item},c\n"


def test_an_item_goes_from_everybodys_rows_also_from_those_of_test_users(workspace, tmp_path):
    file, wanted = tmp_path / "export.tsv", asked(workspace, "item")
    item = wanted.items[0].partition("/")[2]
    file.write_text(f"user_id\titem_id\nu001\t{item}\nnobody\t{item}\nu001\tother\n")
    with with_place(workspace, "events", file) as opened:
        opened.run(opened.request(events=wanted))
        assert opened.data.items.index(wanted.items[0]) not in opened.data.test.indices
    assert file.read_text() == "user_id\titem_id\nu001\tother\n"


def test_an_event_in_a_parquet_table(workspace, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, file = a_user(workspace), tmp_path / "export.parquet"
    wanted = asked(workspace, "interaction", name)
    bare, item = name.partition("/")[2], wanted.items[0].partition("/")[2]
    users, items = [bare, bare, "u002"], [item, "other", item]
    pq.write_table(pa.table({"user_id": pa.array(users).dictionary_encode(), "item_id": items, "n": [1, 2, 3]}), file)
    with with_place(workspace, "events", file) as opened:
        assert verdicts(opened.run(opened.request(events=wanted)))["census"] is Verdict.PASS
    left = pq.read_table(file).to_pydict()
    assert (left["user_id"], left["item_id"], left["n"]) == ([bare, "u002"], ["other", item], [2, 3])


def test_an_event_that_comes_back_into_a_place_stops_the_certificate(workspace, tmp_path, monkeypatch):
    from expunge.workflow import places

    name, file = a_user(workspace), tmp_path / "export.csv"
    wanted = asked(workspace, "interaction", name)
    row = f"{name.partition('/')[2]},{wanted.items[0].partition('/')[2]}\n"
    file.write_text(f"user_id,item_id\n{row}")
    replace_file = places._replace

    def and_then_it_is_back(target, copy):
        replace_file(target, copy)
        with target.open("a") as opened:
            opened.write(row)

    monkeypatch.setattr(places, "_replace", and_then_it_is_back)
    with with_place(workspace, "events", file) as opened, pytest.raises(EvidenceError, match="holds the events again"):
        opened.run(opened.request(events=wanted))


def test_a_place_without_a_column_of_items_is_no_pass(workspace, tmp_path):
    file = tmp_path / "export.csv"
    file.write_text("user_id,n\nu001,2\n")
    with with_place(workspace, "events", file) as opened, pytest.raises(NotErased) as caught:
        opened.run(opened.request(events=asked(opened, "interaction")))
    assert "census: UNVERIFIABLE" in str(caught.value.got)


def test_lists_of_the_user_go_and_a_map_of_ids_stays(workspace, tmp_path):
    name, lists, ids = a_user(workspace), tmp_path / "lists.json", tmp_path / "ids.json"
    bare = name.partition("/")[2]
    cached_lists(lists, "another model of 12 characters", [bare, "u999"])
    ids.write_text(json.dumps({bare: 0, "u999": 1}))
    before = ids.read_bytes()
    with with_place(workspace, "lists", lists) as first, with_place(first, "id_map", ids, second="b") as opened:
        outcome = opened.run(opened.request(events=asked(opened, "interaction", name)))
        notes = {c.name: c.note for c in finding(outcome, "census").conditions}
        assert "holds no events; its users stay; control: 3 of 3 found" in notes["a placeb"]
    assert list(json.loads(lists.read_text())) == ["u999"]
    assert ids.read_bytes() == before


@pytest.mark.parametrize("kind", ["table", "text", "model", "index"])
def test_places_that_cannot_tell_an_event_from_its_user_refuse_the_request(workspace, tmp_path, kind):
    (tmp_path / "a file").write_text("x")
    with with_place(workspace, kind, tmp_path / "a file") as opened:
        size = opened.log.size
        with pytest.raises(InputError, match="one event cannot be told from its user") as caught:
            opened.request(events=asked(opened, "interaction"))
        assert "delete the whole user" in str(caught.value.hint)
        assert opened.log.size == size
