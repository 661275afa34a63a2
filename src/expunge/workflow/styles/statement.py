"""A request about a style alone: asked first, and answered with a statement where the style was not learned.

Works are no part of it. Whoever asks for works gets their deletion, whatever the model draws (`--block`, `--id`); whoever asks
for a style that was learned gets the same, because an exact deletion of the works says more than any edit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.codec import canonical, encode, loads
from expunge.core.errors import EvidenceError, Held
from expunge.core.finding import Guarantee, Verdict
from expunge.evidence.bundle import LogExtract, LoggedEntry
from expunge.evidence.durable import write_file
from expunge.evidence.envelope import payload_of, sign_envelope
from expunge.evidence.keys import custody_of
from expunge.evidence.not_learned import ISSUED, Battery, Issued, NotLearned, build, parse, read_issued
from expunge.evidence.note import open_checkpoint
from expunge.evidence.predicate import CaseRef, LegalBasis, LogRef
from expunge.evidence.statement import statement_digest
from expunge.evidence.verify_steps import TESTED
from expunge.workflow.intake import destroy_cleartext, received_index, stale_receipt, works_of, write_receipt
from expunge.workflow.logged import newest
from expunge.workflow.policy import policy_digest
from expunge.workflow.selftest.gate import Vouched, latest, subject_of
from expunge.workflow.styles.baseline import answered, ask_first
from expunge.workflow.styles.kept import keep_battery
from expunge.workflow.styles.questions import Answered, asked_about, told_of

if TYPE_CHECKING:
    from expunge.core.selftest import SelftestReport
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.intake import OpenCase
    from expunge.workflow.workspace import Workspace

STAGED = "envelope.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """An issued statement, what it says, and how to check it."""

    path: Path
    sentence: str
    check_command: str


def answer_style(workspace: Workspace, case: OpenCase) -> Statement | None:
    """The statement where the style was shown not to be learned; None where its works are to be deleted instead.

    Raises Held where there are no works and the model draws the style all the same, or it could not be decided: then records
    or search are wrong, or more has to be measured, and a person looks.
    """
    style = str(case.request().style)
    if not case.receipt.exists() or stale_receipt(workspace, case):
        write_receipt(workspace, case)
    told = answered(workspace, style)
    if told is None or told.finding.verdict is not Verdict.FAIL:
        _check_vouched(workspace)
    found, works = ask_first(workspace, style), len(works_of(workspace, style))
    if not found.learned:
        return _issue(workspace, case, found, works)
    if works:
        return None
    drawn = found.finding.verdict is Verdict.FAIL
    workspace.log.append("request.held", {"reason": "learned, no works" if drawn else "undecided"}, case=case.handle)
    raise Held(
        "the model draws the style, and no work is listed under the artist's name"
        if drawn
        else "whether the style was learned could not be decided, and no work is listed under the artist's name",
        got=found.finding.reason[:300],
        hint="search the training data again: works may be there under another name"
        if drawn
        else "draw more: [styles] pictures and seeds in expunge.toml; each question takes half of the error that is left",
    )


def _check_vouched(workspace: Workspace) -> None:
    """Before a question is spent: could its answer be stated? Raises Held."""
    found = latest(workspace)
    problems = ["there is none"] if found is None else _problems(workspace, found.report)
    if problems:
        raise Held(
            "the self-test does not vouch for a statement about a style, so nobody was asked",
            got="; ".join(problems)[:300],
            hint="expunge selftest WORKSPACE, then this again; works can be asked for without it (expunge request --block)",
        )


def _problems(workspace: Workspace, report: SelftestReport) -> list[str]:
    """What is asked of the self-test behind an edit: judges of styles were tried, no listed cheat against a style was believed,
    and the honest control was. With which counts is not compared: cheats were tried on edits, not on this question."""
    rule, on = workspace.policy.selftest, replace(subject_of(workspace), asked="")
    return rule.problems(report, datetime.now(UTC), on, Guarantee.EMPIRICAL)


def close_statement(workspace: Workspace, case: OpenCase) -> Statement:
    """Write the file of an issued statement, then destroy the case's cleartext. Safe to run again after a crash."""
    if not case.statement.exists():
        _write(workspace, case)
    destroy_cleartext(case)
    (case.folder / STAGED).unlink(missing_ok=True)
    found, _ = parse(payload_of(read_issued(case.statement).envelope))
    return Statement(
        path=case.statement,
        sentence=found.sentence,
        check_command=f"expunge verify {case.statement} --trust {workspace.root / 'roots.json'} --policy "
        f"{workspace.root / 'policy.yaml'} --against {case.receipt}",
    )


def _issue(workspace: Workspace, case: OpenCase, found: Answered, works: int) -> Statement:
    """Everything is on disk before the log says that it was issued."""
    vouched = _vouched(workspace, found.index)
    problems = _problems(workspace, vouched.report)
    if problems:
        raise Held(
            "the self-test under which the style was asked for does not vouch any more",
            got="; ".join(problems),
            hint="ask anew, with other counts ([styles] in expunge.toml)",
        )
    payload = build(_statement(workspace, case, found, works, vouched))
    envelope = sign_envelope(payload, [workspace.signer("operator"), workspace.signer("verifier")])
    write_file(case.folder / STAGED, canonical(encode(envelope)))
    keep_battery(found.folder, case.folder)
    workspace.log.append(ISSUED, {"statement": statement_digest(payload)}, case=case.handle)
    return close_statement(workspace, case)


def _statement(workspace: Workspace, case: OpenCase, found: Answered, works: int, vouched: Vouched) -> NotLearned:
    request, now = case.request(), datetime.now(UTC)
    received = workspace.log.entry(received_index(workspace, case))
    return NotLearned(
        case=CaseRef(handle=case.handle, request=received.payload["request"]),
        basis=LegalBasis(ground=request.basis, regime=request.regime, received=request.received, due=request.due),
        family=workspace.recipe.family,
        model=workspace.served().digest,
        data=workspace.book.data_ref(workspace.config.data.source),
        works=works,
        battery=Battery(digest=found.battery, index=found.index, attempt=found.attempt, others=found.others),
        policy=policy_digest(workspace.policy),
        finding=found.finding,
        selftest=vouched.digest,
        custody=custody_of(workspace.signer("operator"), workspace.signer("verifier")),
        log=LogRef(origin=workspace.origin, size=workspace.log.size),
        issued_at=now,
        expires_at=now + timedelta(days=workspace.config.owner.certificate_days),
    )


def _write(workspace: Workspace, case: OpenCase) -> None:
    staged = case.folder / STAGED
    if not staged.exists():
        raise EvidenceError("the statement was issued but its envelope is gone", hint="restore the case folder")
    envelope = loads(staged.read_bytes(), what=STAGED)
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
        selftest=_vouched(workspace, found.battery.index).report,
    )
    write_file(case.statement, canonical(encode(issued)))


def _cited(workspace: Workspace, case: OpenCase, found: NotLearned) -> list[Entry]:
    """The data, the self-test, every question about the style on this model with its answer, and the case's own, in order."""
    mine = {entry.index for entry in workspace.log.case(case.handle)} | {newest(workspace).index}
    before = [entry for entry in workspace.log.entries() if entry.index < found.log.size]
    style = workspace.log.entry(found.battery.index).payload["style"]
    asked = asked_about(workspace, style, found.model)
    mine |= {entry.index for entry in (*asked, *told_of(workspace, asked).values()) if entry.index < found.log.size}
    mine |= {entry.index for entry in before if entry.kind == TESTED and entry.payload["report"] == found.selftest}
    return [workspace.log.entry(index) for index in sorted(mine)]


def _vouched(workspace: Workspace, index: int) -> Vouched:
    """The self-test that was the newest when the style was asked for."""
    found = latest(workspace, before=index)
    if found is None:
        raise EvidenceError("no self-test is older than the question", hint="expunge selftest WORKSPACE, then ask anew")
    return found


def _kept_size(workspace: Workspace, case: OpenCase) -> int:
    """Size of the log in the requester's receipt."""
    receipt = loads(case.receipt.read_bytes(), what="receipt")
    return open_checkpoint(receipt["checkpoint"], workspace.roots()).size
