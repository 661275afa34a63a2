"""What a relying party does with a bundle, in this order, with its own keys, policy, receipt and clock.

     1 the bundle is read safely
     2 operator and verifier signed the certificate, with keys from your roots
     3 the statement is of a version this verifier knows
     4 the checkpoint is signed by a log key from your roots
     5 every entry of the case is in the log at that checkpoint
     6 the entries come in order, by index, and say what the statement says
     7 the records were ingested and are absent from the retained data
     8 your policy accepts the findings and the self-test behind them
     9 the sentence is the one these findings and this basis earn
    10 the certificate has not expired
    11 the log still extends the checkpoint you kept
    12 it answers your request, names your records and the model at hand

A failed step is a result, not an exception: the caller turns `ok` into exit code 5. Steps 11 and 12 are skipped, and say
so, when you bring nothing to compare with; every other skipped step is a failure. What no bundle can show: that the log
held no further entries of the case (a full `log verify` by an auditor does), nor that an owner did not forge it all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from expunge.core.codec import Json
from expunge.core.errors import EvidenceError, ExpungeError
from expunge.core.finding import Guarantee
from expunge.core.policy import Policy
from expunge.core.selftest import SelftestReport
from expunge.evidence import verify_steps as steps
from expunge.evidence.bundle import Bundle, LogExtract, read_bundle
from expunge.evidence.commitment import Opening
from expunge.evidence.envelope import Opened, verify_envelope
from expunge.evidence.keys import TrustRoots
from expunge.evidence.manifest import RecordOpening
from expunge.evidence.merkle import ConsistencyProof
from expunge.evidence.note import Checkpoint, open_checkpoint
from expunge.evidence.preregistered import check_preregistered
from expunge.evidence.recompute import Cosigned, verify_recompute
from expunge.evidence.sentence import SELF_ISSUED, custody_line, generate
from expunge.evidence.statement import Statement, parse_statement

STEPS = (
    "the bundle is read safely",
    "operator and verifier signed the certificate, with keys from your roots",
    "the statement is of a version this verifier knows",
    "the checkpoint is signed by a log key from your roots",
    "every entry of the case is in the log at that checkpoint",
    "the entries come in order, by index, and say what the statement says",
    "the records were ingested and are absent from the retained data",
    "your policy accepts the findings and the self-test behind them",
    "the sentence is the one these findings and this basis earn",
    "the certificate has not expired",
    "the log still extends the checkpoint you kept",
    "it answers your request, names your records and the model at hand",
)
OPTIONAL = frozenset({11, 12})
CLOCK_SKEW = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What you hold yourself. `consistency` is a proof from the log's owner when the bundle brings none for your receipt.

    `model` is the tensor root of the file at hand; `opening`, `records`, `remains` (of histories that become shorter,
    what is left) and `style` (of the handle of a style in the log) come from the receipt given at intake.
    """

    model: str | None = None
    opening: Opening | None = None
    records: tuple[RecordOpening, ...] = ()
    consistency: ConsistencyProof | None = None
    remains: tuple[RecordOpening, ...] = ()
    style: Opening | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One numbered step and how it came out; `reason` says what was found, or why it failed or was skipped."""

    number: int
    name: str
    status: Literal["ok", "failed", "skipped"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The answer. `sentence` is what may be quoted, and is None unless everything holds."""

    steps: tuple[Step, ...]
    sentence: str | None
    custody: str | None
    basis: str | None
    guarantee: Guarantee | None
    case: str | None
    model: str | None
    certificate: str | None
    selftest: SelftestReport | None = None

    @property
    def ok(self) -> bool:
        """Every step that must hold holds."""
        return all(step.status == "ok" or (step.status == "skipped" and step.number in OPTIONAL) for step in self.steps)

    def lines(self) -> list[str]:
        """For a terminal: custody first when self-issued, then the verdict, the sentence and the steps."""
        first = [self.custody] if self.custody == SELF_ISSUED else []
        verdict = ["VERIFIED" if self.ok else "NOT VERIFIED"]
        said = [self.sentence] if self.sentence else []
        last = [self.custody] if self.custody and not first else []
        rows = [f"{step.number:2} {step.status:7} {step.name}: {step.reason}" for step in self.steps]
        return [*first, *verdict, *said, *last, *rows]


@dataclass(slots=True, kw_only=True)
class _Run:
    """What the steps found so far."""

    source: Path | str | bytes
    roots: TrustRoots
    policy: Policy | None
    against: str | None
    now: datetime
    cosignature: Mapping[str, Json] | None
    expect: Expectation
    steps: list[Step] = field(default_factory=list)
    bundle: Bundle | None = None
    opened: Opened | None = None
    statement: Statement | None = None
    checkpoint: Checkpoint | None = None
    extract: LogExtract | None = None
    cosigned: Cosigned | None = None
    selftest: SelftestReport | None = None


class _Skip(Exception):
    """The step has nothing to compare with."""


def verify_bundle(
    bundle: Path | str | bytes,
    *,
    roots: TrustRoots,
    policy: Policy | None,
    against: str | None = None,
    now: datetime | None = None,
    cosignature: Mapping[str, Json] | None = None,
    expect: Expectation | None = None,
) -> Verification:
    """Check a bundle with your own roots and policy; neither may be empty. Raises nothing for a bad bundle.

    `against` is the checkpoint note you were given at intake. `cosignature` is a recompute envelope (evidence/recompute).
    """
    run = _Run(
        source=bundle,
        roots=roots,
        policy=policy,
        against=against,
        now=now or datetime.now(UTC),
        cosignature=cosignature,
        expect=expect or Expectation(),
    )
    for number, (check, needs) in enumerate(_CHECKS, start=1):
        run.steps.append(_step(run, number, check, needs))
    return _answer(run)


def _step(run: _Run, number: int, check: Callable[[_Run], str], needs: tuple[int, ...]) -> Step:
    name = STEPS[number - 1]
    broken = [need for need in needs if run.steps[need - 1].status != "ok"]
    if broken:
        return Step(number=number, name=name, status="skipped", reason=f"step {broken[0]} did not hold")
    try:
        return Step(number=number, name=name, status="ok", reason=check(run))
    except _Skip as skip:
        return Step(number=number, name=name, status="skipped", reason=str(skip))
    except ExpungeError as error:
        shown = " ".join(line.strip() for line in error.lines()[:3])
        return Step(number=number, name=name, status="failed", reason=shown)


def _answer(run: _Run) -> Verification:
    known = run.statement.predicate if run.statement is not None else None
    custody = None
    if known is not None and run.opened is not None:
        custody = custody_line(known, [root.name for root in run.opened.signers])
    draft = Verification(
        steps=tuple(run.steps),
        sentence=None,
        custody=custody,
        basis=_basis(run),
        guarantee=known.guarantee if known else None,
        case=known.case.handle if known else None,
        model=run.statement.model if run.statement else None,
        certificate=run.statement.digest if run.statement else None,
        selftest=run.selftest,
    )
    if not draft.ok or known is None:
        return draft
    by = run.cosigned.name if run.cosigned else known.recomputed.name if known.recomputed else None
    fields = {name: getattr(draft, name) for name in draft.__dataclass_fields__}
    return Verification(**{**fields, "sentence": generate(known, recomputed_by=by)})


def _basis(run: _Run) -> str | None:
    if run.statement is None:
        return None
    return f"recomputed by {run.cosigned.name}" if run.cosigned else run.statement.predicate.guarantee_basis


# --------------------------------------------------------------------------------------------------------- the steps


def _read(run: _Run) -> str:
    run.bundle = read_bundle(run.source)
    return f"{len(run.bundle.files)} files"


def _signed(run: _Run) -> str:
    envelope = steps.have(run.bundle).json("certificate.json")
    run.opened = verify_envelope(envelope, run.roots)
    return ", ".join(f"{root.name} ({root.role})" for root in run.opened.signers)


def _parsed(run: _Run) -> str:
    run.statement = parse_statement(steps.have(run.opened).payload)
    return f"deletion certificate v{run.statement.predicate.version} {run.statement.digest}"


def _promised(run: _Run) -> str:
    logs = run.roots.require("log")
    run.checkpoint = open_checkpoint(steps.text(steps.have(run.bundle), "checkpoint.txt"), logs)
    steps.check_log(run.checkpoint, steps.have(run.statement).predicate)
    return f"{run.checkpoint.origin} at size {run.checkpoint.size}"


def _included(run: _Run) -> str:
    run.extract = steps.have(run.bundle).log()
    steps.check_inclusion(run.extract, steps.have(run.checkpoint))
    return f"{len(run.extract.entries)} entries"


def _ordered(run: _Run) -> str:
    statement = steps.have(run.statement)
    steps.check_files(steps.have(run.bundle), statement.predicate)
    steps.check_plan(steps.have(run.bundle), statement.predicate)
    case = steps.check_order(steps.have(run.extract), statement)
    return f"{case.attempts} plan(s), the certificate at index {case.last_index}"


def _absent(run: _Run) -> str:
    predicate = steps.have(run.statement).predicate
    index = steps.check_ingested(steps.have(run.extract), predicate)
    count = steps.check_absence(steps.have(run.bundle).absence(), predicate)
    what = "record(s)" if predicate.erased.unit == "records" else "shorter histories, nobody's id gone"
    return f"{count} {what}, against the root logged at index {index}"


def _judged(run: _Run) -> str:
    if run.policy is None:
        raise EvidenceError("no policy of yours was given", hint="an empty policy grants nothing and is refused")
    predicate = steps.have(run.statement).predicate
    plan = steps.plan_of(steps.have(run.bundle))
    steps.check_policy(run.policy, predicate, plan)
    check_preregistered(plan, predicate.findings)
    bundle, extract = steps.have(run.bundle), steps.have(run.extract)
    run.selftest = steps.check_selftest(bundle, extract, predicate, run.policy, plan)
    return f"{run.policy.name!r} grants {predicate.guarantee.value}; self-test: {run.selftest.sentence}"


def _said(run: _Run) -> str:
    statement, opened = steps.have(run.statement), steps.have(run.opened)
    steps.check_sentence(statement.predicate, opened)
    if run.cosignature is None:
        return statement.predicate.guarantee_basis
    run.cosigned = verify_recompute(
        run.cosignature,
        run.roots,
        certificate=statement.digest,
        model=statement.model,
        issuers={root.keyid for root in opened.signers},
    )
    return f"recomputed by {run.cosigned.name}"


def _current(run: _Run) -> str:
    predicate = steps.have(run.statement).predicate
    if predicate.issued_at > run.now + CLOCK_SKEW:
        raise EvidenceError("the certificate is from the future", got=predicate.issued_at.isoformat())
    if run.now >= predicate.expires_at:
        raise EvidenceError(
            "the certificate has expired", got=predicate.expires_at.isoformat(), hint="ask for a new one"
        )
    return f"until {predicate.expires_at.date().isoformat()}"


def _extends(run: _Run) -> str:
    if run.against is None:
        raise _Skip("you brought no checkpoint: a log that was rolled back or forked would not be seen")
    kept = open_checkpoint(run.against, run.roots.require("log"))
    offered = [*steps.have(run.extract).consistency, *([run.expect.consistency] if run.expect.consistency else [])]
    steps.check_extends(kept, steps.have(run.checkpoint), offered)
    return f"from size {kept.size} to {steps.have(run.checkpoint).size}"


def _yours(run: _Run) -> str:
    expect = run.expect
    if expect.model is None and expect.opening is None and not expect.records:
        raise _Skip("you named no request, record or model")
    proofs, predicate = steps.have(run.bundle).absence(), steps.have(run.statement).predicate
    steps.check_expected(predicate, expect.model, expect.opening, expect.records, proofs, expect.remains)
    return "as expected"


_CHECKS: tuple[tuple[Callable[[_Run], str], tuple[int, ...]], ...] = (
    (_read, ()),
    (_signed, (1,)),
    (_parsed, (2,)),
    (_promised, (3,)),
    (_included, (4,)),
    (_ordered, (5,)),
    (_absent, (5,)),
    (_judged, (6,)),
    (_said, (3,)),
    (_current, (3,)),
    (_extends, (5,)),
    (_yours, (7,)),
)
