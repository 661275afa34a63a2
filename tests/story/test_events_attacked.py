"""What was tried against deletions of events: files put back, kills at every point, sources cleaned as advised."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from expunge import EventSelector, Workspace
from expunge.core.errors import IntegrityError
from expunge.farm import opened as kept
from expunge.workflow.intake import find_case
from recommending import a_user, make


def history(workspace: Workspace, name: str) -> list[tuple[str, int]]:
    """(item id, time) of a user's events."""
    train = workspace.data.train
    span = train.span(workspace.book.slots_of([name])[0])
    rows = zip(train.indices[span].tolist(), train.times[span].tolist(), strict=True)
    return [(train.items[column], time) for column, time in rows]


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
