"""Declared places: probed, cleaned in a copy, and swapped when the case is accepted; each file's digest says what it was.

Nothing outside the workspace changes before a case is accepted. At the swap a file that is no longer what was probed is
cleaned again, and afterwards every place is probed once more: what counts is what lies there then.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.core import registry
from expunge.core.codec import canonical, digest_of, loads
from expunge.core.errors import DataError, EvidenceError, ExpungeError, InputProblems
from expunge.core.ladder import Place
from expunge.core.places import PlaceKind, Traces
from expunge.evidence.durable import storage_errors, write_file

if TYPE_CHECKING:
    from expunge.workflow.config import PlaceTable
    from expunge.workflow.histories import Cut
    from expunge.workflow.workspace import Workspace

CLEANED = "places"  # folder of a run
BEFORE = "before.json"  # resolved path -> digest of the file that was probed
PLANTED, TRIES = 3, 20
_BLOCK = 1 << 20
_MODELS = ("model.trained", "model.adopted", "model.released")


def check_places(workspace: Workspace) -> None:
    """Kinds and options of the declared places, when a workspace is opened. Raises InputProblems with all of them."""
    problems = []
    for table in workspace.config.places:
        if table.kind not in registry.names("places"):
            problems.append(f"{table.name}: no kind {table.kind!r}; there are {', '.join(registry.names('places'))}")
            continue
        try:
            kind_of(table)
        except (TypeError, ExpungeError) as error:
            problems.append(f"{table.name}: {error}")
    if problems:
        raise InputProblems("places in expunge.toml", problems, code="config")


def kind_of(table: PlaceTable) -> PlaceKind:
    """The plug-in with its settings."""
    plugin: Any = registry.load("places", table.kind)
    kind: PlaceKind = plugin(plugin.Config(**dict(table.options)))
    return kind


def declared_digest(workspace: Workspace) -> str:
    """What was declared, for the plan: a place that is dropped from the list before a case leaves a trace."""
    return digest_of([table.model_dump() for table in workspace.config.places])


def probe_all(workspace: Workspace, run: Path, traces: Traces) -> list[Place]:
    """Every declared place, those that can be cleaned in a copy in `run`. Copies of an earlier try are thrown away."""
    folder = run / CLEANED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    probed: dict[str, str] = {}
    found = []
    for number, table in enumerate(workspace.config.places):
        workspace.progress("census", number, len(workspace.config.places))
        found.append(_probed(workspace, table, folder, traces, probed))
    write_file(folder / BEFORE, canonical(probed), mode=0o600)
    if not workspace.config.places:
        shutil.rmtree(folder)
    return found


def _probed(workspace: Workspace, table: PlaceTable, folder: Path, traces: Traces, probed: dict[str, str]) -> Place:
    path = workspace.root / table.path
    try:
        kind = kind_of(table)
        _own_inode(path)
        if not _concerned(kind, traces):
            return _no_events(workspace, table, kind, path)
        before, control = kind.count(path, traces), _control(workspace, kind, path, traces)
        after, action = before, "left as it is: rebuild it without the users"
        if kind.scrubs:
            after = _cleaned(kind, path, folder, traces, probed)
            action = "cleaned; the copy takes its place when the case is accepted" if before else "nothing to do"
    except (ExpungeError, OSError) as error:
        reason = error.message if isinstance(error, ExpungeError) else type(error).__name__
        return Place(kind=table.kind, name=table.name, before=0, after=0, planted=(0, PLANTED), unread=reason)
    return Place(kind=table.kind, name=table.name, before=before, after=after, planted=control, action=action)


def _concerned(kind: PlaceKind, traces: Traces) -> bool:
    """Can an artefact of this kind hold what is looked for? A map of ids holds no event."""
    return not traces.events or bool(getattr(kind, "holds_events", True))


def _blind(kind: PlaceKind, traces: Traces) -> bool:
    """It cannot tell one event from its user, who remains. Such a place is refused with the request; this one was declared
    after the case was accepted."""
    return bool(traces.events) and not getattr(kind, "shortens", False)


def _no_events(workspace: Workspace, table: PlaceTable, kind: PlaceKind, path: Path) -> Place:
    """It is read all the same, and has to be one in which users are found."""
    control = _control(workspace, kind, path, None)
    action = "holds no events; its users stay"
    return Place(kind=table.kind, name=table.name, before=0, after=0, planted=control, action=action)


def _own_inode(path: Path) -> None:
    """A second name of the same file would keep the users, or be changed without being asked."""
    if path.stat().st_nlink > 1:
        raise DataError(f"{path.name} has other names (hard links)", hint="declare a file of its own")


def _cleaned(kind: PlaceKind, path: Path, folder: Path, traces: Traces, probed: dict[str, str]) -> int:
    """Clean a copy; a file that is declared twice is cleaned of both kinds of traces, one after the other."""
    name = str(path.resolve())
    copy = folder / digest_of(name).removeprefix("sha256:")[:32]
    probed.setdefault(name, _digest(path))
    source = path
    if copy.exists():
        source = _as_well(kind, path, copy, traces)
    if kind.count(source, traces):
        next_copy = copy.with_suffix(".next")
        kind.scrub(source, next_copy, traces)
        os.replace(next_copy, copy)
    return kind.count(copy if copy.exists() else path, traces)


def _as_well(kind: PlaceKind, path: Path, copy: Path, traces: Traces) -> Path:
    """The copy that another place has cleaned, with what this one needs beside it: some kinds read a list of whose row is
    which from the file's folder, and write the copy's own when they clean the file itself."""
    once = copy.with_suffix(".once")
    kind.scrub(path, once, traces)
    once.unlink()
    return copy


def put_in_place(workspace: Workspace, run: Path, traces: Traces) -> int:
    """Cleaned copies of an accepted case take the place of what they were made from; returns how many did.

    A file that changed since it was probed is cleaned again from what it is now. Safe to run again after a crash, because
    the list of what was probed stays until `drop_copies`. Raises EvidenceError when a place leads elsewhere than it did, or
    still holds a trace.
    """
    folder = run / CLEANED
    before: Mapping[str, str] = loads((folder / BEFORE).read_bytes()) if (folder / BEFORE).exists() else {}
    moved: set[str] = set()
    for table in workspace.config.places:
        path, kind = workspace.root / table.path, kind_of(table)
        if not _concerned(kind, traces) or _blind(kind, traces):
            continue
        name = str(path.resolve())
        if kind.scrubs and name not in before:
            raise EvidenceError(
                f"place {table.name!r} leads elsewhere than when it was probed", hint="run the case again"
            )
        copy = folder / digest_of(name).removeprefix("sha256:")[:32]
        if kind.scrubs and copy.exists() and _digest(path) == before[name]:
            _replace(path, copy)
            moved.add(name)
        elif kind.scrubs and kind.count(path, traces):
            fresh = copy.with_suffix(".fresh")
            kind.scrub(path, fresh, traces)
            _replace(path, fresh)
            moved.add(name)
        if kind.count(path, traces):
            raise EvidenceError(
                f"place {table.name!r} holds the {'events' if traces.events else 'users'} again",
                hint="clean or rebuild it, then run the case again",
            )
    return len(moved)


def drop_copies(run: Path) -> None:
    """What is left of the cleaned copies of a run whose places are clean."""
    shutil.rmtree(run / CLEANED, ignore_errors=True)


def _replace(target: Path, copy: Path) -> None:
    """The copy under the target's name and rights, in one durable step. What was there is unlinked and not overwritten: a
    service may still have it open."""
    new = target.with_name(f".{target.name}.cleaned")
    with storage_errors(target, "replace"):
        shutil.copyfile(copy, new)
        shutil.copymode(target, new)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, target)
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    copy.unlink()


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


# ------------------------------------------------------------------------------------------------------------- controls


def _control(workspace: Workspace, kind: PlaceKind, path: Path, wanted: Traces | None) -> tuple[int, int]:
    """(found, planted) of made-up users in a copy that is thrown away; of made-up events, where such are `wanted`. They
    must not be there before."""
    made_up = next(
        (found for found in map(partial(_alike, wanted), strangers(workspace)) if not kind.count(path, found)),
        None,
    )
    if made_up is None:
        raise DataError("no made-up user is unknown here", hint="the file names everybody one can think of")
    with scratch(workspace) as folder:
        out = folder / path.name
        planted = kind.plant(path, out, made_up)
        return kind.count(out, made_up), planted


def _alike(wanted: Traces | None, made_up: Traces) -> Traces:
    """The made-up users, or one event of each: with an item that somebody's event has, or that anybody's may have."""
    if wanted is None or not wanted.events:
        return made_up
    if not wanted.events[0][0]:
        return replace(made_up, events=tuple(("", name) for name in made_up.names))
    items = [item for _, item in wanted.events]
    return replace(made_up, events=tuple((name, items[k % len(items)]) for k, name in enumerate(made_up.names)))


def strangers(workspace: Workspace) -> Iterator[Traces]:
    """Users who do not exist, in sets: ids that nobody has, slots behind the last, histories of a few items."""
    items, users = len(workspace.data.items), len(workspace.book.ids)
    known = {outside(str(name)) for name in workspace.book.ids if name is not None}
    largest = max((int(name) for name in known if name.isascii() and name.isdigit()), default=0)
    columns = tuple(np.arange(number, min(items, number + 5), dtype=np.int32) for number in range(PLANTED))
    whole = Traces(
        names=(),
        slots=tuple(users + number for number in range(PLANTED)),
        columns=columns,
        values=tuple(np.ones(len(found), np.int64) for found in columns),
        items=items,
        model="sha256:" + "5e" * 32,
    )
    for k in range(TRIES):
        first = (largest + 7_001) * (k + 1) ** 3
        yield replace(whole, names=tuple(str(first + number) for number in range(PLANTED)))


def outside(name: str) -> str:
    """An id as files outside have it: without the prefix that sources put before it."""
    return name.partition("/")[2] or name


def traces_of(workspace: Workspace, slots: tuple[int, ...], cut: Cut | None = None) -> Traces:
    """What the users in these slots would leave behind outside; or only these events of theirs."""
    rows = [workspace.data.train.row(slot) for slot in slots]
    served = workspace.served().digest
    models = [str(entry.payload["model"]) for entry in workspace.log.entries() if entry.kind in _MODELS]
    return Traces(
        names=tuple(outside(str(workspace.book.ids[slot])) for slot in slots),
        slots=slots,
        columns=tuple(columns for columns, _ in rows),
        values=tuple(values for _, values in rows),
        items=len(workspace.data.items),
        model=served,
        earlier=tuple(dict.fromkeys(model for model in models if model != served)),
        users=len(workspace.book.ids),
        events=() if cut is None else _outside_events(workspace, cut),
    )


def _outside_events(workspace: Workspace, cut: Cut) -> tuple[tuple[str, str], ...]:
    """Pairs of user and item, or, of an item that goes, the item whoever had it."""
    items = workspace.data.items
    if cut.unit == "item":
        return tuple(("", outside(items[column])) for column in cut.items)
    return tuple((outside(str(workspace.book.ids[slot])), outside(items[column])) for slot, column in cut.events)


def keep_traces(file: Path, traces: Traces) -> None:
    """Write down, privately, what is looked for outside: neither the slot book nor a source that is itself a place can say it
    once the records are gone from them."""
    plain = {field.name: getattr(traces, field.name) for field in fields(traces)}
    plain |= {name: [part.tolist() for part in plain[name]] for name in ("columns", "values")}
    write_file(file, canonical(plain), mode=0o600)


def kept_traces(file: Path) -> Traces:
    """What `keep_traces` wrote."""
    plain = loads(file.read_bytes(), what=file.name)
    lists = {name: tuple(plain[name]) for name in ("names", "slots", "earlier")}
    columns = tuple(np.array(part, np.int32) for part in plain["columns"])
    values = tuple(np.array(part, np.int64) for part in plain["values"])
    events = tuple((user, item) for user, item in plain["events"])
    return Traces(**{**plain, **lists, "columns": columns, "values": values, "events": events})


@contextmanager
def scratch(workspace: Workspace) -> Iterator[Path]:
    """A folder for what must not outlive a step. It lies in the workspace, where a purge destroys what a kill left."""
    home = workspace.root / "store" / "scratch"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=home) as folder:
        yield Path(folder)
