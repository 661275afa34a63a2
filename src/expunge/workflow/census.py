"""V0: where else the users of a request sit. Declared places are probed, cleaned in a copy, and probed again.

A place whose kind can be cleaned is cleaned into the candidate's folder; the purge of an accepted case puts the copy in
its place, so that nothing outside is touched before everything has passed. Other places have to be rebuilt by their owner
first. Every probe has its control: made-up users are planted in a copy, and have to be found.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.core import registry
from expunge.core.errors import ExpungeError
from expunge.core.ladder import Census, Place
from expunge.core.places import PlaceKind, Traces
from expunge.evidence.durable import destroy_file, storage_errors

if TYPE_CHECKING:
    from expunge.workflow.config import PlaceTable
    from expunge.workflow.execute import Executed
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

CLEANED = "places"  # folder of a run
PLANTED = 3
MODEL, RUN = "the new model's files", "run"
_BLOCK = 1 << 20


def census_of(workspace: Workspace, resolution: Resolution, executed: Executed) -> Census:
    """Every declared place, the new model's own files, the vocabulary and the test users."""
    traces = traces_of(workspace, resolution)
    made_up = strangers(workspace, len(workspace.data.items))
    places = [_own_files(workspace, executed, traces, made_up)]
    for number, table in enumerate(workspace.config.places):
        workspace.progress("census", number, len(workspace.config.places))
        places.append(_probed(workspace, table, executed.folder / CLEANED / str(number), traces, made_up))
    orphans, cascade = _vocabulary(workspace, resolution)
    test = set(workspace.data.test.ids)
    copies = len(resolution.test_copies) + sum(name in test for name in resolution.ids)
    return Census(places=tuple(places), orphans=orphans, cascade=cascade, test_users=copies)


def traces_of(workspace: Workspace, resolution: Resolution) -> Traces:
    """What the users of a request would leave behind outside."""
    rows = [workspace.data.train.row(slot) for slot in resolution.slots]
    return Traces(
        names=tuple(outside(name) for name in resolution.ids),
        slots=resolution.slots,
        columns=tuple(columns for columns, _ in rows),
        values=tuple(values for _, values in rows),
        items=len(workspace.data.items),
        model=workspace.served().digest,
    )


def outside(name: str) -> str:
    """An id as files outside have it: without the prefix that sources put before it."""
    return name.partition("/")[2] or name


def strangers(workspace: Workspace, items: int) -> Traces:
    """Users who do not exist, for the controls: ids that nobody has, slots behind the last, histories of a few items."""
    known = {outside(str(name)) for name in workspace.book.ids if name is not None}
    first = max((int(name) for name in known if name.isdigit()), default=0) + 7_001
    slots = tuple(len(workspace.book.ids) + number for number in range(PLANTED))
    columns = tuple(np.arange(number, min(items, number + 5), dtype=np.int32) for number in range(PLANTED))
    return Traces(
        names=tuple(str(first + number) for number in range(PLANTED)),
        slots=slots,
        columns=columns,
        values=tuple(np.ones(len(found), np.int64) for found in columns),
        items=items,
        model="sha256:" + "5e" * 32,
    )


def _probed(workspace: Workspace, table: PlaceTable, copy: Path, traces: Traces, made_up: Traces) -> Place:
    path = (workspace.root / table.path).resolve()
    try:
        kind = kind_of(table)
        before = kind.count(path, traces)
        control = _control(kind, path, made_up)
        after, action = before, "left as it is: rebuild it without the users"
        if before and kind.scrubs:
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            kind.scrub(path, copy, traces)
            after, action = kind.count(copy, traces), "cleaned; the copy takes its place when the case is accepted"
        elif not before:
            action = "nothing to do"
    except (ExpungeError, OSError) as error:
        reason = error.message if isinstance(error, ExpungeError) else type(error).__name__
        return Place(kind=table.kind, name=table.name, before=0, after=0, planted=(0, PLANTED), unread=reason)
    return Place(kind=table.kind, name=table.name, before=before, after=after, planted=control, action=action)


def kind_of(table: PlaceTable) -> PlaceKind:
    """The plug-in with its settings."""
    plugin: Any = registry.load("places", table.kind)
    kind: PlaceKind = plugin(plugin.Config(**dict(table.options)))
    return kind


def _control(kind: PlaceKind, path: Path, made_up: Traces) -> tuple[int, int]:
    """(found, planted) of made-up users in a copy that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="expunge-census-") as folder:
        out = Path(folder) / path.name
        planted = kind.plant(path, out, made_up)
        return kind.count(out, made_up), planted


def put_in_place(workspace: Workspace, run: Path) -> int:
    """Cleaned copies of an accepted case take the place of what they were made from, one by one; returns how many.

    Safe to run again: a copy that is gone has been put in its place.
    """
    moved = 0
    for number, table in enumerate(workspace.config.places):
        copy = run / CLEANED / str(number)
        if copy.exists():
            _replace((workspace.root / table.path).resolve(), copy)
            moved += 1
    shutil.rmtree(run / CLEANED, ignore_errors=True)
    return moved


def _replace(target: Path, copy: Path) -> None:
    """The copy under the target's name and rights, in one step; what was there is overwritten."""
    new, old = (target.with_name(f".{target.name}.{word}") for word in ("cleaned", "before"))
    with storage_errors(target, "replace"):
        shutil.copyfile(copy, new)
        shutil.copymode(target, new)
        old.unlink(missing_ok=True)
        os.link(target, old)
        os.replace(new, target)
    destroy_file(old)
    copy.unlink()


def _own_files(workspace: Workspace, executed: Executed, traces: Traces, made_up: Traces) -> Place:
    """Files of the new run: none that the family does not write, and no id of the users in any."""
    allowed = ("model.safetensors", *(line.partition(" ")[0] for line in workspace.adapter.derived_state()))
    files = sorted(file for file in executed.folder.rglob("*") if file.is_file() and CLEANED not in file.parts)
    unexpected = sum(not _expected(file.relative_to(executed.folder), allowed) for file in files)
    with tempfile.TemporaryDirectory(prefix="expunge-census-") as folder:
        control = Path(folder) / "planted"
        control.write_bytes(b"\x00".join(name.encode() for name in _full(workspace, made_up.names)))
        seen = len(set(_named(control, _full(workspace, made_up.names))))
    named = sum(len(set(_named(file, _full(workspace, traces.names)))) for file in files)
    return Place(
        kind=RUN,
        name=MODEL,
        before=len(traces.names),
        after=unexpected + named,
        planted=(seen, len(made_up.names)),
        action="made anew; the original's files are destroyed when the case is accepted",
    )


def _expected(file: Path, allowed: Sequence[str]) -> bool:
    """Is it one of the family's own files, in the run's folder or in that of one of its shards?"""
    parts = file.parts[1:] if file.parts[0].startswith("shard-") else file.parts
    return any(fnmatch("/".join(parts), pattern) for pattern in allowed)


def _full(workspace: Workspace, names: tuple[str, ...]) -> list[str]:
    """Ids with the source's prefix: a bare number stands in every binary file."""
    prefix = next((str(name).partition("/")[0] for name in workspace.book.ids if name and "/" in str(name)), "")
    return [f"{prefix}/{name}" if prefix else name for name in names]


def _named(file: Path, names: list[str]) -> Iterator[str]:
    """Those of the ids that stand in a file, read in blocks that overlap."""
    words = {name: name.encode() for name in names}
    prefix = next(iter(words), "").partition("/")[0].encode()
    longest = max((len(word) for word in words.values()), default=1)
    with file.open("rb") as handle:
        tail: bytes = b""
        while block := handle.read(_BLOCK):
            text = tail + block
            if prefix in text:
                yield from (name for name, word in words.items() if word in text)
            tail = text[-longest:]


def _vocabulary(workspace: Workspace, resolution: Resolution) -> tuple[int, tuple[int, int]]:
    """Items that only these users had, and what a filter on items would drop in a pipeline run from scratch."""
    train = workspace.data.train
    before = np.bincount(train.indices, minlength=len(train.items))
    after = np.bincount(train.without(resolution.slots).indices, minlength=len(train.items))
    least = int(workspace.config.data.options.get("min_item_events", 1))
    fallen = (before >= least) & (after < least) & (after > 0)
    return int(((before > 0) & (after == 0)).sum()), (int(fallen.sum()), int(after[fallen].sum()))
