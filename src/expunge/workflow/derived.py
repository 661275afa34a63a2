"""Everything in a workspace that derives from records, as one index: runs, banks, packages, and what crashes left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.codec import decode, loads
from expunge.farm.index import BLANK, DESTROY, Artefact, Index
from expunge.farm.manifest import Seen
from expunge.workflow.state import ModelRecord
from expunge.workflow.train import bank_folder, read_bank

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

RUNS, UNFINISHED, ANSWERS, SKETCHES, PACKAGES = (
    "runs",
    "unfinished banks",
    "cached answers",
    "score sketches",
    "recompute packages",
)


def derived_from(workspace: Workspace, released: ModelRecord) -> Index:
    """Artefacts by path from the workspace's root, with what becomes of them when a record they saw is erased.

    The released run is not among those to be destroyed. What does not say what it saw counts as having seen everybody.
    """
    index = Index([*_runs(workspace, released), *_unfinished(workspace), *_packages(workspace), *_scratch(workspace)])
    for record in workspace.state().banks:
        folder = bank_folder(workspace, record.digest)
        if (folder / "spec.json").exists():
            found = read_bank(workspace, record.digest, whole=False).index()
            index = index | Index(item.under(_name(workspace, folder)) for item in found)
    return index


def _runs(workspace: Workspace, released: ModelRecord) -> Iterator[Artefact]:
    known = {record.run: record for record in _records(workspace)}
    for folder in sorted((workspace.root / "store" / "runs").iterdir()):
        name = _name(workspace, folder)
        if name != released.run:
            absent = known[name].absent if name in known else ()
            seen = Seen.all_but(absent, len(workspace.book.ids))
            yield Artefact(kind=RUNS, path=name, fate=DESTROY, seen=seen, files=_files(folder))


def _records(workspace: Workspace) -> Iterator[ModelRecord]:
    for file in sorted((workspace.root / "store" / "models").glob("*.json")):
        yield decode(ModelRecord, loads(file.read_bytes(), what=file.name), what=file.name)


def _unfinished(workspace: Workspace) -> Iterator[Artefact]:
    """Banks that were begun and never logged as built: nobody would blank or retire them."""
    known = {bank_folder(workspace, bank.digest) for bank in workspace.state().banks}
    for folder in sorted((workspace.root / "store" / "banks").iterdir()):
        if folder not in known:
            yield _about_everybody(workspace, folder, UNFINISHED, DESTROY)


def _packages(workspace: Workspace) -> Iterator[Artefact]:
    """Recompute packages of earlier cases list everybody who was retained then."""
    for file in sorted((workspace.root / "cases").glob("*/recompute.json")):
        yield _about_everybody(workspace, file, PACKAGES, BLANK)


def _scratch(workspace: Workspace) -> Iterator[Artefact]:
    folder = workspace.root / "store" / "scratch"
    if folder.exists():
        yield _about_everybody(workspace, folder, ANSWERS, DESTROY)


def _about_everybody(workspace: Workspace, path: Path, kind: str, fate: str) -> Artefact:
    seen = Seen.all_but((), len(workspace.book.ids))
    return Artefact(kind=kind, path=_name(workspace, path), fate=fate, seen=seen, files=_files(path))


def _name(workspace: Workspace, path: Path) -> str:
    return str(path.relative_to(workspace.root))


def _files(path: Path) -> int:
    return sum(file.is_file() for file in path.rglob("*")) if path.is_dir() else 1
