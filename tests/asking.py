"""Requests about events of the small workspace, and what their deletion has to leave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from expunge import EventSelector, Workspace
from expunge.core import registry
from recommending import (
    a_user,
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
