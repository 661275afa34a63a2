"""Style compartments of a workspace's model: begun, taught and dropped, with each state of the directory in the log.

A manifest that lies beside the files it speaks of can be changed with them. So what a deletion is held against is the digest
that was logged when the last adapter was trained; names stay in the manifest, which is as private as the training data.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from expunge.core.errors import InputError, IntegrityError
from expunge.data.picture_folder import PictureFolder
from expunge.evidence.durable import destroy_file
from expunge.training.text_to_image.compartments.dropping import Dropped, drop
from expunge.training.text_to_image.compartments.records import (
    Compartments,
    Teaching,
    read_manifest,
    require_recorded,
    saw_of,
)
from expunge.training.text_to_image.compartments.teaching import begin, teach
from expunge.training.text_to_image.export import export
from expunge.training.transcript import read_transcript, transcript_digest
from expunge.workflow.places import scratch

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

BEGUN, TAUGHT, DROPPED = "compartments.begun", "compartments.taught", "compartments.dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An artist's adapter is gone from `folder`. `index` of the log entry, and files of the old directory that were destroyed."""

    dropped: Dropped
    folder: Path
    index: int
    destroyed: int


def begun(workspace: Workspace, folder: Path) -> Compartments:
    """A directory over a copy of the served model, which was trained on the works that the slot book names, and on no others.

    Raises InputError for a model that nobody here saw being trained: adopted, or edited by an eraser.
    """
    served = workspace.served()
    run = workspace.root / served.run
    if served.adopted or not (run / "transcript.jsonl").exists():
        raise InputError(
            "nobody can say what the served model was trained on",
            expected="a model that was trained here, and not edited",
            hint="expunge train, then this again",
        )
    if any(line.get("from") for line in read_transcript(run / "transcript.jsonl")):
        raise InputError(
            "the served model was trained on from another one, and may have seen whoever that saw",
            expected="a training from nothing, a retraining or a replay",
            hint="expunge run --method retrain",
        )
    nets = workspace.adapter.load(run / "model.safetensors")
    if len(nets) != 1:
        raise InputError("a model of several shards has no single base", got=f"{len(nets)} shards")
    train = workspace.data.train
    here = [n for n, name in enumerate(workspace.book.ids) if name is not None and n not in served.absent]
    saw = saw_of(train.only(here), transcript_digest(run / "transcript.jsonl"))
    with scratch(workspace) as home:
        export(nets[0], home / "base", torch.float32)
        found = begin(folder, home / "base", saw)
    _log(workspace, BEGUN, None, found, {"model": served.digest})
    return found


def taught(workspace: Workspace, folder: Path, works: Path, artist: str, how: Teaching) -> Compartments:
    """An adapter from the artist's works in a folder of captioned pictures (`picture_folder`), and from nothing else."""
    before = current(workspace, folder)
    pictures = PictureFolder(path=str(works), size=workspace.adapter.size).open().train
    threads = workspace.recipe.threads
    after = teach(
        folder, pictures, artist, seed=secrets.token_hex(16), how=how, threads=threads, progress=workspace.progress
    )
    record = after.of(artist)
    _log(workspace, TAUGHT, before, after, {"weights": record.weights, "works": len(record.saw.works)})
    return after


def dropped(workspace: Workspace, folder: Path, artist: str, target: Path) -> Ended:
    """`target` without the artist's adapter, logged; then the old directory is overwritten and removed.

    Everything is checked before anything is written. A process killed before the entry leaves a target that is in no entry and
    is removed by hand; one killed after it leaves the old directory, which `finish` destroys.
    """
    if target.resolve().is_relative_to(folder.resolve()):
        raise InputError("the new directory would be destroyed with the old one", hint="name one outside it")
    before = current(workspace, folder)
    found = drop(folder, artist, target)
    after = read_manifest(target)
    payload = {"weights": found.gone, "base": found.base, "kept": len(found.kept)}
    index = _log(workspace, DROPPED, before, after, payload)
    return Ended(dropped=found, folder=target, index=index, destroyed=_destroy(folder))


def finish(workspace: Workspace, folder: Path) -> int:
    """Destroy a directory whose adapter was dropped into another one, if a kill left it. Returns the number of files.

    Raises InputError where its state is the current one.
    """
    if not _superseded(workspace, read_manifest(folder).digest):
        raise InputError("this directory is the current one", hint="drop an artist first, or remove it by hand")
    return _destroy(folder)


def current(workspace: Workspace, folder: Path) -> Compartments:
    """The manifest, if it is of the state that was logged last and every file is as recorded.

    Raises IntegrityError for a state that was never logged (a manifest written by hand) and for one that a later entry left
    behind: a backup in which a dropped adapter is back.
    """
    found = read_manifest(folder)
    known = _superseded(workspace, found.digest)
    if known is None:
        raise IntegrityError("this state of the directory is in no entry of the log", hint="restore the directory")
    if known:
        raise IntegrityError(
            "this is an older state of the directory",
            hint="an adapter may be back in it that was dropped: use the new directory, and destroy this one",
        )
    require_recorded(folder, found)
    return found


def _superseded(workspace: Workspace, digest: str) -> bool | None:
    """Whether the last entry that names a manifest's digest left it behind; None where none names it."""
    found = None
    for entry in workspace.log.entries():
        if entry.kind in (BEGUN, TAUGHT, DROPPED) and digest in (entry.payload["before"], entry.payload["manifest"]):
            found = entry.payload["manifest"] != digest
    return found


def _log(
    workspace: Workspace, kind: str, before: Compartments | None, after: Compartments, payload: Mapping[str, object]
) -> int:
    states = {"before": before and before.digest, "manifest": after.digest, "base": after.base.digest}
    return workspace.log.append(kind, {**payload, **states}).index


def _destroy(folder: Path) -> int:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink()]
    for file in files:
        destroy_file(file)
    shutil.rmtree(folder)
    return len(files)
