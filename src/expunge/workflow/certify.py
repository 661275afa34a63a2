"""Step 10 of the walk: statement, signatures, inclusion proofs, bundle; then the case's cleartext is destroyed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.core import registry
from expunge.core.codec import canonical, decode, digest_of, encode, loads
from expunge.core.errors import EvidenceError
from expunge.core.finding import Finding, Guarantee
from expunge.core.plan import Plan
from expunge.core.refs import DataRef
from expunge.evidence.bundle import file_digests, write_bundle
from expunge.evidence.durable import destroy_file, write_file
from expunge.evidence.envelope import sign_envelope
from expunge.evidence.keys import custody_of
from expunge.evidence.log_entry import Entry
from expunge.evidence.manifest import prove_deletion
from expunge.evidence.merkle import ConsistencyProof, InclusionProof
from expunge.evidence.note import open_checkpoint
from expunge.evidence.predicate import (
    AS_LOGGED,
    NON_CLAIMS,
    BankRef,
    CaseRef,
    LegalBasis,
    LogRef,
    MethodRef,
    Models,
    NotCovered,
    PlanRef,
    Predicate,
)
from expunge.evidence.sentence import custody_line, sentence_of
from expunge.evidence.statement import build_statement, statement_digest
from expunge.workflow.figures import figure_data
from expunge.workflow.intake import close_receipt
from expunge.workflow.policy import policy_digest
from expunge.workflow.purge import NOT_COVERED, Accepted, Purge

if TYPE_CHECKING:
    from expunge.workflow.intake import OpenCase
    from expunge.workflow.workspace import Workspace

REPORT = "html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """An issued certificate: the bundle, the report beside it, what it says, and how to check it."""

    path: Path
    report: Path
    guarantee: Guarantee
    sentence: str
    check_command: str


def certify(workspace: Workspace, case: OpenCase, accepted: Accepted, purged: Purge) -> Certificate:
    """Issue the certificate of an accepted candidate whose purge is done."""
    plan_bytes = (case.folder / f"plan-{accepted.attempt}.json").read_bytes()
    findings_bytes = (case.folder / f"findings-{accepted.attempt}.json").read_bytes()
    draft = _predicate(workspace, case, accepted, purged, plan_bytes, findings_bytes)
    files = {
        "plan.json": plan_bytes,
        "findings.json": findings_bytes,
        "absence.json": canonical(encode(_absence(workspace, accepted))),
    }
    files |= registry.load("reports", REPORT)().render(_view(workspace, accepted, purged, draft))
    payload = build_statement(replace(draft, files=file_digests(files)))
    write_recompute_package(workspace, case, accepted)
    path = _issue(workspace, case, payload, files, draft.data_before)
    report = case.folder / "report.html"
    write_file(report, files["report.html"])
    for secret in sorted(case.private.iterdir()):
        destroy_file(secret)
    close_receipt(case)
    return Certificate(
        path=path,
        report=report,
        guarantee=draft.guarantee,
        sentence=sentence_of(draft),
        check_command=f"expunge verify {path} --trust {workspace.root / 'roots.json'} --policy "
        f"{workspace.root / 'policy.yaml'} --against {case.receipt}",
    )


def _issue(workspace: Workspace, case: OpenCase, payload: bytes, files: Mapping[str, bytes], before: DataRef) -> Path:
    """Log the statement's digest, sign it with both keys, and write the bundle with its proofs."""
    signers = [workspace.signer("operator"), workspace.signer("verifier")]
    envelope = sign_envelope(payload, signers)
    workspace.log.append("certificate.issued", {"certificate": statement_digest(payload)}, case=case.handle)
    checkpoint = workspace.log.checkpoint()
    size = workspace.log.size
    entries = [_ingested(workspace, before), *workspace.log.case(case.handle)]
    proofs: list[InclusionProof | ConsistencyProof] = [
        workspace.log.prove_inclusion(entry.index, size) for entry in entries
    ]
    receipt = loads(case.receipt.read_bytes(), what="receipt")
    proofs.append(workspace.log.prove_consistency(open_checkpoint(receipt["checkpoint"], workspace.roots()).size, size))
    return write_bundle(
        case.folder / "certificate.zip",
        envelope=envelope,
        entries=entries,
        proofs=proofs,
        checkpoint=checkpoint,
        files=files,
    )


def _ingested(workspace: Workspace, before: DataRef) -> Entry:
    """The entry that logged the data before the deletion: its ingestion, or the purge of an earlier case."""
    wanted = encode(before)
    found = [entry for entry in workspace.log.entries() if entry.payload.get("data") == wanted]
    return next(entry for entry in found if entry.kind in ("data.ingested", "data.purged"))


def _predicate(
    workspace: Workspace, case: OpenCase, accepted: Accepted, purged: Purge, plan_bytes: bytes, findings_bytes: bytes
) -> Predicate:
    plan = decode(Plan, loads(plan_bytes), what="plan.json")
    findings = decode(tuple[Finding, ...], loads(findings_bytes), what="findings.json")
    request = case.request()
    decision = workspace.policy.judge(plan.aims_at, findings)
    if not decision.accepted or decision.guarantee is None:
        raise EvidenceError("the recorded findings do not support a certificate", got="; ".join(decision.reasons))
    source, now = workspace.config.data.source, datetime.now(UTC)
    operator, verifier = workspace.signer("operator"), workspace.signer("verifier")
    received = next(e for e in workspace.log.case(case.handle) if e.kind == "request.received")
    return Predicate(
        case=CaseRef(handle=case.handle, request=received.payload["request"]),
        basis=LegalBasis(ground=request.basis, regime=request.regime, received=request.received, due=request.due),
        models=Models(family=workspace.recipe.family, before=accepted.original.digest, after=accepted.record.digest),
        data_before=workspace.book.data_ref(source, accepted.original.absent),
        data_after=workspace.book.data_ref(source, accepted.record.absent),
        method=MethodRef(
            name=plan.method, origin=plan.method_origin, aims_at=plan.aims_at, params=digest_of(dict(plan.params))
        ),
        plan=PlanRef(digest=digest_of(plan), index=_plan_index(workspace, case, plan)),
        policy=policy_digest(workspace.policy),
        findings=findings,
        decision=decision,
        guarantee=decision.guarantee,
        guarantee_basis=AS_LOGGED,
        custody=custody_of(operator, verifier),
        purged=purged.purged,
        not_covered=NotCovered(**NOT_COVERED, other=purged.not_covered),
        attempts=accepted.attempt,
        numerics=workspace.numerics,
        log=LogRef(origin=workspace.origin, size=workspace.log.size),
        files={},
        issued_at=now,
        expires_at=now + timedelta(days=workspace.config.owner.certificate_days),
        bank=_bank(workspace),
    )


def _plan_index(workspace: Workspace, case: OpenCase, plan: Plan) -> int:
    digest = digest_of(plan)
    return next(e.index for e in workspace.log.case(case.handle) if e.payload.get("plan") == digest)


def _bank(workspace: Workspace) -> BankRef | None:
    banks = workspace.state().banks
    if not banks:
        return None
    day = datetime.combine(datetime.fromisoformat(banks[-1].destroy_by).date(), time(0), UTC)
    return BankRef(n=banks[-1].n, q=workspace.recipe.bank_inclusion, destroy_by=day, digest=banks[-1].digest)


def _absence(workspace: Workspace, accepted: Accepted) -> list[Any]:
    """Per record: its id leaf and its content leaf were ingested and are not retained."""
    before = workspace.book.manifest(accepted.original.absent)
    after = workspace.book.manifest(accepted.record.absent)
    return [proof for slot in accepted.slots for proof in prove_deletion(before, after, slot)]


def write_recompute_package(workspace: Workspace, case: OpenCase, accepted: Accepted) -> None:
    """What a second key holder needs to run the same recipe on the data the certificate names. Not for publication.

    Seed, tombstones, retained ids, and the data key: with it they compute the certificate's data roots from their own
    records. They have the retained data anyway; whoever has a deleted record too can find its leaves with the key.
    """
    package = {
        "recipe": encode(workspace.recipe),
        "seed": accepted.record.seed,
        "absent": list(accepted.record.absent),
        "numerics": encode(workspace.numerics),
        "source": workspace.config.data.source,
        "options": encode(dict(workspace.config.data.options)),
        "ids": list(workspace.book.ids),
        "blocks": list(workspace.book.blocks),
        "key": workspace.key("data").hex(),
    }
    write_file(case.folder / "recompute.json", canonical(package), mode=0o600)


def _view(workspace: Workspace, accepted: Accepted, purged: Purge, draft: Predicate) -> Mapping[str, Any]:
    """What a report shows, as plain JSON."""
    names = [root.name for root in workspace.roots().role("operator", "verifier")]
    checks = {finding.check for finding in draft.findings}
    view = {
        "case": draft.case.handle,
        "custody": custody_line(draft, names),
        "sentence": sentence_of(draft),
        "guarantee": draft.guarantee,
        "guarantee_basis": draft.guarantee_basis,
        "issued_at": draft.issued_at,
        "expires_at": draft.expires_at,
        "attempt": draft.attempts,
        "findings": list(draft.findings),
        "skipped": {
            name: f"the policy does not ask for it under {draft.guarantee.value}"
            for name in registry.names("checks")
            if name not in checks
        },
        "figures": figure_data(workspace),
        "bank_n": draft.bank.n if draft.bank else 0,
        "facts": _facts(workspace, accepted, draft),
        "purged": list(purged.purged),
        "retiring": list(purged.retiring),
        "failed": _failed(accepted),
        "not_covered": [*NOT_COVERED.values(), *purged.not_covered],
        "non_claims": list(NON_CLAIMS),
    }
    return encode(view)  # type: ignore[no-any-return]


def _failed(accepted: Accepted) -> list[str]:
    earlier = accepted.attempt - 1
    if not earlier:
        return []
    return [
        f"{earlier} earlier attempt(s) on these records, each in the log; the tests of this one ran at alpha / 2^{earlier}"
    ]


def _facts(workspace: Workspace, accepted: Accepted, draft: Predicate) -> dict[str, str]:
    return {
        "method": f"{draft.method.name} ({draft.method.origin}), {accepted.seconds:.2f} s, "
        f"{accepted.steps_run} of {accepted.steps_total} steps run",
        "full training": f"{accepted.original.seconds:.2f} s measured",
        "model before": draft.models.before,
        "model after": draft.models.after,
        "records": f"{draft.data_before.present} before, {draft.data_after.present} after, {workspace.data.note}",
        "plan": f"{draft.plan.digest}, log entry {draft.plan.index}, before anything ran",
        "policy": draft.policy,
        "legal basis": f"{draft.basis.ground}, received {encode(draft.basis.received)[:10]}",
        "numerics": ", ".join(f"{key} {value}" for key, value in encode(draft.numerics).items() if value is not None),
        "self-test": draft.selftest or draft.selftest_reason,
    }
