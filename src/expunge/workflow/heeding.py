"""What sources said about training, heeded when a workspace is made: the places of works that were opted out stay empty.

The slot book gives them no id, so the loader has blank records there and no training of this workspace ever reads them. A
reservation that is read later is a request for deletion, like any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.core.codec import sha256_hex
from expunge.core.errors import InputError
from expunge.data.opt_out.loader import Enforcement, enforce
from expunge.data.opt_out.signals import read_signals
from expunge.evidence.commitment import commit
from expunge.workflow.config import DataTable

if TYPE_CHECKING:
    from expunge.workflow.slots import SlotBook
    from expunge.workflow.workspace import Workspace

HEEDED = "signals.heeded"


def enforcement_of(table: DataTable, root: Path, raw: Any) -> Enforcement | None:
    """What the signals of expunge.toml keep out of this data; None where none are named. Raises DataError on a file that is none,
    InputError where nothing would be left, or where records are users."""
    if table.signals is None:
        return None
    if hasattr(raw, "items"):
        raise InputError("signals are of works, and these records are users", hint="leave out data.signals")
    found = enforce(tuple(raw.train.ids), read_signals(_file(root, table.signals)), need_record=table.need_record)
    if len(found.absent) == found.rows:
        raise InputError("every row is opted out, so nothing is left to train on", got=f"{found.rows} rows")
    return found


def heed(workspace: Workspace, raw: Any, book: SlotBook) -> SlotBook:
    """The slot book without what was opted out, and the counts in the log; the file itself is committed to, not shown."""
    table = workspace.config.data
    found = enforcement_of(table, workspace.root, raw)
    if found is None or table.signals is None:
        return book
    digest = sha256_hex(_file(workspace.root, table.signals).read_bytes())
    payload = {
        "signals": commit(workspace.secret("signals"), digest),
        "rows": found.rows,
        "absent": len(found.absent),
        "said": dict(found.said),
        "reserved_by": dict(found.reserved_by),
        "unrecorded": found.unrecorded,
    }
    workspace.log.append(HEEDED, payload)
    return book.erased(found.absent)


def _file(root: Path, named: str) -> Path:
    """A relative path is taken from the workspace, which may not be there yet."""
    return (root / named).resolve()
