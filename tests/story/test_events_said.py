"""What certificates of events say that they do not show, and what stays out of the log."""

from __future__ import annotations

from typing import Any

import pytest

from expunge import EventSelector, Workspace
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.statement import parse_statement
from expunge.workflow.intake import find_case, resolve
from recommending import a_user, failed_steps, make, rows_of, with_place, write_rows


def window_of(workspace: Workspace, name: str, events: int = 5) -> EventSelector:
    """A time window in which a user has so many events."""
    train = workspace.data.train
    times = sorted(train.times[train.span(workspace.book.slots_of([name])[0])].tolist())
    return EventSelector(users=(name,), since=times[2], until=times[2 + events])


def not_covered(outcome: Any) -> str:
    certificate = read_bundle(outcome.certificate.path).json("certificate.json")
    return "; ".join(parse_statement(payload_of(certificate)).predicate.not_covered.other)


class Killed(BaseException):
    """The process is gone."""


def killed(*_: object) -> None:
    raise Killed


def test_a_certificate_of_events_says_that_cheats_were_tried_on_whole_users(workspace):
    name = a_user(workspace)
    said = not_covered(workspace.run(workspace.request(events=window_of(workspace, name))))
    assert "the self-test tries its cheats on whole users" in said
    assert "later row" not in said
    assert "cheats" not in not_covered(workspace.run(workspace.request(ids=[name])))


def test_a_window_over_rows_that_a_later_one_replaced_says_that_they_may_stay(tmp_path):
    rows = rows_of()
    user, item, _, time = next(row for row in rows if row[0] == "u004")
    write_rows(tmp_path / "events.csv", [*rows, (user, item, 0.5, time + 10**6)])
    options = {"test_users": 15, "duplicates": "last"}
    data = {"source": "interactions", "path": str(tmp_path / "events.csv"), "options": options}
    with make(tmp_path / "ws", data=data) as workspace:
        wanted = EventSelector(users=("user/u004",), since=0, until=time + 30)
        said = not_covered(workspace.run(workspace.request(events=wanted)))
        assert "rows of the time window that the source keeps beside a later row" in said


def test_asking_for_a_window_again_tells_nobody_how_much_was_in_it(workspace):
    wanted = window_of(workspace, a_user(workspace, 0.9))
    first, second = (set(resolve(workspace, workspace.request(events=wanted)).subjects) for _ in range(2))
    assert first == second
    assert len(first) == 8


def test_a_place_declared_after_the_acceptance_does_not_stop_the_case(workspace, tmp_path, monkeypatch):
    case = workspace.request(events=window_of(workspace, a_user(workspace)))
    with monkeypatch.context() as patched:
        patched.setattr("expunge.workflow.pipeline._finish", killed)
        with pytest.raises(Killed):
            workspace.run(case)
    name = a_user(workspace).partition("/")[2]
    (tmp_path / "app.log").write_text(f"list for {name} sent\n")
    with with_place(workspace, "text", tmp_path / "app.log") as opened:
        assert failed_steps(opened, opened.run(find_case(opened, case.handle))) == []
        assert name in (tmp_path / "app.log").read_text()
