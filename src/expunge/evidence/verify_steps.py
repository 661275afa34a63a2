"""The single checks behind verify.py. Each returns quietly or raises EvidenceError with what was expected and found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeVar

from expunge.core.case import Case, State
from expunge.core.codec import Json, canonical, decode, digest_of, encode, sha256_hex
from expunge.core.errors import EvidenceError, InputError, OutOfOrder
from expunge.core.finding import Guarantee, Verdict
from expunge.core.plan import Plan
from expunge.core.policy import Demand, Policy
from expunge.core.refs import DataRef
from expunge.core.request import EventSelector
from expunge.core.selftest import SelftestReport, Subject
from expunge.evidence.absence import DeletionProof, root_bytes, verify_deletion
from expunge.evidence.bundle import PROVE_THEMSELVES, SELFTEST, Bundle, LogExtract
from expunge.evidence.commitment import Opening, check_opening
from expunge.evidence.envelope import Opened
from expunge.evidence.manifest import RecordOpening
from expunge.evidence.manifest import check_opening as check_record
from expunge.evidence.merkle import ConsistencyProof, InclusionProof, unhex
from expunge.evidence.note import Checkpoint
from expunge.evidence.predicate import Erased, Predicate
from expunge.evidence.preregistered import JUDGED
from expunge.evidence.sentence import SELF_ISSUED, custody_line, sentence_of
from expunge.evidence.statement import Statement

T = TypeVar("T")
DATA_KINDS = ("data.ingested", "data.purged")
MODEL_KINDS = ("model.trained", "model.adopted", "model.released")
"""What puts a model into service."""
TESTED = "selftest.recorded"
REVOKED = "certificate.revoked"
RELEASED = "model.released"
_NEEDED = ("request.received", "plan.committed", "findings.recorded", "decision.made", "data.purged")
# Limits of the plan against those of the relying party's policy: at most, at least.
LEVELLED, LEVELLED_ERROR = frozenset({"collateral", "style"}), 0.05
"""Checks whose one-sided limits share this error over all attempts (VERDICTS section 4)."""
_AT_MOST = ("alpha", "margin", "absolute_margin", "accuracy_margin", "class_margin", "ranking_margin", "max_attempts")
_AT_LEAST = ("power", "signals")


def have(found: T | None) -> T:
    """What an earlier step left; the order of steps makes sure it is there."""
    if found is None:
        raise OutOfOrder("a verification step ran before the one it needs")
    return found


def text(bundle: Bundle, name: str) -> str:
    """A file as UTF-8 text."""
    try:
        return bundle.files[name].decode("utf-8")
    except UnicodeDecodeError as error:
        raise EvidenceError(f"{name} is not text") from error


def require(what: str, expected: object, got: object) -> None:
    """Equality with a message."""
    if expected != got:
        raise EvidenceError(f"{what} does not agree", expected=str(expected)[:160], got=str(got)[:160])


def check_log(checkpoint: Checkpoint, predicate: Predicate) -> None:
    """The checkpoint is of the log the statement names, and younger than the statement."""
    require("log of the checkpoint", predicate.log.origin, checkpoint.origin)
    if checkpoint.size <= predicate.log.size:
        raise EvidenceError(
            "the checkpoint is older than the certificate",
            expected=f"a size above {predicate.log.size}",
            got=str(checkpoint.size),
        )


def check_inclusion(extract: LogExtract, checkpoint: Checkpoint) -> None:
    """Every entry of the extract is in the tree the checkpoint promises, and every older tree it names is a prefix."""
    require("log of the entries", checkpoint.origin, extract.origin)
    require("tree size of the entries", checkpoint.size, extract.size)
    for entry in extract.entries:
        proof = InclusionProof(index=entry.index, size=extract.size, path=entry.path)
        proof.verify(entry.entry().leaf, checkpoint.root)
    for link in extract.consistency:
        require("tree size of a consistency proof", checkpoint.size, link.new)
        link.verify(unhex([link.root])[0], checkpoint.root)


def check_files(bundle: Bundle, predicate: Predicate) -> None:
    """Every file is the one that was signed for, and none is there that was not."""
    found = {name: "sha256:" + sha256_hex(data) for name, data in bundle.files.items() if name not in PROVE_THEMSELVES}
    for name in sorted(found.keys() | predicate.files.keys()):
        require(f"file {name}", predicate.files.get(name, "not signed for"), found.get(name, "missing"))
    findings = canonical(encode(list(predicate.findings)))
    require("findings.json", sha256_hex(findings), sha256_hex(bundle.files["findings.json"]))


def plan_of(bundle: Bundle) -> Plan:
    """plan.json as the noun. Raises InputProblems."""
    return decode(Plan, bundle.json("plan.json"), what="plan.json")


def check_plan(bundle: Bundle, predicate: Predicate) -> None:
    """The plan is the one the statement names, and the statement says of it what it says."""
    plan = plan_of(bundle)
    require("plan digest", predicate.plan.digest, digest_of(plan))
    require("plan file", predicate.plan.digest, predicate.files.get("plan.json"))
    for what, stated, planned in (
        ("model before", predicate.models.before, plan.model.digest),
        ("model family", predicate.models.family, plan.model.family),
        ("method", predicate.method.name, plan.method),
        ("method origin", predicate.method.origin, plan.method_origin),
        ("method's aim", predicate.method.aims_at, plan.aims_at),
        ("method parameters", predicate.method.params, digest_of(dict(plan.params))),
        ("policy", predicate.policy, plan.policy),
        ("numerics", predicate.numerics, plan.numerics),
        ("attempts", predicate.attempts, plan.attempt),
    ):
        require(what, stated, planned)
    if predicate.guarantee.rank < plan.aims_at.rank:
        raise EvidenceError("more is granted than the plan aimed at", expected=plan.aims_at.value)


def check_order(extract: LogExtract, statement: Statement) -> Case:
    """The case, folded from its entries by index, ends certified with exactly this plan, model, findings and statement."""
    predicate = statement.predicate
    own = [(entry.index, entry.body) for entry in extract.entries if entry.body["case"] == predicate.case.handle]
    _no_strangers(extract, predicate.case.handle)
    try:
        case = Case.fold(predicate.case.handle, own)
    except (OutOfOrder, KeyError) as error:
        raise EvidenceError("the entries of the case are out of order", got=str(error)[:200], code="order") from error
    require("end of the case", State.CERTIFIED.value, case.state.value)
    require("acceptance in the log", True, case.accepted)
    require("certificate in the log", statement.digest, case.certificate)
    require("candidate model in the log", predicate.models.after, case.candidate)
    require("plan in the log", predicate.plan.digest, case.plan)
    if predicate.attempts < case.attempts:
        raise EvidenceError(
            "the log shows more attempts than stated", expected=str(case.attempts), got=str(predicate.attempts)
        )
    _check_payloads(own, predicate)
    _check_released(extract, predicate)
    return case


def _no_strangers(extract: LogExtract, handle: str) -> None:
    for entry in extract.entries:
        foreign = entry.body["case"] not in (None, handle) and entry.body["kind"] not in DATA_KINDS
        if foreign:
            raise EvidenceError(f"log entry {entry.index} is of another case", got=str(entry.body["case"])[:80])
        if entry.body["kind"] == REVOKED:
            raise EvidenceError(f"the certificate was revoked at index {entry.index}")


def _check_payloads(own: Sequence[tuple[int, Mapping[str, Any]]], predicate: Predicate) -> None:
    last = {str(body["kind"]): (index, body["payload"]) for index, body in own}
    absent = [kind for kind in _NEEDED if kind not in last]
    if absent:
        raise EvidenceError("entries of the case are missing", got=", ".join(absent), code="order")
    require("index of the plan", predicate.plan.index, last["plan.committed"][0])
    for kind, key, stated in (
        ("request.received", "request", predicate.case.request),
        ("findings.recorded", "findings", digest_of(list(predicate.findings))),
        ("decision.made", "accepted", True),
        ("decision.made", "guarantee", predicate.guarantee.value),
    ):
        require(f"{key} of {kind}", stated, last[kind][1].get(key))
    retained = last["data.purged"][1].get("data")
    require("retained data in the log", roots_of(predicate.data_after), logged_roots(retained))


def _check_released(extract: LogExtract, predicate: Predicate) -> None:
    """The accepted model went into service in place of the model before, once, and no other one followed it."""
    before, after, handle = predicate.models.before, predicate.models.after, predicate.case.handle
    kinds = [(entry.index, entry.body["kind"]) for entry in extract.entries if entry.body["case"] == handle]
    decided = max(index for index, kind in kinds if kind == "decision.made")
    issued = max(index for index, kind in kinds if kind == "certificate.issued")
    released = [entry for entry in extract.entries if entry.body["kind"] == RELEASED]
    own = [entry for entry in released if entry.body["case"] == handle and entry.index < issued]
    if len(own) != 1 or own[0].index < decided:
        raise EvidenceError(
            "the certified model was not put in service",
            expected=f"one {RELEASED} of the case between decision.made and certificate.issued",
            got=f"at {', '.join(str(entry.index) for entry in own) or 'no index'}",
            code="order",
        )
    require("model put in service", after, own[0].body["payload"].get("model"))
    require("model taken out of service", before, own[0].body["payload"].get("replaces"))
    for entry in released:
        if entry.index > own[0].index:
            require(f"model in service since index {entry.index}", after, entry.body["payload"].get("model"))


def check_ingested(extract: LogExtract, predicate: Predicate) -> int:
    """Index of the entry, older than the plan, that logged the data before. Roots made up later prove nothing."""
    planned = [e.index for e in extract.entries if e.body["kind"] == "plan.committed"]
    wanted = roots_of(predicate.data_before)
    for entry in extract.entries:
        older = planned and entry.index < planned[-1]
        if older and entry.body["kind"] in DATA_KINDS and logged_roots(entry.body["payload"].get("data")) == wanted:
            return entry.index
    raise EvidenceError(
        "the data before was not logged before the plan",
        expected=f"data.ingested or data.purged with root {predicate.data_before.root}",
        code="order",
    )


def roots_of(data: DataRef) -> tuple[object, ...]:
    """What identifies a state of the data in the log."""
    return (data.root, data.content_root, data.slots, data.present)


def logged_roots(plain: object) -> tuple[object, ...]:
    fields = plain if isinstance(plain, Mapping) else {}
    return tuple(fields.get(name) for name in ("root", "content_root", "slots", "present"))


def check_absence(proofs: Sequence[DeletionProof], predicate: Predicate) -> int:
    """As many records are proven gone, by id and by content, as the counts say are gone. Returns that number.

    Contents may repeat, so two records may have one content leaf; but each then stands at its own place among those
    that were ingested. One proof shown twice is one record.
    """
    if predicate.erased.unit != "records":
        return _check_shortened(proofs, predicate)
    before, after = predicate.data_before, predicate.data_after
    gone = before.present - after.present
    require("records that were replaced", 0, sum(proof.became is not None for proof in proofs))
    ids = [proof for proof in proofs if proof.kind == "id"]
    contents = [proof for proof in proofs if proof.kind == "content"]
    require("number of id proofs", gone, len({proof.leaf for proof in ids}))
    require("number of content proofs", gone, len({(proof.leaf, proof.ingested.index) for proof in contents}))
    require("number of proofs", 2 * gone, len(proofs))
    for proof in ids:
        verify_deletion(proof, ingested=(before.root, before.present), retained=(after.root, after.present))
    for proof in contents:
        verify_deletion(
            proof, ingested=(before.content_root, before.present), retained=(after.content_root, after.present)
        )
    return gone


def _check_shortened(proofs: Sequence[DeletionProof], predicate: Predicate) -> int:
    """Events went: every history that is said to be shorter has another content leaf, at a place of its own, and the ids
    are all there: nobody was taken out along the way."""
    before, after, count = predicate.data_before, predicate.data_after, predicate.erased.histories
    for what in ("root", "present", "slots"):
        require(f"ids of the retained data ({what})", getattr(before, what), getattr(after, what))
    new = {(proof.became.leaf, proof.became.proof.index) for proof in proofs if proof.became is not None}
    require("number of shorter histories", count, len(proofs))
    require("number of old contents", count, len({(proof.leaf, proof.ingested.index) for proof in proofs}))
    require("number of new contents", count, len(new))
    for proof in proofs:
        require("kind of a proof", "content", proof.kind)
        verify_deletion(
            proof, ingested=(before.content_root, before.present), retained=(after.content_root, after.present)
        )
    return count


def check_policy(policy: Policy, predicate: Predicate, plan: Plan) -> None:
    """The relying party's own judgement of the same findings, under limits at least as strict as its own."""
    decision = policy.judge(predicate.guarantee, predicate.findings)
    if not decision.accepted:
        raise EvidenceError(
            "your policy does not accept the findings", got="; ".join(decision.reasons)[:300], code="policy"
        )
    if predicate.method.origin != "expunge" and predicate.guarantee is not Guarantee.EMPIRICAL:
        raise EvidenceError(
            "an outside method is capped at EMPIRICAL", got=predicate.method.origin[:120], code="policy"
        )
    if predicate.attempts > policy.limits.max_attempts:
        raise EvidenceError("more attempts than you allow", got=str(predicate.attempts), code="policy")
    demanded = {check for check, demand in policy.rules(predicate.guarantee).items() if demand is not Demand.REPORT}
    _check_planned(demanded, plan)
    _check_levels(demanded, predicate)
    looser = [
        f"{spec.check}.{name} = {spec.limits[name]}, yours {getattr(policy.limits, name)}"
        for spec in plan.checks
        if spec.check in demanded
        for name in (*_AT_MOST, *_AT_LEAST)
        if _looser(name, spec.limits[name], getattr(policy.limits, name))
    ]
    looser += [
        f"{spec.check} without {', '.join(missing)}"
        for spec in plan.checks
        if spec.check in demanded
        and spec.check in JUDGED
        and (missing := sorted(set(policy.attacks) - {*spec.signals}))
    ]
    if looser:
        raise EvidenceError("the checks ran under looser limits than yours", got="; ".join(looser[:6]), code="policy")


def _check_levels(demanded: Set[str], predicate: Predicate) -> None:
    """What passed with limits of its own was judged at the level that its attempt may spend, 1 - .05 * 2^-attempts; where it is
    of several artists, each at an equal share of that error."""
    for finding in predicate.findings:
        said = finding.details.get("level_pass", "not said")
        if finding.check not in LEVELLED & demanded or finding.verdict is not Verdict.PASS:
            continue
        artists = {row.name.partition(":")[0] for row in finding.conditions if row.name.startswith("artist ")}
        claimed = finding.details.get("artists", "1")
        many = max(1, len(artists), int(claimed) if claimed.isdecimal() and len(claimed) < 10 else 1)
        needed = 1 - LEVELLED_ERROR * 2.0**-predicate.attempts / many
        if not needed - 1e-9 <= _share(said) <= 1:
            raise EvidenceError(
                f"{finding.check} passed at a kinder level than attempt {predicate.attempts} may have",
                expected=f"{needed:g}",
                got=said[:80],
                code="policy",
            )


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def _check_planned(demanded: Set[str], plan: Plan) -> None:
    """Every check you demand was planned, with every limit written down: a limit that is absent bounds nothing."""
    missing = [f"{check}: not planned" for check in sorted(demanded - {spec.check for spec in plan.checks})]
    for spec in plan.checks:
        if spec.check in demanded:
            missing += [f"{spec.check}.{name}: no limit" for name in (*_AT_MOST, *_AT_LEAST) if name not in spec.limits]
    if missing:
        raise EvidenceError(
            "soft policy: the plan does not bind what you demand", got="; ".join(missing[:6]), code="policy"
        )


def _looser(name: str, planned: str, mine: float) -> bool:
    try:
        number = float(planned)
    except ValueError as error:
        raise EvidenceError(f"limit {name} of the plan is no number", got=planned[:40]) from error
    allowed = number <= mine if name in _AT_MOST else number >= mine
    return not allowed


def check_selftest(
    bundle: Bundle, extract: LogExtract, predicate: Predicate, policy: Policy, plan: Plan
) -> SelftestReport:
    """The cited self-test is the one in the bundle, was logged before the plan, and is good enough for your policy."""
    if predicate.selftest is None:
        raise EvidenceError("no self-test vouches for this certificate", got=predicate.selftest_reason, code="policy")
    require("file of the self-test", predicate.selftest, predicate.files.get(SELFTEST, "not in the bundle"))
    logged = [e.index for e in extract.entries if e.body["kind"] == TESTED and _report_of(e.body) == predicate.selftest]
    if not logged or logged[0] > predicate.plan.index:
        raise EvidenceError("the self-test was not logged before the plan", code="order")
    report = decode(SelftestReport, bundle.json(SELFTEST), what=SELFTEST)
    bank = None if predicate.bank is None else predicate.bank.digest
    asked = plan.params.get("asked", "")
    subject = Subject(policy=predicate.policy, bank=bank, expunge=report.expunge, kind=policy.kind, asked=asked)
    problems = policy.selftest.problems(report, predicate.issued_at, subject, predicate.guarantee)
    if problems:
        raise EvidenceError("the self-test does not vouch for it", got="; ".join(problems)[:300], code="policy")
    return report


def _report_of(body: Mapping[str, Any]) -> object:
    return body["payload"].get("report")


def check_sentence(predicate: Predicate, opened: Opened) -> None:
    """Generated, not written; and a recomputation counts only if a separate verifier who signs here did it."""
    try:
        earned = sentence_of(predicate)
    except InputError as error:
        raise EvidenceError("no sentence follows from these findings", got=error.message) from error
    require("sentence", earned, predicate.sentence)
    if predicate.recomputed is None:
        return
    verifiers = {root.keyid: root.name for root in opened.role("verifier")}
    require("name of who recomputed", verifiers.get(predicate.recomputed.keyid, "no signer"), predicate.recomputed.name)
    if custody_line(predicate, [root.name for root in opened.signers]) == SELF_ISSUED:
        raise EvidenceError("recomputation by a key in the same custody is not one by a second holder")


def check_extends(kept: Checkpoint, offered: Checkpoint, proofs: Sequence[ConsistencyProof]) -> None:
    """One of the two trees is a prefix of the other. Equal sizes need equal roots; an empty old log promises nothing."""
    require("log of the checkpoint you kept", kept.origin, offered.origin)
    old, new = sorted((kept, offered), key=lambda item: item.size)
    if old.size == new.size or old.size == 0:
        if old.size == new.size:
            require("FORK: root of the log at one size", kept.root.hex(), offered.root.hex())
        return
    for proof in proofs:
        if (proof.old, proof.new) == (old.size, new.size):
            proof.verify(old.root, new.root)
            return
    raise EvidenceError(
        "nothing shows that the log still extends the checkpoint you kept",
        expected=f"a consistency proof from size {old.size} to {new.size}",
        hint="ask the log's owner for `expunge log prove`; without it, suppose a fork or rollback",
        code="consistency",
    )


def check_expected(
    predicate: Predicate,
    model: str | None,
    opening: Opening | None,
    records: Sequence[RecordOpening],
    proofs: Sequence[DeletionProof],
    remains: Sequence[RecordOpening] = (),
) -> None:
    """The certificate is of this model, this request and these records; `remains` are openings of what is left of them."""
    absent = {proof.leaf for proof in proofs}
    if model is not None:
        require("model at hand", root_bytes(predicate.models.after).hex(), root_bytes(model).hex())
    if opening is not None:
        wanted = _events_of(check_opening(predicate.case.request, opening))
        require("what was asked for", "records" if wanted is None else wanted.unit, predicate.erased.unit)
        if wanted is not None:
            _check_amount(predicate.erased, wanted)
            _check_told(wanted, records, remains)
    for record in records:
        check_record(record)
        whole = predicate.erased.unit == "records"
        if (whole and record.id_leaf not in absent) or record.content_leaf not in absent:
            raise EvidenceError("one of your records is not among those proven absent", got=f"slot {record.slot}")
    _check_remains(proofs, records, remains)


def _events_of(plain: Json) -> EventSelector | None:
    """What an opened request asks to delete. One from before there were events asks for records: None."""
    if not isinstance(plain, Mapping) or plain.get("events") is None:
        return None
    return decode(EventSelector, plain["events"], what="opened request")


def _check_amount(erased: Erased, wanted: EventSelector) -> None:
    """As many histories and events went as were asked for: one more is somebody else's, or more of one's own."""
    users, items = len(wanted.users), len(wanted.items)
    if wanted.unit != "item":
        require("histories that were asked for", users, erased.histories)
    if wanted.unit != "window":
        require(f"{wanted.unit}s that were asked for", users * items if users else items, erased.count)


def _check_told(wanted: EventSelector, records: Sequence[RecordOpening], remains: Sequence[RecordOpening]) -> None:
    """Users can see what went of theirs only if the receipt opens their histories as they were, and what is left of each."""
    if wanted.unit == "item":
        return
    slots = sorted(record.slot for record in records)
    if len(set(slots)) != len(wanted.users) or sorted(left.slot for left in remains) != slots:
        raise EvidenceError(
            "the receipt does not open every history of the request and what is left of it",
            expected=f"{len(wanted.users)} records and what remains of each",
            got=f"{len(records)} and {len(remains)}",
            hint="ask for a new receipt: without it nobody can see whether too much or too little went",
        )


def _check_remains(
    proofs: Sequence[DeletionProof], records: Sequence[RecordOpening], remains: Sequence[RecordOpening]
) -> None:
    """The history that is left is the one that the requester was told of, and stands in the old one's stead."""
    became = {proof.leaf: proof.became.leaf for proof in proofs if proof.became is not None}
    old = {record.slot: record.content_leaf for record in records}
    for left in remains:
        check_record(left)
        if became.get(old.get(left.slot, "")) != left.content_leaf:
            raise EvidenceError(
                "what is left of one of your records is not what your receipt says",
                got=f"slot {left.slot}",
                hint="ask for a new receipt if another deletion came in between; otherwise too much or too little went",
            )
