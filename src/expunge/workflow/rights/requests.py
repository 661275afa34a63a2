"""A request as it lies at the desk: its private folder with its key, the claim in it, and its entries in the log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.core.codec import decode, loads
from expunge.core.errors import InputError, IntegrityError
from expunge.evidence.commitment import KeyFile, commit
from expunge.evidence.durable import storage_errors
from expunge.workflow.rights.closing import CLOSED
from expunge.workflow.rights.intake import Claim

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.workspace import Workspace

RECEIVED, DECIDED, MITIGATED, APPEALED, SETTLED = (
    f"rights.{word}" for word in ("received", "decided", "mitigated", "appealed", "settled")
)

STEPS = frozenset({RECEIVED, DECIDED, APPEALED, SETTLED, CLOSED})
"""What says where a request stands; a filter or a measurement does not move it."""


def private(workspace: Workspace, handle: str) -> Path:
    """0700 folder with the letter's words and the key of the request's commitments; empty once it is closed."""
    return workspace.root / "cases" / handle / "private"


def key_of(workspace: Workspace, handle: str) -> bytes:
    """The key of the request's commitments. Raises StorageError once it was destroyed."""
    return KeyFile(path=private(workspace, handle) / "case.key").read()


def claim_of(workspace: Workspace, handle: str) -> Claim:
    """The claim as it came. Raises IntegrityError where the file is not what was logged."""
    file = private(workspace, handle) / "claim.json"
    with storage_errors(file, "read claim"):
        claim = decode(Claim, loads(file.read_bytes(), what=file.name), what=file.name)
    logged = workspace.log.case(handle)[0].payload["claim"]
    if commit(key_of(workspace, handle), claim) != logged:
        raise IntegrityError("the claim is not the one that was logged", expected=str(logged))
    return claim


def require_open(workspace: Workspace, handle: str) -> None:
    """Raises InputError where there is no such request, or it is closed."""
    entries = workspace.log.case(handle)
    if not entries or entries[0].kind != RECEIVED:
        raise InputError("no such request", got=handle, hint="expunge rights docket")
    if any(entry.kind == CLOSED for entry in entries):
        raise InputError("the request is closed", got=handle, hint="a new letter is a new request")


def entries_of(workspace: Workspace, handle: str, kind: str) -> list[Entry]:
    """Its entries of one kind, oldest first."""
    return [entry for entry in workspace.log.case(handle) if entry.kind == kind]


def last_of(workspace: Workspace, handle: str, kind: str) -> Any:
    """The newest of them, or None."""
    rows = entries_of(workspace, handle, kind)
    return rows[-1] if rows else None
