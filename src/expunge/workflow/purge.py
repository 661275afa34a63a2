"""Step 9 of the walk: destroy what derived from the deleted records, and say what was not reached."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.case import State as CaseState
from expunge.core.codec import canonical, encode, loads
from expunge.core.errors import EvidenceError
from expunge.evidence.durable import destroy_file, write_file
from expunge.training.transcript import transcript_digest
from expunge.workflow.intake import all_cases, destroy_cleartext, fold, select
from expunge.workflow.state import ModelRecord
from expunge.workflow.train import bank_folder, read_bank, save_bank_slots, seed_digest

if TYPE_CHECKING:
    from expunge.workflow.intake import OpenCase
    from expunge.workflow.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Private: an accepted candidate on its way to a certificate, kept so that a crash in between loses nothing.

    `attempt` names the plan and findings files.
    """

    slots: tuple[int, ...]
    block: str | None
    split: str
    attempt: int
    method: str
    seconds: float
    steps_run: int
    steps_total: int
    record: ModelRecord
    original: ModelRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What is gone, what stays until a date, and what expunge cannot reach."""

    purged: tuple[str, ...]
    retiring: tuple[str, ...]
    not_covered: tuple[str, ...]


def purge(workspace: Workspace, case: OpenCase, accepted: Accepted) -> Purge:
    """Put the accepted model in service, remove everything else that was trained on the records, blank the records.

    Safe to run again after a crash: what is already gone is skipped, and the counts of all runs add up.
    """
    _release(workspace, case, accepted)
    _close_other_cases(workspace, case, accepted.slots)
    files = _destroy_other_runs(workspace, accepted.record)
    erased = workspace.book.erased(accepted.slots)
    erased.save(workspace.slots_file)
    workspace.reread()
    counts = {
        "files": files,
        "unfinished_banks": _destroy_unfinished_banks(workspace),
        "sketches": _blank_banks(workspace, accepted.slots),
        "packages": _blank_packages(workspace),
        "records": len(accepted.slots),
    }
    after = workspace.book.data_ref(workspace.config.data.source, accepted.record.absent)
    workspace.log.append("data.purged", {"data": encode(after), **counts}, case=case.handle)
    return Purge(
        purged=_purged(workspace, case, len(accepted.slots)), retiring=_retiring(workspace), not_covered=(_SOURCE,)
    )


def _release(workspace: Workspace, case: OpenCase, accepted: Accepted) -> None:
    """The served model changes only from the original that was planned for, to the candidate that was checked."""
    served = workspace.state().model
    if served == accepted.record.digest:
        return
    if served != accepted.original.digest:
        raise EvidenceError(
            "another model has been released since this candidate was checked",
            expected=accepted.original.digest,
            got=served,
            hint="file the request again",
        )
    workspace.remember_model(accepted.record)
    payload = {
        "model": accepted.record.digest,
        "replaces": accepted.original.digest,
        "transcript": transcript_digest(workspace.root / accepted.record.run / "transcript.jsonl"),
        "seed": seed_digest(accepted.record.seed),
    }
    workspace.log.append("model.released", payload, case=case.handle)


def _close_other_cases(workspace: Workspace, case: OpenCase, slots: tuple[int, ...]) -> None:
    """Other cases about these records: their cleartext names what is now erased, so it goes, and open ones are answered."""
    gone = frozenset(slots)
    for other in all_cases(workspace):
        if other.handle == case.handle or not (other.private / "request.json").exists():
            continue
        if gone.isdisjoint(select(workspace, other.request())):
            continue
        if fold(workspace, other).state in (CaseState.RECEIVED, CaseState.RESOLVED, CaseState.DECIDED):
            workspace.log.append("request.refused", {"reason": "already deleted"}, case=other.handle)
        destroy_cleartext(other)


def _destroy_other_runs(workspace: Workspace, released: ModelRecord) -> int:
    """Every run but the released one: the original, candidates that were not accepted, and what a crash left behind."""
    kept = workspace.root / released.run
    files = sum(_destroy(folder) for folder in sorted((workspace.root / "store" / "runs").iterdir()) if folder != kept)
    mine = f"{released.digest.removeprefix('sha256:')}.json"
    for record in (workspace.root / "store" / "models").glob("*.json"):
        if record.name != mine:
            destroy_file(record)
    return files


def _destroy_unfinished_banks(workspace: Workspace) -> int:
    """Banks that were begun and never logged as built: nobody would blank or retire them."""
    known = {bank_folder(workspace, bank.digest) for bank in workspace.state().banks}
    folders = [folder for folder in (workspace.root / "store" / "banks").iterdir() if folder not in known]
    for folder in folders:
        _destroy(folder)
    return len(folders)


def _blank_banks(workspace: Workspace, slots: tuple[int, ...]) -> int:
    """Blank the records in every bank that is still there; returns the number of sketches rewritten."""
    sketches = 0
    for record in workspace.state().banks:
        if (bank_folder(workspace, record.digest) / "spec.json").exists():
            bank = read_bank(workspace, record.digest)
            save_bank_slots(workspace, bank.folder)
            sketches += bank.forget(slots)
    return sketches


def _blank_packages(workspace: Workspace) -> int:
    """Recompute packages of earlier cases list what was retained then: the records erased since are blanked."""
    packages = sorted((workspace.root / "cases").glob("*/recompute.json"))
    for package in packages:
        plain = loads(package.read_bytes(), what="recompute package")
        now = workspace.book.ids
        plain["ids"] = [name if now[slot] is not None else None for slot, name in enumerate(plain["ids"])]
        plain["blocks"] = [block if now[slot] is not None else "" for slot, block in enumerate(plain["blocks"])]
        write_file(package, canonical(plain), mode=0o600)
    return len(packages)


def _destroy(folder: Path) -> int:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()] if folder.exists() else []
    for file in files:
        destroy_file(file)
    shutil.rmtree(folder, ignore_errors=True)
    return len(files)


def _purged(workspace: Workspace, case: OpenCase, records: int) -> tuple[str, ...]:
    """What is gone, from the log, so that a run that was interrupted half-way counts too."""
    logged = [entry.payload for entry in workspace.log.case(case.handle) if entry.kind == "data.purged"]
    files = sum(int(payload["files"]) for payload in logged)
    sketches = max(int(payload["sketches"]) for payload in logged)
    banks = sum(int(payload["unfinished_banks"]) for payload in logged)
    lines = [
        f"weights, checkpoints and transcripts of the original and of every other run ({files} files)",
        f"ids and content digests of {records} records in the slot book",
        f"answers about the records in {sketches} score sketches of the bank",
    ]
    return (*lines, f"{banks} unfinished banks") if banks else tuple(lines)


def _retiring(workspace: Workspace) -> tuple[str, ...]:
    return tuple(
        f"bank {bank.digest[:19]}… of {bank.n} models and {bank.anchors} anchors, trained in part on the records: "
        f"to be destroyed by {bank.destroy_by}"
        for bank in workspace.state().banks
    )


NOT_COVERED = {
    "recipients": "recipients of the records or of the original model (GDPR Art. 19): not covered",
    "backups": "backups, snapshots, and blocks a solid-state disk has not yet overwritten: not covered",
    "released_copies": "copies of the original model that were released or exported: not covered",
    "derived_models": "models derived from the original (distilled, fine-tuned, merged): not covered",
}
_SOURCE = "the data source outside the workspace: not covered; the owner has to remove the records there"
