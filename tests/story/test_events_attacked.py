"""What was tried against deletions of events: files put back, kills at every point, sources cleaned as advised."""

from __future__ import annotations

import csv
import importlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asking import history
from expunge import EventSelector, Workspace
from expunge.apps.cli.verify import _expectation, checkpoint_in
from expunge.core.codec import canonical, loads
from expunge.core.errors import DataError, InputError, IntegrityError
from expunge.data._events import held_out, keyed_order
from expunge.evidence.bundle import read_bundle
from expunge.evidence.commitment import Opening, check_opening, commit
from expunge.evidence.envelope import payload_of
from expunge.evidence.keys import read_roots
from expunge.evidence.log import AuditLog
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.statement import parse_statement
from expunge.evidence.verify import verify_bundle
from expunge.farm import opened as kept
from expunge.workflow import histories, intake, purge
from expunge.workflow.cuts import of_pair
from expunge.workflow.intake import closed, find_case
from expunge.workflow.policy import read_policy
from expunge.workflow.recompute import recompute
from recommending import a_user, failed_steps, make, rows_of, with_place, write_rows


def one(workspace: Workspace, name: str, place: int = 2) -> EventSelector:
    """A request for one interaction of a user."""
    return EventSelector(users=(name,), items=(history(workspace, name)[place][0],))


class Killed(BaseException):
    """The process is gone."""


def killed(*_: object, **__: object) -> None:
    raise Killed


# ------------------------------------------------------------------------------------------- an older book is put back


@pytest.mark.parametrize("family", ["ease", "ials", "multvae"])
@pytest.mark.parametrize("unit", ["records", "interaction", "item"])
def test_an_older_slot_book_put_back_brings_nothing_back(tmp_path, family, unit):
    workspace = make(tmp_path / "ws", family=family)
    name, file = a_user(workspace), tmp_path / "old.json"
    item = history(workspace, name)[2][0]
    shutil.copy(workspace.slots_file, file)
    wanted = {
        "records": {"ids": [name]},
        "interaction": {"events": EventSelector(users=(name,), items=(item,))},
        "item": {"events": EventSelector(items=(item,))},
    }[unit]
    workspace.run(workspace.request(**wanted))
    served, other = workspace.served().digest, a_user(workspace, 0.9)
    case = workspace.request(ids=[other]).handle
    workspace.close()
    shutil.copy(file, workspace.slots_file)
    kept.forget()
    with Workspace.open(workspace.root) as again:
        with pytest.raises(IntegrityError, match="the slot book is not the data that was logged"):
            again.run(find_case(again, case))
        assert again.served().digest == served


def test_an_older_slot_book_put_back_during_a_purge_brings_nothing_back(workspace, tmp_path, monkeypatch):
    name, file = a_user(workspace), tmp_path / "old.json"
    shutil.copy(workspace.slots_file, file)
    workspace.run(workspace.request(events=one(workspace, name)))
    case = workspace.request(ids=[a_user(workspace, 0.9)])
    with monkeypatch.context() as patched:
        patched.setattr("expunge.workflow.purge._inventory", killed)
        with pytest.raises(Killed):
            workspace.run(case)
    root: Path = workspace.root
    shutil.copy(file, root / "store" / "slots.json")
    workspace.reread()
    with pytest.raises(Exception, match="is not the data that was logged"):
        workspace.run(case)


def test_an_older_slot_book_is_trained_on_by_nobody(workspace, monkeypatch):
    monkeypatch.setattr(Workspace, "state", lambda _: type("Empty", (), {"model": None})())
    workspace.book.ids[0] = None
    with pytest.raises(IntegrityError, match="the slot book is not the data that was logged"):
        workspace.train()


# ------------------------------------------------------------------------------------------------ a kill at any point


STEPS = {  # module -> functions that change something on disk
    "purge": ("write_file", "destroy_file", "_destroy"),
    "certify": ("write_file", "close_case"),
    "slots": ("write_file",),
    "intake": ("write_file", "destroy_file"),
    "places": ("write_file", "_replace"),
    "workspace": ("write_file",),
}


class Killer:
    """Raises at the nth change of anything on disk from the purge on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for module, names in STEPS.items():
            home = importlib.import_module(f"expunge.workflow.{module}")
            for name in names:
                monkeypatch.setattr(home, name, self.counted(getattr(home, name)))
        monkeypatch.setattr(AuditLog, "append", self.counted(AuditLog.append))
        monkeypatch.setattr(shutil, "rmtree", self.counted(shutil.rmtree))
        monkeypatch.setattr(os, "replace", self.counted(os.replace))

    def counted(self, function: Any) -> Any:
        def inner(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise Killed
            return function(*arguments, **named)

        return inner


def until_accepted(workspace: Workspace, case: Any) -> None:
    """The case with its candidate accepted, and not a step further."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("expunge.workflow.pipeline._finish", killed)
        with pytest.raises(Killed):
            workspace.run(case)


def finished_after_a_kill(root: Path, case: str, place: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Kill at this place, run again; False when there were fewer places than that."""
    kept.forget()
    with monkeypatch.context() as patched, Workspace.open(root) as workspace:
        killer = Killer(patched)
        killer.left = place
        try:
            workspace.run(find_case(workspace, case))
        except Killed:
            pass
        else:
            return False
    kept.forget()
    with Workspace.open(root) as workspace:
        if not closed(workspace, find_case(workspace, case)):
            assert failed_steps(workspace, workspace.run(find_case(workspace, case))) == []
        assert workspace.log.verify().ok
        assert not list((workspace.root / "store" / "runs").glob("*/places"))
    return True


@pytest.mark.parametrize(
    ("unit", "source_is_a_place"), [("records", False), ("interaction", False), ("interaction", True)]
)
def test_a_kill_anywhere_in_the_purge_is_repaired_by_running_again(tmp_path, monkeypatch, unit, source_is_a_place):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # here a process is killed, not the machine
    workspace = make(tmp_path / "ws")
    name, item = a_user(workspace), history(workspace, a_user(workspace))[2][0]
    file = tmp_path / ("events.csv" if source_is_a_place else "export.csv")
    write_rows(file, rows_of())
    workspace = with_place(workspace, "events", file)
    case = workspace.request(**({"ids": [name]} if unit == "records" else {"events": one(workspace, name)}))
    until_accepted(workspace, case)
    workspace.close()
    root = workspace.root
    shutil.copytree(root, tmp_path / "ws.before")
    shutil.copy(file, tmp_path / "rows.before")
    place = 1
    while finished_after_a_kill(root, case.handle, place, monkeypatch):
        rows = [row for row in csv.reader(file.open()) if f"user/{row[0]}" == name]
        assert [row for row in rows if unit == "records" or f"item/{row[1]}" == item] == [], place
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "ws.before", root)
        shutil.copy(tmp_path / "rows.before", file)
        place += 1
    assert place > 20


# --------------------------------------------------------------------------- the source is cleaned as the owner was told


def reopened_without(workspace: Workspace, rows: list[Any]) -> Workspace:
    """The owner has removed what the certificate said has to be removed at the source."""
    write_rows(workspace.root.parent / "events.csv", rows)
    workspace.close()
    kept.forget()
    return Workspace.open(workspace.root)


LONE = ("zz1", "m001", 4.0, 10**9)


def test_a_user_of_whom_nothing_is_left_may_leave_the_source(tmp_path):
    workspace = make(tmp_path / "ws", rows=[*rows_of(), LONE])
    first = workspace.run(workspace.request(events=EventSelector(users=("user/zz1",), items=("item/m001",))))
    with reopened_without(workspace, rows_of()) as again:
        assert len(again.data.train.row(again.book.slots_of(["user/zz1"])[0])[0]) == 0
        package = first.certificate.path.parent / "recompute.json"
        FileSigner.create(tmp_path / "second.pem")
        second = recompute(
            first.certificate.path, package, data=str(tmp_path / "events.csv"),
            key=f"file:{tmp_path / 'second.pem'}", by="second holder", out=tmp_path / "cosignature.json",
        )  # fmt: skip
        assert second.model == again.served().digest
        assert failed_steps(again, again.run(again.request(ids=[a_user(again)]))) == []


def test_a_user_of_whom_something_is_left_may_not(tmp_path):
    workspace = make(tmp_path / "ws", rows=rows_of())
    name = a_user(workspace)
    workspace.run(workspace.request(events=one(workspace, name)))
    left = [row for row in rows_of() if f"user/{row[0]}" != name]
    with reopened_without(workspace, left) as again, pytest.raises(DataError, match="1 retained users are missing"):
        assert again.data


def would_be_tested(rows: list[Any], count: int = 15) -> tuple[str, list[str]]:
    """A made-up user who would be a test user beside these, and the ids of all."""
    users = sorted({row[0] for row in rows})
    for number in range(200):
        everybody = sorted([*users, f"q{number}"])
        if everybody.index(f"q{number}") in held_out([f"user/{name}" for name in everybody], count):
            return f"q{number}", everybody
    raise AssertionError("no such user")


def test_a_test_user_who_leaves_the_source_makes_nobody_else_one(tmp_path):
    name, _ = would_be_tested(rows_of())
    workspace = make(tmp_path / "ws", rows=[*rows_of(), (name, "m001", 4.0, 10**9)])
    tested = set(workspace.data.test.ids)
    assert f"user/{name}" in tested
    erased = a_user(workspace, 0.9)
    workspace.run(workspace.request(ids=[erased]))
    workspace.run(workspace.request(events=EventSelector(items=("item/m001",))))
    left = [row for row in rows_of() if row[1] != "m001"]  # the erased user is still there
    with reopened_without(workspace, left) as again:
        assert set(again.data.test.ids) == tested - {f"user/{name}"}
        assert failed_steps(again, again.run(again.request(ids=[a_user(again)]))) == []


def test_an_erased_user_is_never_tested_on(tmp_path):
    rows = rows_of()
    name, everybody = would_be_tested(rows)
    order = keyed_order([f"user/{user}" for user in everybody])
    following = f"user/{everybody[order[15]]}"  # who is a test user once `name` is gone
    workspace = make(tmp_path / "ws", rows=[*rows, (name, "m001", 4.0, 10**9)])
    tested = set(workspace.data.test.ids)
    workspace.run(workspace.request(ids=[following]))
    with reopened_without(workspace, rows) as again:
        assert set(again.data.test.ids) == tested - {f"user/{name}"}


def test_the_source_as_a_place_is_cleaned_and_can_still_be_opened(tmp_path):
    workspace = make(tmp_path / "ws", rows=[*rows_of(), LONE])
    workspace = with_place(workspace, "events", tmp_path / "events.csv")
    outcome = workspace.run(workspace.request(events=EventSelector(users=("user/zz1",), items=("item/m001",))))
    assert failed_steps(workspace, outcome) == []
    workspace.close()
    kept.forget()
    with Workspace.open(workspace.root) as again:
        assert failed_steps(again, again.run(again.request(ids=[a_user(again)]))) == []


# ---------------------------------------------------------------------------------- a certificate of more than was asked


def last_step(workspace: Workspace, bundle: Path, receipt: Path) -> str:
    """What the requester's own verifier says of the certificate as an answer to the request."""
    found = verify_bundle(
        bundle,
        roots=read_roots(workspace.root / "roots.json"),
        policy=read_policy(workspace.root / "policy.yaml"),
        against=checkpoint_in(receipt),
        expect=_expectation(receipt, None),
    )
    assert [step.reason for step in found.steps[:-1] if step.status != "ok"] == []
    return found.steps[-1].reason


def cut_everywhere(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """An owner who cuts something else than what the request says."""
    real = histories.cut_of
    for module in (histories, intake, purge):
        monkeypatch.setattr(module, "cut_of", lambda workspace, wanted: change(workspace, real(workspace, wanted)))


def five_more_users(workspace: Workspace, cut: Any) -> Any:
    """Somebody else's first event, of five users."""
    train = workspace.data.train
    more = tuple((slot, int(train.row(slot)[0][0])) for slot in range(5) if slot not in cut.slots)
    return replace(cut, events=tuple(sorted(cut.events + more)))


def one_more_event(workspace: Workspace, cut: Any) -> Any:
    """Another event of the same user."""
    slot = cut.slots[0]
    more = next(int(c) for c in workspace.data.train.row(slot)[0] if (slot, int(c)) not in cut.events)
    return replace(cut, events=tuple(sorted([*cut.events, (slot, more)])))


def one_more_item(workspace: Workspace, cut: Any) -> Any:
    """Another item, from all histories."""
    train, more = workspace.data.train, (cut.items[0] + 1) % len(workspace.data.items)
    events = [(slot, more) for slot in range(len(train)) if more in train.row(slot)[0]]
    return replace(cut, events=tuple(sorted([*cut.events, *events])), items=tuple(sorted([*cut.items, more])))


@pytest.mark.parametrize(
    ("unit", "change", "said"),
    [
        ("interaction", five_more_users, "histories that were asked for does not agree"),
        ("window", five_more_users, "histories that were asked for does not agree"),
        ("interaction", one_more_event, "interactions that were asked for does not agree"),
        ("item", one_more_item, "items that were asked for does not agree"),
    ],
)
def test_a_certificate_of_more_than_was_asked_for_is_no_answer(workspace, tmp_path, monkeypatch, unit, change, said):
    name = a_user(workspace)
    events = history(workspace, name)
    wanted = {
        "interaction": EventSelector(users=(name,), items=(events[2][0],)),
        "window": EventSelector(users=(name,), since=events[3][1], until=events[7][1]),
        "item": EventSelector(items=(events[2][0],)),
    }[unit]
    case, receipt = workspace.request(events=wanted), tmp_path / "receipt.json"
    shutil.copyfile(case.receipt, receipt)
    cut_everywhere(monkeypatch, change)
    outcome = workspace.run(case)
    assert said in last_step(workspace, outcome.certificate.path, receipt)


@pytest.mark.parametrize("gone", ["remains", "records"])
def test_a_receipt_that_does_not_say_what_remains_is_refused(workspace, tmp_path, gone):
    case, receipt = workspace.request(events=one(workspace, a_user(workspace))), tmp_path / "receipt.json"
    shutil.copyfile(case.receipt, receipt)
    outcome = workspace.run(case)
    assert last_step(workspace, outcome.certificate.path, receipt) == "as expected"
    receipt.write_text(json.dumps({**json.loads(receipt.read_text()), gone: []}))
    assert "does not open every history" in last_step(workspace, outcome.certificate.path, receipt)


# --------------------------------------------------------------------------------------------- an upgrade in between


@pytest.mark.parametrize("plain", [{}, {"events": None}])
def test_a_receipt_written_again_after_an_upgrade_opens_what_the_log_holds(workspace, plain):
    case = workspace.request(ids=[a_user(workspace)])
    file = case.private / "request.json"
    older = {**{k: v for k, v in loads(file.read_bytes(), what="request").items() if k != "events"}, **plain}
    file.write_bytes(canonical(older))
    intake.write_receipt(workspace, case)
    opening = json.loads(case.receipt.read_text())["opening"]
    assert check_opening(commit(case.key(), older), Opening(**opening)) == older


# ---------------------------------------------------------------------------- what is kept to keep it out is read out


def read_out(key: bytes, cuts: Any, items: list[str]) -> dict[int, set[str]]:
    """By slot, the items whose tags are listed: one HMAC an item."""
    return {slot: {item for item in items if of_pair(key, slot, item) in tags} for slot, tags in cuts["kept"]}


@pytest.mark.parametrize("then", ["nothing", "an interaction", "an item"])
def test_trying_every_item_reads_out_nothing_that_went(workspace, then):
    name = a_user(workspace, 0.9)
    slot, events = workspace.book.slots_of([name])[0], history(workspace, name)
    window = EventSelector(users=(name,), since=events[2][1], until=events[7][1])
    package = workspace.run(workspace.request(events=window)).certificate.path.parent / "recompute.json"
    more = {
        "an interaction": one(workspace, name, 4),
        "an item": EventSelector(items=(history(workspace, name)[4][0],)),
    }
    if then in more:
        workspace.run(workspace.request(events=more[then]))
    left, key = {item for item, _ in history(workspace, name)}, workspace.key("data")
    assert len(left) < len(events) - 4
    book = json.loads((workspace.root / "store" / "slots.json").read_text())["cuts"]
    for cuts in (book, json.loads(package.read_text())["cuts"]):  # older packages, too
        assert read_out(key, cuts, workspace.vocabulary) == {slot: left}
        assert sum(len(tags) for _, tags in cuts["kept"]) == len(left)


def test_the_certificate_says_what_stays(workspace):
    purged = []
    for wanted in (one(workspace, a_user(workspace)), EventSelector(items=(workspace.data.items[5],))):
        bundle = read_bundle(workspace.run(workspace.request(events=wanted)).certificate.path)
        purged.append(parse_statement(payload_of(bundle.json("certificate.json"))).predicate.purged[1])
    assert "keyed tags of what is retained, and of nothing that went, stay there" in purged[0]
    assert "keyed tombstones of the items stay there" in purged[1]


def test_a_shortened_history_lets_nothing_new_in(workspace, tmp_path):
    name = a_user(workspace)
    workspace.run(workspace.request(events=one(workspace, name)))
    before, bare = workspace.data.train.events, name.partition("/")[2]
    missing = next(i for i in workspace.vocabulary if i not in {item for item, _ in history(workspace, name)})
    rows = [*rows_of(), (bare, missing.partition("/")[2], 3.0, 10**9)]
    with reopened_without(workspace, list({row[:2]: row for row in rows}.values())) as again:
        assert again.data.train.events == before


# ------------------------------------------------------------------------------- a case that is overtaken by another one


def answers(workspace: Workspace, case: Any) -> list[str]:
    return [str(e.payload["reason"]) for e in workspace.log.case(case.handle) if e.kind == "request.refused"]


PARTLY = "partly deleted: the rest has to be asked for again"


def overtaken(workspace: Workspace, case: Any, *names: str) -> None:
    """It is answered, and nothing in the workspace names those who are gone any more."""
    assert answers(workspace, case) == [PARTLY]
    assert not any(case.private.iterdir())
    with pytest.raises(InputError, match="is closed"):
        workspace.run(case)
    for file in workspace.root.rglob("*"):
        assert not file.is_file() or not [name for name in names if name.encode() in file.read_bytes()], file


def test_a_window_case_overtaken_by_the_deletion_of_one_of_its_users_is_answered(workspace):
    gone, stays = a_user(workspace, 0.9), a_user(workspace, 0.5)
    case = workspace.request(events=EventSelector(users=(gone, stays), since=0, until=10**9 + 30))
    workspace.run(workspace.request(ids=[gone]))
    overtaken(workspace, case, f'"{gone}"')


def test_a_window_case_overtaken_by_all_that_one_of_its_users_had_in_it_is_answered(workspace):
    one_user, other = a_user(workspace, 0.9), a_user(workspace, 0.5)
    first = min(time for _, time in history(workspace, one_user))
    until = max(first, min(time for _, time in history(workspace, other))) + 1
    case = workspace.request(events=EventSelector(users=(one_user, other), since=0, until=until))
    workspace.run(workspace.request(events=EventSelector(users=(one_user,), since=0, until=until)))
    overtaken(workspace, case)


def test_an_item_case_overtaken_by_the_deletion_of_one_of_its_items_is_answered(workspace):
    first, second = (item for item, _ in history(workspace, a_user(workspace))[1:3])
    case = workspace.request(events=EventSelector(items=(first, second)))
    workspace.run(workspace.request(events=EventSelector(items=(first,))))
    overtaken(workspace, case)


def test_an_item_case_overtaken_by_the_only_one_who_had_an_item_is_answered(workspace):
    lone = next(item for item in workspace.vocabulary if item.startswith("item/x"))
    column, train = workspace.vocabulary.index(lone), workspace.data.train
    owner = next(str(workspace.book.ids[slot]) for slot in range(len(train)) if column in train.row(slot)[0])
    case = workspace.request(events=EventSelector(items=(lone, "item/m001")))
    workspace.run(workspace.request(ids=[owner]))
    overtaken(workspace, case, f'"{owner}"')


def test_a_window_case_that_still_finds_something_goes_on(workspace):
    name = a_user(workspace, 0.9)
    events = history(workspace, name)
    case = workspace.request(events=EventSelector(users=(name,), since=0, until=events[7][1]))
    workspace.run(workspace.request(events=EventSelector(users=(name,), items=(events[2][0],))))
    assert answers(workspace, case) == []
    assert failed_steps(workspace, workspace.run(case)) == []
