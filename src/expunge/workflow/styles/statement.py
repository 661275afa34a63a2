"""A request about a style alone: asked first, and answered with a statement where the style was not learned.

Works are no part of it. Whoever asks for works gets their deletion, whatever the model draws (`--block`, `--id`); whoever asks
for a style that was learned gets the same, because an exact deletion of the works says more than any edit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.codec import canonical, encode
from expunge.core.errors import Held
from expunge.core.finding import Verdict
from expunge.evidence.durable import write_file
from expunge.evidence.envelope import payload_of, sign_envelope
from expunge.evidence.keys import custody_of
from expunge.evidence.not_learned import ISSUED, Battery, NotLearned, build, parse, read_issued
from expunge.evidence.predicate import CaseRef, LegalBasis, LogRef
from expunge.evidence.statement import statement_digest
from expunge.workflow.intake import destroy_cleartext, received_index, stale_receipt, works_of, write_receipt
from expunge.workflow.policy import policy_digest
from expunge.workflow.selftest.gate import Vouched
from expunge.workflow.styles.baseline import ask_first
from expunge.workflow.styles.issued import STAGED, vouched_before, write_issued
from expunge.workflow.styles.kept import keep_battery
from expunge.workflow.styles.questions import Answered
from expunge.workflow.styles.vouching import against

if TYPE_CHECKING:
    from expunge.workflow.intake import OpenCase
    from expunge.workflow.workspace import Workspace


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
    found, works = ask_first(workspace, style), len(works_of(workspace, style))
    if not found.learned:
        return _issue(workspace, case, found, works)
    if works:
        return None
    drawn = found.finding.verdict is Verdict.FAIL
    workspace.log.append("request.held", {"reason": "learned, no works" if drawn else "undecided"}, case=case.handle)
    gone = f"; withdrawn are the statements of {', '.join(found.withdrawn)}" if found.withdrawn else ""
    raise Held(
        "the model draws the style, and no work is listed under the artist's name"
        if drawn
        else "whether the style was learned could not be decided, and no work is listed under the artist's name",
        got=found.finding.reason[:300],
        hint=f"search the training data again: works may be there under another name{gone}"
        if drawn
        else "draw more: [styles] pictures and seeds in expunge.toml; each question takes half of the error that is left",
    )


def close_statement(workspace: Workspace, case: OpenCase) -> Statement:
    """Write the file of an issued statement, then destroy the case's cleartext. Safe to run again after a crash."""
    if not case.statement.exists():
        write_issued(workspace, case)
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
    vouched = vouched_before(workspace, found.index)
    problems = against(workspace, vouched.report)
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
