"""V0: where else the users of a request sit: declared places, the new model's own files, vocabulary and test users."""

from __future__ import annotations

import json
import mmap
import re
import struct
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from expunge.core.ladder import Census, Place
from expunge.core.protocols import HasSufficientStatistics
from expunge.workflow.histories import without
from expunge.workflow.places import CLEANED, PLANTED, probe_all, scratch, traces_of

if TYPE_CHECKING:
    from expunge.workflow.execute import Executed
    from expunge.workflow.intake import Resolution
    from expunge.workflow.workspace import Workspace

MODEL, RUN = "the new model's files", "run"
_SHARD = re.compile(r"shard-(0|[1-9][0-9]{0,3})\Z")
_LABELS = {"family", "run", "model", "epoch", "step", "lines"}
_LABEL = re.compile(r"[A-Za-z0-9 :._-]{0,90}\Z")


def census_of(workspace: Workspace, resolution: Resolution, executed: Executed) -> Census:
    """Every declared place, the new model's own files, the vocabulary and the test users."""
    own = _own_files(workspace, resolution, executed)
    places = probe_all(workspace, executed.folder, traces_of(workspace, resolution.slots, resolution.cut))
    orphans, cascade = _vocabulary(workspace, resolution)
    test = set(workspace.data.test.ids)
    copies = len(resolution.test_copies) + (0 if resolution.cut else sum(name in test for name in resolution.ids))
    return Census(places=(own, *places), orphans=orphans, cascade=cascade, test_users=copies)


def _own_files(workspace: Workspace, resolution: Resolution, executed: Executed) -> Place:
    """Files of the new run: those that the family writes and reads, whole and no more, and no id of the users in any.

    Files that rung V1 compares number by number have no room for an id, and are not searched for one.
    """
    home = executed.folder
    files = [file for file in sorted(home.rglob("*")) if file.is_file()]
    files = [file for file in files if file.relative_to(home).parts[0] != CLEANED]
    odd = sum(not _expected(workspace, file.relative_to(home)) or _talks(file) for file in files)
    compared: frozenset[str] = frozenset()
    if isinstance(workspace.adapter, HasSufficientStatistics):
        odd += workspace.adapter.unused(home)  # type: ignore[attr-defined]
        compared = workspace.adapter.files()  # type: ignore[attr-defined]
    names = list(resolution.ids)
    named = sum(len(set(_named(file, names))) for file in files if file.name not in compared)
    return Place(
        kind=RUN,
        name=MODEL,
        before=len(names),
        after=odd + named,
        planted=_control(workspace),
        action="made anew; the original's files are destroyed when the case is accepted",
    )


def _control(workspace: Workspace) -> tuple[int, int]:
    """Are ids found that stand in a file of their own?"""
    prefix = next((str(name).partition("/")[0] + "/" for name in workspace.book.ids if name and "/" in name), "")
    names = [f"{prefix}nobody-{number}" for number in range(PLANTED)]
    with scratch(workspace) as folder:
        (folder / "planted").write_bytes(b"\x00".join(name.encode() for name in names))
        return len(set(_named(folder / "planted", names))), PLANTED


def _expected(workspace: Workspace, file: Path) -> bool:
    """Is it one of the family's own files, in the run's folder or in that of one of the recipe's shards?"""
    allowed = ("model.safetensors", *(line.partition(" ")[0] for line in workspace.adapter.derived_state()))
    parts, shard = file.parts, _SHARD.match(file.parts[0])
    if shard and int(shard[1]) < getattr(workspace.recipe, "shards", 1) > 1:
        parts = parts[1:]
    return any(fnmatch("/".join(parts), pattern) for pattern in allowed)


def _talks(file: Path) -> bool:
    """Does the header of a safetensors file say more than the labels that are written here?"""
    if file.suffix != ".safetensors":
        return False
    with file.open("rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        labels = json.loads(handle.read(length)).get("__metadata__", {})
    return any(name not in _LABELS or not _LABEL.match(str(value)) for name, value in labels.items())


def _named(file: Path, names: list[str]) -> Iterator[str]:
    """Those of the ids that stand in a file, which is mapped and not copied."""
    prefix = next(iter(names), "").partition("/")[0].encode()
    if not file.stat().st_size:
        return
    with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        if whole.find(prefix) >= 0:
            yield from (name for name in names if whole.find(name.encode()) >= 0)


def _vocabulary(workspace: Workspace, resolution: Resolution) -> tuple[int, tuple[int, int]]:
    """Items that only these users had, and what a filter on items would drop in a pipeline run from scratch."""
    train = workspace.data.train
    before = np.bincount(train.indices, minlength=len(train.items))
    left = without(workspace, resolution.cut).train if resolution.cut else train.without(resolution.slots)
    after = np.bincount(left.indices, minlength=len(train.items))
    least = int(workspace.config.data.options.get("min_item_events", 1))
    fallen = (before >= least) & (after < least) & (after > 0)
    return int(((before > 0) & (after == 0)).sum()), (int(fallen.sum()), int(after[fallen].sum()))
