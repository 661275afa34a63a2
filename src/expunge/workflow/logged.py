"""The data as the log last had it. Files can be put back as they were; the log cannot, so it says which book is the newest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.core.codec import decode, encode
from expunge.core.errors import EvidenceError
from expunge.core.refs import DataRef
from expunge.evidence.log_entry import Entry

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

KINDS = ("data.ingested", "data.purged")


def newest(workspace: Workspace, case: str | None = None) -> Entry:
    """The last entry that logged the data; of a case, the last one before its own purge. A purge that was run again after a
    crash has logged the same data twice, so the case's own entries are all left out."""
    found = None
    for entry in workspace.log.entries():
        if entry.kind not in KINDS:
            continue
        if case is not None and entry.case == case:
            break
        found = entry
    if found is None:
        raise EvidenceError("the log does not hold the data as it was before this deletion")
    return found


def check_book(workspace: Workspace) -> None:
    """Raises IntegrityError when the slot book is another one than the log's newest: an older one, put back, would bring
    the deleted back into the next model."""
    workspace.book.check_root(decode(DataRef, newest(workspace).payload["data"], what="logged data"))


def ingested(workspace: Workspace, before: DataRef, case: str) -> Entry:
    """The entry that logged the data as it was before a case's deletion. No older state of the data will do."""
    entry = newest(workspace, case)
    if entry.payload.get("data") != encode(before):
        logged = decode(DataRef, entry.payload["data"], what="logged data")
        raise EvidenceError(
            "the data before this deletion is not the data that was logged last",
            expected=f"{logged.root}, {logged.content_root}",
            got=f"{before.root}, {before.content_root}",
            hint="restore store/slots.json",
        )
    return entry
