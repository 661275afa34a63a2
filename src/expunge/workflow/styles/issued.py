"""The file of a statement: the signed envelope and what the log holds for it. And the end of one that turned out to be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expunge.core.codec import canonical, encode, loads
from expunge.core.errors import EvidenceError
from expunge.evidence.bundle import LogExtract, LoggedEntry
from expunge.evidence.durable import write_file
from expunge.evidence.envelope import payload_of
from expunge.evidence.not_learned import ISSUED, Issued, NotLearned, parse, read_issued
from expunge.evidence.note import open_checkpoint
from expunge.evidence.verify_steps import MODEL_KINDS, REVOKED, TESTED
from expunge.workflow.intake import find_case
from expunge.workflow.logged import newest
from expunge.workflow.selftest.gate import Vouched, latest
from expunge.workflow.styles.questions import asked_about, told_of

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.intake import OpenCase
    from expunge.workflow.workspace import Workspace

STAGED = "envelope.json"


def envelope_of(case: OpenCase) -> Any:
    """The signed statement of a case, from its file or as it was staged. Raises EvidenceError where both are gone."""
    if case.statement.exists():
        return read_issued(case.statement).envelope
    staged = case.folder / STAGED
    if not staged.exists():
        raise EvidenceError("the statement was issued but its envelope is gone", hint="restore the case folder")
    return loads(staged.read_bytes(), what=STAGED)


def write_issued(workspace: Workspace, case: OpenCase) -> None:
    """The file, over the log as it is now."""
    envelope = envelope_of(case)
    found, _ = parse(payload_of(envelope))
    checkpoint, size = workspace.log.checkpoint(), workspace.log.size
    rows = tuple(
        LoggedEntry(
            index=entry.index,
            body=entry.body,
            path=tuple(workspace.log.prove_inclusion(entry.index, size).path),
        )
        for entry in _cited(workspace, case, found)
    )
    links = (workspace.log.prove_consistency(_kept_size(workspace, case), size),)
    issued = Issued(
        v=1,
        envelope=envelope,
        log=LogExtract(v=1, origin=workspace.origin, size=size, entries=rows, consistency=links),
        checkpoint=checkpoint,
        selftest=vouched_before(workspace, found.battery.index).report,
    )
    write_file(case.statement, canonical(encode(issued)))


def withdraw(workspace: Workspace, style: str, model: str) -> tuple[str, ...]:
    """Revoke every statement about a style (its handle) on a model, in the log and in the owner's copies; their cases. For a
    style that turned out to be learned. Safe to run again."""
    asked, found = {entry.index for entry in asked_about(workspace, style, model)}, []
    for entry in [entry for entry in workspace.log.entries() if entry.kind == ISSUED]:
        case = find_case(workspace, str(entry.case))
        statement, digest = parse(payload_of(envelope_of(case)))
        if statement.battery.index not in asked:
            continue
        if not any(one.kind == REVOKED for one in workspace.log.case(case.handle)):
            workspace.log.append(REVOKED, {"statement": digest}, case=case.handle)
            workspace.progress(f"withdrawn: the statement of {case.handle}", 1, 1)
        write_issued(workspace, case)
        found.append(case.handle)
    return tuple(found)


def _cited(workspace: Workspace, case: OpenCase, found: NotLearned) -> list[Entry]:
    """The data, the model in service, the self-test, every question about the style on this model with its answer, and the
    case's own, in order."""
    mine = {entry.index for entry in workspace.log.case(case.handle)} | {newest(workspace).index}
    before = [entry for entry in workspace.log.entries() if entry.index < found.log.size]
    style = workspace.log.entry(found.battery.index).payload["style"]
    asked = asked_about(workspace, style, found.model)
    mine |= {entry.index for entry in (*asked, *told_of(workspace, asked).values()) if entry.index < found.log.size}
    mine |= {entry.index for entry in before if entry.kind == TESTED and entry.payload["report"] == found.selftest}
    models = [entry.index for entry in before if entry.kind in MODEL_KINDS]
    mine |= {max(index for index in models if index < found.battery.index)}
    mine |= {index for index in models if index > found.battery.index}
    return [workspace.log.entry(index) for index in sorted(mine)]


def vouched_before(workspace: Workspace, index: int) -> Vouched:
    """The self-test that was the newest when the style was asked for."""
    found = latest(workspace, before=index)
    if found is None:
        raise EvidenceError("no self-test is older than the question", hint="expunge selftest WORKSPACE, then ask anew")
    return found


def _kept_size(workspace: Workspace, case: OpenCase) -> int:
    """Size of the log in the requester's receipt."""
    receipt = loads(case.receipt.read_bytes(), what="receipt")
    return open_checkpoint(receipt["checkpoint"], workspace.roots()).size
