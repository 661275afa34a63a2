"""Requests about events that are refused, held or answered by others, and what may not leak from them."""

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

import pytest

from asking import UNITS, asked, history
from expunge import EventSelector, Workspace
from expunge.apps.cli.verify import _expectation
from expunge.core.errors import EvidenceError, Held, InputError
from expunge.core.finding import Guarantee
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.predicate import Erased
from expunge.evidence.statement import parse_statement
from expunge.evidence.verify_steps import check_absence, check_expected
from expunge.farm import opened as kept
from recommending import (
    a_user,
    make,
    rows_of,
    with_place,
    write_rows,
)

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
