"""Deletions of less than a user: one interaction, a time window, an item; and what must not pass for one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from expunge import EventSelector, Workspace
from expunge.apps.cli.verify import _expectation, checkpoint_in
from expunge.core import registry
from expunge.core.errors import EvidenceError, Held, InputError, NotErased
from expunge.core.finding import Guarantee, Verdict
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.keys import read_roots
from expunge.evidence.predicate import Erased
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.standalone import Verifier
from expunge.evidence.statement import parse_statement
from expunge.evidence.verify import verify_bundle
from expunge.evidence.verify_steps import check_absence, check_expected
from expunge.farm import opened as kept
from expunge.testing.closed_form_surgery import left_as_it_was
from expunge.workflow.policy import read_policy
from expunge.workflow.recompute import recompute
from recommending import (
    TRAINED,
    a_user,
    cached_lists,
    failed_steps,
    finding,
    make,
    rows_of,
    verdicts,
    with_place,
    write_rows,
)

UNITS = ("interaction", "window", "item")


def history(workspace: Workspace, name: str) -> list[tuple[str, int]]:
    """(item id, time) of a user's events."""
    train = workspace.data.train
    span = train.span(workspace.book.slots_of([name])[0])
    rows = zip(train.indices[span].tolist(), train.times[span].tolist(), strict=True)
    return [(train.items[column], time) for column, time in rows]


def asked(workspace: Workspace, unit: str, name: str = "") -> EventSelector:
    """A request of this unit about a user of middling activity."""
    name = name or a_user(workspace)
    events = history(workspace, name)
    if unit == "interaction":
        return EventSelector(users=(name,), items=(events[2][0],))
    if unit == "window":
        return EventSelector(users=(name,), since=events[3][1], until=events[7][1])
    return EventSelector(items=(events[5][0],))


def without(wanted: EventSelector, rows: list) -> list:
    """The source's rows that a request leaves."""
    since, until = wanted.since or 0, wanted.until or 2**40
    return [
        row
        for row in rows
        if (wanted.users and f"user/{row[0]}" not in wanted.users)
        or (wanted.items and f"item/{row[1]}" not in wanted.items)
        or not since <= row[3] < until
    ]


def retrained(rows: list, folder: Path, like: Workspace) -> str:
    """Digest of a training on these rows alone, over the same items, by nothing that a deletion has touched."""
    folder.mkdir()
    write_rows(folder / "events.csv", rows)
    options = {**like.config.data.options, "path": str(folder / "events.csv")}
    data = registry.load("data", "interactions")(**options).open(items=like.vocabulary)
    job = replace(like.fit_job(folder / "run", absent=frozenset()), data=data, leaves=None)
    return like.adapter.fit(job).digest


def fewer(workspace: Workspace, wanted: EventSelector) -> int:
    before = workspace.data.train.events
    workspace.run(workspace.request(events=wanted))
    return before - workspace.data.train.events


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
    FileSigner.create(tmp_path / "second.pem")
    bundle = outcome.certificate.path
    for number, rows in enumerate((without(wanted, rows_of()), rows_of())):  # their copy may still hold the events
        theirs = tmp_path / f"theirs-{number}.csv"
        write_rows(theirs, rows)
        done = recompute(
            bundle,
            bundle.parent / "recompute.json",
            data=str(theirs),
            key=f"file:{tmp_path / 'second.pem'}",
            by="second",
            out=tmp_path / "cosignature.json",
        )
        assert done.model == workspace.served().digest


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


# ------------------------------------------------------------------------------------------------ what is not there


@pytest.mark.parametrize(
    ("wanted", "code", "message"),
    [
        ({"users": ("user/nobody",), "items": ("item/m001",)}, "not_present", "'user/nobody' is not present"),
        ({"users": ("user/{u}",), "items": ("item/none",)}, "not_present", "'item/none' is not in the vocabulary"),
        ({"users": ("user/{u}",), "items": ("item/{other}",)}, "not_present", "is not present"),
        (
            {"users": ("user/{u}",), "items": ("item/{own}",), "until": 5},
            "not_present",
            "not present in the time window",
        ),
        ({"users": ("user/{u}",), "since": 5, "until": 6}, "not_present", "has no event in the time window"),
    ],
)
def test_an_event_that_is_not_there_is_answered_with_where_was_searched(workspace, wanted, code, message):
    name, size = a_user(workspace), workspace.log.size
    own = [item for item, _ in history(workspace, name)]
    words = {
        "u": name.partition("/")[2],
        "own": own[0].partition("/")[2],
        "other": next(item for item in workspace.data.items if item not in own).partition("/")[2],
    }
    filled = {
        key: tuple(v.format(**words) for v in value) if isinstance(value, tuple) else value
        for key, value in wanted.items()
    }
    with pytest.raises(InputError, match=message) as caught:
        workspace.request(events=EventSelector(**filled))
    assert caught.value.code == code
    assert "searched: " in str(caught.value.hint)
    assert workspace.log.size == size


def test_an_item_that_only_test_users_had(workspace):
    train, test = workspace.data.train, workspace.data.test
    unseen = sorted(set(range(len(train.items))) - set(train.indices.tolist()))
    assert not unseen  # the vocabulary is of trained items, so a test user's own item is not in it
    only = next((row[1] for row in rows_of() if f"item/{row[1]}" not in train.items), None)
    assert only is not None
    with pytest.raises(InputError, match="not in the vocabulary"):
        workspace.request(events=EventSelector(items=(f"item/{only}",)))
    with pytest.raises(InputError, match="in the test split only: nothing was trained on it"):
        workspace.request(events=EventSelector(users=(str(test.ids[0]),), items=(train.items[0],)))


@pytest.mark.parametrize("unit", UNITS)
def test_the_same_deletion_again_is_answered_as_done(workspace, unit):
    wanted = asked(workspace, unit)
    workspace.run(workspace.request(events=wanted))
    with pytest.raises(InputError, match="already deleted" if unit != "window" else "has no event in the time window"):
        workspace.request(events=wanted)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"users": ("user/1",), "items": ("item/1", "item/1")}, "names an item twice"),
        ({"users": ("user/1", "user/1"), "items": ("item/1",)}, "names a user twice"),
        ({}, "names no event"),
        ({"users": ("user/1",)}, "whole records"),
        ({"items": ("item/1",), "since": 1}, "not supported"),
        ({"users": ("user/1",), "since": 7, "until": 7}, "empty time window"),
    ],
)
def test_a_request_that_means_nothing_is_refused(wanted, message):
    with pytest.raises(InputError, match=message):
        EventSelector(**wanted)


def test_events_and_records_are_two_requests(workspace):
    with pytest.raises(InputError, match="whole records and single events"):
        workspace.request(ids=[a_user(workspace)], events=asked(workspace, "interaction"))


def test_an_item_in_too_many_histories_is_refused_before_anything_is_logged(workspace, monkeypatch):
    monkeypatch.setattr("expunge.workflow.histories.MOST", 2)
    size = workspace.log.size
    with pytest.raises(InputError, match="more histories become shorter than one certificate can show"):
        workspace.request(events=asked(workspace, "item"))
    assert workspace.log.size == size


def test_an_earlier_rating_of_the_same_pair_does_not_come_back(tmp_path):
    """`duplicates = last` hides it; when the source loses the last one it would be the last."""
    rows = rows_of()
    first = next(row for row in rows if row[0] == "u004")
    again = (first[0], first[1], 0.5, first[3] + 5)
    source = tmp_path / "events.csv"
    write_rows(source, [*rows, again])
    options = {"test_users": 15, "duplicates": "last"}
    with make(tmp_path / "ws", data={"source": "interactions", "path": str(source), "options": options}) as workspace:
        assert "user/u004" in workspace.book.ids
        wanted = EventSelector(users=("user/u004",), items=(f"item/{first[1]}",))
        workspace.run(workspace.request(events=wanted))
        served, folder = workspace.served().digest, workspace.root
        workspace.close()
        write_rows(source, rows)
        kept.forget()
        with Workspace.open(folder) as opened:
            assert wanted.items[0] not in [item for item, _ in history(opened, "user/u004")]
            assert opened.adapter.fit(opened.fit_job(tmp_path / "again", absent=frozenset())).digest == served
            opened.run(opened.request(events=asked(opened, "interaction", "user/u004")))


def test_the_same_history_elsewhere_holds_the_case(tmp_path):
    rows = rows_of()
    mine = [row for row in rows if row[0] == "u004"]
    write_rows(tmp_path / "events.csv", [*rows, *(("zz9", *row[1:]) for row in mine)])
    data = {"source": "interactions", "path": str(tmp_path / "events.csv")}
    with make(tmp_path / "ws", data=data) as workspace:
        item = f"item/{mine[0][1]}"
        with pytest.raises(Held, match="hold the same content"):
            workspace.run(workspace.request(events=EventSelector(users=("user/u004",), items=(item,))))
        both = EventSelector(users=("user/u004", "user/zz9"), items=(item,))
        assert workspace.run(workspace.request(events=both)).guarantee is Guarantee.EXACT


def test_two_short_histories_that_are_alike_by_chance_hold_the_case(tmp_path):
    extra = [(user, "m001", 4.0, 10**9) for user in ("zz8", "zz9")]
    source = tmp_path / "events.csv"
    source.write_text("user_id,item_id\n" + "".join(f"{row[0]},{row[1]}\n" for row in [*rows_of(), *extra]))
    data = {"source": "interactions", "path": str(source), "options": {"kind": "binary"}}
    with make(tmp_path / "ws", data=data) as workspace:
        with pytest.raises(Held, match="the very same history"):
            workspace.run(workspace.request(events=EventSelector(users=("user/zz8",), items=("item/m001",))))
        assert not workspace.state().incidents


def test_a_workspace_without_times_has_no_windows(tmp_path):
    source = tmp_path / "events.csv"
    source.write_text("user_id,item_id\n" + "".join(f"{row[0]},{row[1]}\n" for row in rows_of()))
    data = {"source": "interactions", "path": str(source), "options": {"kind": "binary", "test_users": 15}}
    with make(tmp_path / "ws", data=data) as workspace, pytest.raises(InputError, match="events have no times here"):
        workspace.request(events=EventSelector(users=(a_user(workspace),), since=1, until=2))


def test_proofs_of_something_else_do_not_verify(workspace):
    """The bundle's own proofs, changed as an owner could change them."""
    outcome = workspace.run(workspace.request(events=asked(workspace, "item")))
    bundle = read_bundle(outcome.certificate.path)
    predicate = parse_statement(payload_of(bundle.json("certificate.json"))).predicate
    proofs = list(bundle.absence())
    assert check_absence(proofs, predicate) == predicate.erased.histories == len(proofs)
    first, second = proofs[0], proofs[1]
    for forged in (
        proofs[1:],  # one history is not shown
        [first, first, *proofs[2:]],  # one is shown twice
        [replace(first, became=None), *proofs[1:]],  # of one only that it is gone: its user could be, too
        [replace(first, became=second.became), *proofs[1:]],  # two became the same one
        [replace(first, became=replace(second.became, leaf=first.leaf)), *proofs[1:]],  # the old content, still there
        [replace(first, kind="id"), *proofs[1:]],
    ):
        with pytest.raises(EvidenceError):
            check_absence(forged, predicate)
    with pytest.raises(InputError, match="nothing was taken out"):
        replace(predicate, erased=Erased(), sentence="")
    with pytest.raises(InputError, match="nothing was taken out"):
        replace(predicate, data_after=replace(predicate.data_after, present=predicate.data_after.present - 1))


def test_a_certificate_of_another_unit_does_not_answer_the_request(workspace, tmp_path):
    case = workspace.request(events=asked(workspace, "interaction"))
    theirs = tmp_path / "receipt.json"
    shutil.copyfile(case.receipt, theirs)
    expect = _expectation(theirs, None)
    outcome = workspace.run(case)
    predicate = parse_statement(payload_of(read_bundle(outcome.certificate.path).json("certificate.json"))).predicate
    proofs = read_bundle(outcome.certificate.path).absence()
    check_expected(predicate, None, expect.opening, expect.records, proofs, expect.remains)
    other = replace(predicate, erased=replace(predicate.erased, unit="window", count=None), sentence="")
    with pytest.raises(EvidenceError, match="what was asked for"):
        check_expected(other, None, expect.opening, expect.records, proofs, expect.remains)


# ---------------------------------------------------------------------------------------------- two cases at a time


def test_another_case_about_the_same_history_goes_on_with_a_new_receipt(workspace, tmp_path):
    name = a_user(workspace)
    first, second = (history(workspace, name)[k][0] for k in (1, 4))
    one = workspace.request(events=EventSelector(users=(name,), items=(first,)))
    two = workspace.request(events=EventSelector(users=(name,), items=(second,)))
    old, theirs = json.loads(two.receipt.read_text())["remains"], tmp_path / "receipt.json"
    workspace.run(one)
    with pytest.raises(InputError, match="unknown method"):  # after step 2, which writes the receipt anew
        workspace.run(two, ["none"])
    shutil.copyfile(two.receipt, theirs)
    assert json.loads(theirs.read_text())["remains"] != old
    assert workspace.run(two).guarantee is Guarantee.EXACT
    left = [item for item, _ in history(workspace, name)]
    assert first not in left
    assert second not in left


def test_a_case_whose_events_are_gone_with_another_is_answered(workspace):
    name = a_user(workspace)
    narrow = workspace.request(events=asked(workspace, "interaction", name))
    item = workspace.request(events=EventSelector(items=narrow.request().events.items))
    whole = workspace.request(ids=[a_user(workspace, 0.9)])
    workspace.run(item)
    refused = {e.case for e in workspace.log.entries() if e.kind == "request.refused"}
    assert refused == {narrow.handle}
    assert not any(narrow.private.iterdir())
    assert workspace.run(whole).guarantee is Guarantee.EXACT


def test_a_case_that_is_partly_done_with_another_says_that_the_rest_is_left(workspace):
    name = a_user(workspace)
    first, second = (history(workspace, name)[k][0] for k in (1, 4))
    both = workspace.request(events=EventSelector(users=(name,), items=(first, second)))
    workspace.run(workspace.request(events=EventSelector(users=(name,), items=(first,))))
    refused = next(e for e in workspace.log.entries() if e.kind == "request.refused")
    assert (refused.case, refused.payload["reason"][:14]) == (both.handle, "partly deleted")
    rest = workspace.request(events=EventSelector(users=(name,), items=(second,)))
    assert workspace.run(rest).guarantee is Guarantee.EXACT


def test_a_place_declared_later_does_not_stop_other_cases(workspace, tmp_path):
    waiting = workspace.request(events=asked(workspace, "interaction"))
    (tmp_path / "app.log").write_text("12:00 started\n")
    with with_place(workspace, "text", tmp_path / "app.log") as opened:
        assert opened.run(opened.request(ids=[a_user(opened, 0.9)])).guarantee is Guarantee.EXACT
        with pytest.raises(InputError, match="one event cannot be told"):
            opened.run(waiting)


def test_an_item_case_is_not_answered_by_the_deletion_of_one_of_its_users(workspace):
    wanted = asked(workspace, "item")
    item = workspace.request(events=wanted)
    column = workspace.data.items.index(wanted.items[0])
    owner = next(s for s in range(len(workspace.data.train)) if column in workspace.data.train.row(s)[0])
    workspace.run(workspace.request(ids=[str(workspace.book.ids[owner])]))
    assert workspace.run(item).guarantee is Guarantee.EXACT


# -------------------------------------------------------------------------------------------------- what may not leak


@pytest.mark.parametrize("unit", UNITS)
def test_the_bundle_holds_no_trace_of_the_events(workspace, unit):
    name = a_user(workspace, 0.9)
    wanted = asked(workspace, unit, name)
    slot = workspace.book.slots_of([name])[0]
    columns, values = workspace.data.train.row(slot)
    items = [workspace.data.items[column] for column in columns.tolist()]
    words = [name, name.partition("/")[2], *items, *(item.partition("/")[2] for item in items)]
    digests = [hashlib.sha256(word.encode()).hexdigest() for word in words] + [workspace.book.digests[slot]]
    outcome = workspace.run(workspace.request(events=wanted))
    digests.append(workspace.book.digests[slot])
    left = workspace.data.train.row(slot)[0]
    with zipfile.ZipFile(outcome.certificate.path) as archive:
        texts = {member: archive.read(member) for member in archive.namelist()}
    for word in [*words, *digests, *(json.dumps(found.tolist())[1:-1] for found in (columns, left))]:
        assert [member for member, text in texts.items() if word.encode() in text] == [], word
    assert all(array.tobytes() not in text for array in (columns, values, left) for text in texts.values())
    log = (workspace.root / "log.db").read_bytes()
    assert [word for word in [*items, *digests] if word.encode() in log] == []
    book = (workspace.root / "store" / "slots.json").read_text()
    assert [item for item in items if item in book] == []


def test_how_many_events_a_window_held_is_not_published(workspace):
    name = a_user(workspace, 0.9)
    times = [time for _, time in history(workspace, name)]
    seen = []
    for first, last in ((0, 5), (5, 11)):  # 5 and 6 events
        outcome = workspace.run(
            workspace.request(events=EventSelector(users=(name,), since=times[first], until=times[last]))
        )
        planned = [e for e in workspace.log.entries() if e.kind == "plan.committed"][-1]
        seen.append((len(planned.payload["subjects"]), outcome.certificate.sentence.count("window of the request")))
    assert seen == [(8, 1), (8, 1)]


def test_many_requests_of_one_user_are_not_many_attempts_on_one_subject(workspace):
    name = a_user(workspace, 0.9)
    items = [item for item, _ in history(workspace, name)]
    for item in items[: workspace.policy.limits.max_attempts + 2]:
        workspace.run(workspace.request(events=EventSelector(users=(name,), items=(item,))))


def test_an_item_leaves_nobodys_history_in_its_requesters_receipt(workspace):
    receipt = json.loads(workspace.request(events=asked(workspace, "item")).receipt.read_text())
    assert receipt["records"] == receipt["remains"] == []


# ------------------------------------------------------------------------------------------------- on the command line


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "expunge.apps.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})


def test_the_three_kinds_on_the_command_line(workspace, tmp_path):
    name, folder = a_user(workspace), str(workspace.root)
    bare, events = name.partition("/")[2], history(workspace, name)
    window = [str(events[3][1]), datetime.fromtimestamp(events[6][1], UTC).isoformat()]
    item = events[8][0].partition("/")[2]
    workspace.close()
    wanted = {
        "interaction": ["--user", bare, "--item", events[1][0].partition("/")[2]],
        "window": ["--user", bare, "--since", window[0], "--until", window[1]],
        "item": ["--item", item],
    }
    for unit, options in wanted.items():
        case = json.loads(run("request", "-w", folder, *options, "--json").stdout)
        assert case["deletes"] == unit
        shutil.copyfile(case["receipt"], tmp_path / "receipt.json")
        done = run("run", "-w", folder, "--json")
        assert done.returncode == 0, done.stderr
        bundle = json.loads(done.stdout)["outcome"]["certificate"]["path"]
        trust = ["--trust", f"{folder}/roots.json", "--policy", f"{folder}/policy.yaml"]
        assert run("verify", bundle, *trust, "--against", str(tmp_path / "receipt.json")).returncode == 0
    again = run("request", "-w", folder, "--item", item, "--json")
    assert again.returncode == 2
    assert "already deleted" in again.stderr
    report = run("report", bundle, "--out", str(tmp_path / "r.html"))
    assert report.returncode == 0
    text = " ".join((tmp_path / "r.html").read_text().split())
    assert "what was deleted is in none of them. The person may be, with everything else." in text
    assert "the person is in none of them" not in text


@pytest.mark.parametrize("options", [["--since", ""], ["--until", "yesterday"], ["--item", ""]])
def test_an_empty_or_wrong_option_never_becomes_a_whole_user(workspace, options):
    bare, folder = a_user(workspace).partition("/")[2], str(workspace.root)
    cases = len(workspace.state().cases)
    workspace.close()
    done = run("request", "-w", folder, "--user", bare, *options)
    assert done.returncode == 2
    with Workspace.open(folder) as opened:
        assert len(opened.state().cases) == cases
