"""Step 9 of the walk: destroy what derived from the deleted records, and say what was not reached."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.codec import encode
from expunge.evidence.durable import destroy_file
from expunge.workflow.state import ModelRecord
from expunge.workflow.train import read_bank

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
    """Put the accepted model in service, remove the old one's files, and blank the records everywhere we keep them.

    Safe to run again after a crash: what is already gone is skipped.
    """
    workspace.remember_model(accepted.record)
    if workspace.state().model != accepted.record.digest:
        payload = {"model": accepted.record.digest, "replaces": accepted.original.digest}
        workspace.log.append("model.released", payload, case=case.handle)
    files = _destroy(workspace.root / accepted.original.run)
    old = workspace.root / "store" / "models" / f"{accepted.original.digest.removeprefix('sha256:')}.json"
    old.unlink(missing_ok=True)
    sketches = 0
    erased = workspace.book.erased(accepted.slots)
    erased.save(workspace.slots_file)
    for record in workspace.state().banks:
        bank = read_bank(workspace, record.digest)
        erased.save_ids(bank.folder / "slots.json")
        sketches += bank.forget(accepted.slots)
    logged: dict[str, object] = {
        "data": encode(workspace.book.data_ref(workspace.config.data.source, accepted.record.absent)),
        "files": files,
        "sketches": sketches,
        "records": len(accepted.slots),
    }
    workspace.log.append("data.purged", logged, case=case.handle)
    result = Purge(
        purged=(
            f"weights, checkpoints and transcript of the original model ({files} files)",
            f"ids and content digests of {len(accepted.slots)} records in the slot book",
            f"answers about the records in {sketches} score sketches of the bank",
        ),
        retiring=_retiring(workspace),
        not_covered=(_SOURCE,),
    )
    workspace.reread()
    return result


def _destroy(folder: Path) -> int:
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()] if folder.exists() else []
    for file in files:
        destroy_file(file)
    shutil.rmtree(folder, ignore_errors=True)
    return len(files)


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
