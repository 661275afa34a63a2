"""Step 10 of the walk: statement, signatures, inclusion proofs, bundle; then the case's cleartext is destroyed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.core import registry
from expunge.core.codec import canonical, decode, digest_of, encode, loads, sha256_hex
from expunge.core.errors import EvidenceError
from expunge.core.finding import Finding, Guarantee
from expunge.core.plan import Plan
from expunge.evidence.bundle import CERTIFICATE, OWN, PROVE_THEMSELVES, file_digests, read_bundle, write_bundle
from expunge.evidence.durable import storage_errors, write_file
from expunge.evidence.envelope import payload_of, sign_envelope
from expunge.evidence.keys import custody_of
from expunge.evidence.manifest import prove_deletion, prove_replacement
from expunge.evidence.merkle import ConsistencyProof, InclusionProof
from expunge.evidence.note import open_checkpoint
from expunge.evidence.predicate import (
    AS_LOGGED,
    BankRef,
    CaseRef,
    Erased,
    LegalBasis,
    LogRef,
    MethodRef,
    Models,
    NotCovered,
    PlanRef,
    Predicate,
)
from expunge.evidence.preregistered import check_preregistered
from expunge.evidence.statement import build_statement, parse_statement, statement_digest
from expunge.evidence.verify_steps import REVOKED
from expunge.training.checkpoint import weights_identity
from expunge.workflow.histories import content_leaves, digests_after
from expunge.workflow.intake import destroy_cleartext, received_index, resolve
from expunge.workflow.logged import check_book, ingested
from expunge.workflow.policy import policy_digest
from expunge.workflow.purge import NOT_COVERED, Accepted, Purge
from expunge.workflow.selftest.gate import Vouched, latest
from expunge.workflow.slots import RESTORE
from expunge.workflow.styles.kept import keep_battery
from expunge.workflow.styles.sheet import drop_sheet
from expunge.workflow.view import view

if TYPE_CHECKING:
    from expunge.workflow.intake import OpenCase
    from expunge.workflow.workspace import Workspace

REPORT = "html"
MODEL = "model.safetensors"
STAGING = "staging"
ENVELOPE = "envelope.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """An issued certificate: the bundle, the report beside it, what it says, and how to check it."""

    path: Path
    report: Path
    guarantee: Guarantee
    sentence: str
    check_command: str


def certify(workspace: Workspace, case: OpenCase, accepted: Accepted, purged: Purge) -> Certificate:
    """Issue the certificate of an accepted candidate whose purge is done.

    Everything the bundle needs is on disk before the log says that the certificate was issued, so a crash in between is
    repaired by `close_case`.
    """
    plan_bytes, findings_bytes = _recorded(case, accepted)
    draft = _predicate(workspace, case, accepted, purged, plan_bytes, findings_bytes)
    files = {
        "selftest.json": _selftest(workspace, draft.plan.index).data,
        "plan.json": plan_bytes,
        "findings.json": findings_bytes,
        "absence.json": canonical(encode(_absence(workspace, accepted))),
    }
    files |= registry.load("reports", REPORT)().render(view(workspace, accepted, purged, draft))
    payload = build_statement(replace(draft, files=file_digests(files)))
    envelope = sign_envelope(payload, [workspace.signer("operator"), workspace.signer("verifier")])
    write_recompute_package(workspace, case, accepted)
    keep_battery(workspace.root / accepted.record.run, case.folder)
    _stage(case, {**files, ENVELOPE: canonical(encode(envelope))})
    workspace.log.append("certificate.issued", {"certificate": statement_digest(payload)}, case=case.handle)
    drop_sheet(workspace, accepted.record.run)
    return close_case(workspace, case)


def close_case(workspace: Workspace, case: OpenCase) -> Certificate:
    """Write the bundle of an issued certificate, then destroy the case's cleartext. Safe to run again after a crash."""
    if not case.bundle.exists():
        _write_bundle(workspace, case, _staged(case))
    shutil.rmtree(case.folder / STAGING, ignore_errors=True)
    destroy_cleartext(case)
    bundle = read_bundle(case.bundle)
    statement = parse_statement(payload_of(bundle.json("certificate.json")))
    report = case.folder / "report.html"
    write_file(report, bundle.files["report.html"])
    return Certificate(
        path=case.bundle,
        report=report,
        guarantee=statement.predicate.guarantee,
        sentence=statement.predicate.sentence,
        check_command=f"expunge verify {case.bundle} --trust {workspace.root / 'roots.json'} --policy "
        f"{workspace.root / 'policy.yaml'} --against {case.receipt}",
    )


def revoke(workspace: Workspace, case: OpenCase) -> None:
    """Log that an issued certificate holds no more, and write that into the owner's bundle, which then verifies no more. Copies
    that were handed out do not know. Safe to run again."""
    own = workspace.log.case(case.handle)
    issued = [entry for entry in own if entry.kind == "certificate.issued"]
    if not issued:
        raise EvidenceError("the case has no certificate", got=case.handle)
    if not any(entry.kind == REVOKED for entry in own):
        workspace.log.append(REVOKED, {"certificate": issued[-1].payload["certificate"]}, case=case.handle)
    bundle = read_bundle(case.bundle)
    files = {name: data for name, data in bundle.files.items() if name not in PROVE_THEMSELVES | OWN}
    _write_bundle(workspace, case, {**files, ENVELOPE: bundle.files[CERTIFICATE]})


def check_ready(workspace: Workspace, case: OpenCase, accepted: Accepted) -> None:
    """Everything a certificate will rest on, checked before anything is destroyed. Raises EvidenceError or InputError.

    Files on disk can change between decision and purge; the log cannot. So plan, findings, weights, policy and slots
    must still be those of the log.
    """
    plan_bytes, findings_bytes = _recorded(case, accepted)
    entries = workspace.log.case(case.handle)
    logged = {entry.kind: entry.payload for entry in entries}
    plan = decode(Plan, loads(plan_bytes), what="plan.json")
    resolution = resolve(workspace, case)
    for what, expected, found in (
        ("plan", logged["plan.committed"]["plan"], "sha256:" + sha256_hex(plan_bytes)),
        ("findings", logged["findings.recorded"]["findings"], "sha256:" + sha256_hex(findings_bytes)),
        ("policy", plan.policy, policy_digest(workspace.policy)),
        ("candidate", logged["candidate.executed"]["model"], accepted.record.digest),
        ("candidate's weights", accepted.record.digest, weights_identity(workspace.root / accepted.record.run / MODEL)),
        ("original", plan.model.digest, accepted.original.digest),
        ("served model", workspace.state().model, accepted.original.digest),
        ("split", logged["request.resolved"]["split"], accepted.split),
        ("records", resolution.slots, accepted.slots),
        ("split of the records", resolution.commitment, accepted.split),
        ("events", resolution.cut, accepted.cut),
    ):
        if expected != found:
            raise EvidenceError(
                f"{what} changed after the decision; nothing was destroyed",
                expected=str(expected)[:90],
                got=str(found)[:90],
            )
    check_preregistered(plan, decode(tuple[Finding, ...], loads(findings_bytes), what="findings.json"))
    check_book(workspace)
    check_before(workspace, case, accepted)
    _absence(workspace, accepted, _contents_after(workspace, accepted))
    _selftest(workspace, _plan_index(workspace, case, plan))


def check_before(workspace: Workspace, case: OpenCase, accepted: Accepted) -> None:
    """The slot book, with or without the records, follows from the data that was logged last. Also after a crash."""
    book, absent = workspace.book, (accepted.original.absent, accepted.record.absent)
    if book.tombstones not in map(frozenset, absent):
        raise EvidenceError("the slot book is neither the one before the deletion nor the one after", hint=RESTORE)
    ingested(
        workspace, book.data_ref(workspace.config.data.source, accepted.original.absent, accepted.before), case.handle
    )


def _recorded(case: OpenCase, accepted: Accepted) -> tuple[bytes, bytes]:
    plan, findings = (case.folder / f"{name}-{accepted.attempt}.json" for name in ("plan", "findings"))
    with storage_errors(case.folder, "read plan and findings in"):
        return plan.read_bytes(), findings.read_bytes()


def _stage(case: OpenCase, files: Mapping[str, bytes]) -> None:
    folder = case.folder / STAGING
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_file(folder / name, data)


def _staged(case: OpenCase) -> dict[str, bytes]:
    folder = case.folder / STAGING
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def _write_bundle(workspace: Workspace, case: OpenCase, staged: dict[str, bytes]) -> None:
    """Bundle of the staged files with inclusion proofs at the current size of the log."""
    if ENVELOPE not in staged:
        raise EvidenceError(
            "the certificate was issued but its signed statement is gone", hint="restore the case folder"
        )
    envelope = loads(staged.pop(ENVELOPE), what="envelope")
    predicate = parse_statement(payload_of(envelope)).predicate
    checkpoint, size = workspace.log.checkpoint(), workspace.log.size
    vouching = [entry for entry in workspace.log.entries() if entry.payload.get("report") == predicate.selftest]
    entries = [ingested(workspace, predicate.data_before, case.handle), *vouching[:1], *workspace.log.case(case.handle)]
    proofs: list[InclusionProof | ConsistencyProof] = [
        workspace.log.prove_inclusion(entry.index, size) for entry in entries
    ]
    proofs.append(workspace.log.prove_consistency(_size_at_intake(workspace, case), size))
    write_bundle(case.bundle, envelope=envelope, entries=entries, proofs=proofs, checkpoint=checkpoint, files=staged)


def _size_at_intake(workspace: Workspace, case: OpenCase) -> int:
    """Size of the log in the requester's receipt; the receipt was signed right after its entry if our copy is gone."""
    if not case.receipt.exists():
        return received_index(workspace, case) + 1
    receipt = loads(case.receipt.read_bytes(), what="receipt")
    return open_checkpoint(receipt["checkpoint"], workspace.roots()).size


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
        erased=_erased(accepted),
        data_before=workspace.book.data_ref(source, accepted.original.absent, accepted.before),
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
        selftest=_selftest(workspace, _plan_index(workspace, case, plan)).digest,
        selftest_reason="",
        bank=_bank(workspace),
    )


def _selftest(workspace: Workspace, plan_index: int) -> Vouched:
    """The self-test that was the newest when the plan was committed."""
    found = latest(workspace, before=plan_index)
    if found is None:
        raise EvidenceError(
            "no self-test is older than the plan", hint="expunge selftest WORKSPACE, then a new request"
        )
    return found


def _plan_index(workspace: Workspace, case: OpenCase, plan: Plan) -> int:
    digest = digest_of(plan)
    return next(e.index for e in workspace.log.case(case.handle) if e.payload.get("plan") == digest)


def _bank(workspace: Workspace) -> BankRef | None:
    banks = workspace.state().banks
    if not banks:
        return None
    day = datetime.combine(datetime.fromisoformat(banks[-1].destroy_by).date(), time(0), UTC)
    inclusion = getattr(workspace.recipe, "bank_inclusion", 0.5)
    return BankRef(n=banks[-1].n, q=inclusion, destroy_by=day, digest=banks[-1].digest)


def _absence(workspace: Workspace, accepted: Accepted, after: Mapping[int, str] | None = None) -> list[Any]:
    """Per record: its id leaf and its content leaf were ingested and are not retained. Per history that became shorter: its
    content leaf is another one. `after`: content leaves of the slot book as it will be, before it is written."""
    ingested = workspace.book.manifest(accepted.original.absent, accepted.before)
    retained = workspace.book.manifest(accepted.record.absent, after)
    if accepted.cut is not None:
        return [prove_replacement(ingested, retained, slot) for slot in accepted.slots]
    return [proof for slot in accepted.slots for proof in prove_deletion(ingested, retained, slot)]


def _contents_after(workspace: Workspace, accepted: Accepted) -> dict[int, str]:
    if accepted.cut is None:
        return {}
    return content_leaves(workspace, digests_after(workspace, accepted.cut))


def _erased(accepted: Accepted) -> Erased:
    if accepted.cut is None:
        return Erased()
    return Erased(unit=accepted.cut.unit, count=accepted.cut.count, histories=len(accepted.slots))


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
        "items": None if workspace.vocabulary is None else list(workspace.vocabulary),
        "cuts": workspace.book.cuts.to_json(),
    }
    write_file(case.folder / "recompute.json", canonical(package), mode=0o600)
