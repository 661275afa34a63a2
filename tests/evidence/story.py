"""One honest case, from ingestion to bundle, with every part exposed so that tests can spoil it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from expunge.core.codec import canonical, digest_of, encode, sha256_hex
from expunge.core.finding import Condition, Finding, Guarantee, Interval, Verdict
from expunge.core.plan import CheckSpec, Numerics, Plan
from expunge.core.policy import SIGNALS, Decision, Demand, Limits, Policy
from expunge.core.refs import DataRef, ModelRef
from expunge.core.selftest import EDITS, REQUIRED_PROCESSES, EditTrial, SelftestReport, Tally, required
from expunge.evidence.bundle import file_digests, write_bundle
from expunge.evidence.commitment import Opening, commit, open_commitment
from expunge.evidence.envelope import sign_envelope
from expunge.evidence.keys import Root, TrustRoots
from expunge.evidence.log import AuditLog
from expunge.evidence.manifest import RecordManifest, RecordOpening, prove_deletion
from expunge.evidence.predicate import (
    AS_LOGGED,
    CaseRef,
    LegalBasis,
    LogRef,
    MethodRef,
    Models,
    NotCovered,
    PlanRef,
    Predicate,
)
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.statement import build_statement, statement_digest

ORIGIN = "log.example"
NOW = datetime.now(UTC).replace(microsecond=0)
NUMERICS = Numerics(precision="fp32", threads=1, device="cpu", instruction_set="AVX2", build="torch 2.13.0")


def digest(text: str) -> str:
    return "sha256:" + sha256_hex(text.encode())


def policy(**limits: Any) -> Policy:
    exact = {"provenance": Demand.MUST_PASS, "membership": Demand.MUST_NOT_FAIL, "deployed": Demand.MUST_NOT_FAIL}
    empirical = {"membership": Demand.MUST_PASS, "deployed": Demand.MUST_PASS_IF_SEEN}
    return Policy(name="mine", guarantees={"EXACT": exact, "EMPIRICAL": empirical}, limits=Limits(**limits))


def findings(
    membership: Verdict = Verdict.UNVERIFIABLE, deployed: Verdict = Verdict.INCONCLUSIVE, margin: float = 0.2
) -> tuple[Finding, ...]:
    return (
        Finding(check="provenance", question="q", statistic="s", verdict=Verdict.PASS, reason="chains agree", n=3),
        Finding(
            check="membership",
            question="q",
            statistic="r",
            verdict=membership,
            reason="needs more models than the policy allows",
            estimate=0.03,
            interval=Interval(low=-0.11, high=0.17, level=0.95, method="t"),
            limit=margin,
            n=48,
            details={"alpha_spent": "0.0125"},
            conditions=tuple(
                Condition(name=f"{signal}: share of runs beyond the midpoint", verdict=Verdict.PASS, limit=0.15)
                for signal in SIGNALS
            ),
        ),
        Finding(check="deployed", question="q", statistic="rank", verdict=deployed, reason="3 anchors", n=3),
    )


def edited(verdict: Verdict = Verdict.PASS) -> tuple[Finding, ...]:
    """What an edit of a text-to-image model rests on."""
    return tuple(
        Finding(check=name, question="q", statistic="s", verdict=verdict, reason="pictures", estimate=0.0, n=n)
        for name, n in (("style", 4800), ("collateral", 600))
    )


def asked() -> Finding:
    """A bank of works beside an edit: it sees the works, and no deletion was run on it."""
    return Finding(
        check="membership", question="q", statistic="s", verdict=Verdict.INCONCLUSIVE, reason="no X arm was run", n=32
    )


def selftest(**changes: Any) -> SelftestReport:
    """A self-test in which every required saboteur was tried once and caught."""
    kind = str(changes.get("kind", "classifier"))
    methods = required(kind) - {*REQUIRED_PROCESSES}
    kinds = [(name, "edit" if name.startswith(EDITS) else "method") for name in sorted(methods)] + [
        (name, "process") for name in REQUIRED_PROCESSES
    ]
    plain: dict[str, Any] = {
        "size": "quick",
        "expunge": "0.1.0",
        "made_at": NOW - timedelta(days=10),
        "policy": digest("policy"),
        "recipe": digest("recipe"),
        "family": "mlp",
        "bank": None,
        "pairs": 0,
        "anchors": 0,
        "blocks": ("0" * 24,),
        "tallies": tuple(
            Tally(
                saboteur=name,
                kind=kind,  # type: ignore[arg-type]
                expected=("membership",),
                tried=1,
                certified=0,
                undecided=0,
                caught={"membership": 1},
                lower=0.0,
                upper=0.95,
            )
            for name, kind in kinds
        ),
        "alarms": (),
        "doses": (),
        "canary_power": None,
        "canary_reason": "no bank",
        "edits": EditTrial(seeds=8, pictures=40) if kind == "generator" else None,
    }
    return SelftestReport(**{**plain, **changes})


@dataclass
class Story:
    """Spoil what you like before `seal`, then verify what comes out."""

    folder: Path
    handle: str = "case-0001"
    seed: bytes = bytes(range(32))
    forget: tuple[int, ...] = (3,)
    guarantee: Guarantee = Guarantee.EXACT
    found: tuple[Finding, ...] = field(default_factory=findings)
    limits: dict[str, str] = field(default_factory=lambda: {k: str(v) for k, v in encode(Limits()).items()})
    spoil: Callable[[Predicate], Predicate] = lambda predicate: predicate
    order: tuple[str, ...] = (
        "plan.committed",
        "candidate.executed",
        "findings.recorded",
        "decision.made",
        "model.released",
        "data.purged",
    )
    skip_ingestion: bool = False
    selftest: SelftestReport | None = field(default_factory=selftest)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.signers = {role: self._signer(role) for role in ("operator", "verifier", "log")}
        self.roots = TrustRoots(
            keys=tuple(Root.of(s, name=f"{role} inc", role=role) for role, s in self.signers.items())  # type: ignore[arg-type]
        )
        self.request = {"id": self.handle, "selectors": ["train/0003"]}
        self.before = RecordManifest.build(
            [(slot, f"train/{slot:04}", sha256_hex(b"%d" % slot)) for slot in range(9)], key=self.seed
        )
        self.after = self.before.without(set(self.forget))

    def _signer(self, role: str) -> FileSigner:
        path = self.folder.parent / f"{role}.pem"
        return FileSigner.open(f"file:{path}") if path.exists() else FileSigner.create(path)

    def data(self, manifest: RecordManifest) -> DataRef:
        return DataRef(
            source="digits", slots=9, present=manifest.size, root=manifest.root, content_root=manifest.content_root
        )

    @property
    def opening(self) -> Opening:
        return open_commitment(self.seed, self.request)

    @property
    def record(self) -> RecordOpening:
        return self.before.opening(self.forget[0])

    @property
    def model(self) -> str:
        return digest(f"model after {self.handle}")

    def plan(self) -> Plan:
        return Plan(
            model=ModelRef(family="mlp", digest=digest("model before"), uri="store/m"),
            split="hmac-sha256:" + "0" * 64,
            method="replay",
            method_origin="expunge",
            aims_at=self.guarantee,
            params={"from": "checkpoint"},
            checks=tuple(CheckSpec(check=f.check, limits=self.limits, signals=SIGNALS) for f in self.found),
            pairs=48,
            policy=digest("policy"),
            numerics=NUMERICS,
            recipe=digest("recipe"),
            seed="seed",
            attempt=1,
            reference="bank",
        )

    def files(self) -> dict[str, bytes]:
        proofs = [proof for slot in self.forget for proof in prove_deletion(self.before, self.after, slot)]
        return {
            "plan.json": canonical(encode(self.plan())),
            "findings.json": canonical(encode(list(self.found))),
            "absence.json": canonical(encode(proofs)),
            **({} if self.selftest is None else {"selftest.json": canonical(encode(self.selftest))}),
            "report.html": b"<!doctype html><title>report</title>",
            "figures/roc.svg": b"<svg/>",
        }

    def predicate(self, log: AuditLog, plan_index: int) -> Predicate:
        plan = self.plan()
        return Predicate(
            case=CaseRef(handle=self.handle, request=commit(self.seed, self.request)),
            basis=LegalBasis(ground="GDPR Art. 17(1)(b)", regime="GDPR", received=NOW, due=NOW + timedelta(days=30)),
            models=Models(family="mlp", before=plan.model.digest, after=self.model),
            data_before=self.data(self.before),
            data_after=self.data(self.after),
            method=MethodRef(
                name=plan.method, origin=plan.method_origin, aims_at=plan.aims_at, params=digest_of(plan.params)
            ),
            plan=PlanRef(digest=digest_of(plan), index=plan_index),
            policy=plan.policy,
            findings=self.found,
            decision=Decision(accepted=True, guarantee=self.guarantee, verdict=Verdict.PASS, reasons=()),
            guarantee=self.guarantee,
            guarantee_basis=AS_LOGGED,  # type: ignore[arg-type]
            custody="same",
            purged=("checkpoints of the original model",),
            not_covered=NotCovered(
                recipients="not covered", backups="not covered", released_copies="none known", derived_models="none"
            ),
            attempts=1,
            numerics=NUMERICS,
            log=LogRef(origin=ORIGIN, size=log.size),
            files=file_digests(self.files()),
            issued_at=NOW,
            expires_at=NOW + timedelta(days=365),
            selftest=None if self.selftest is None else digest_of(self.selftest),
        )

    def payloads(self) -> dict[str, dict[str, Any]]:
        return {
            "plan.committed": {"plan": digest_of(self.plan())},
            "candidate.executed": {"model": self.model},
            "findings.recorded": {"findings": digest_of(list(self.found))},
            "decision.made": {"accepted": True, "guarantee": self.guarantee},
            "model.released": {"model": self.model, "replaces": self.plan().model.digest},
            "data.purged": {"data": encode(self.data(self.after))},
        }

    def open_log(self) -> AuditLog:
        return AuditLog(self.folder / "log.db", signer=self.signers["log"], origin=ORIGIN)

    def intake(self, log: AuditLog) -> str:
        """Ingest and receive; returns the receipt's checkpoint."""
        if not self.skip_ingestion:
            log.append("data.ingested", {"data": encode(self.data(self.before))})
        if self.selftest is not None:
            log.append("selftest.recorded", {"report": digest_of(self.selftest)})
        log.append("request.received", {"request": commit(self.seed, self.request)}, case=self.handle)
        self.receipt = log.checkpoint()
        log.append("request.resolved", {"split": "hmac-sha256:" + "0" * 64}, case=self.handle)
        return self.receipt

    def run(self, log: AuditLog) -> None:
        """Log the steps and build the statement."""
        for kind in self.order:
            entry = log.append(kind, self.payloads()[kind], case=self.handle)
            if kind == "plan.committed":
                self.plan_index = entry.index
        self.statement = build_statement(self.spoil(self.predicate(log, self.plan_index)))

    def seal(self, log: AuditLog, name: str = "bundle.zip") -> Path:
        """Log the issue, sign, and write the bundle."""
        log.append("certificate.issued", {"certificate": statement_digest(self.statement)}, case=self.handle)
        self.checkpoint = log.checkpoint()
        self.envelope = sign_envelope(self.statement, [self.signers["operator"], self.signers["verifier"]])
        entries = [
            e for e in log.entries() if e.case == self.handle or e.kind in ("data.ingested", "selftest.recorded")
        ]
        proofs: list[Any] = [log.prove_inclusion(e.index) for e in entries]
        proofs.append(log.prove_consistency(self.receipt_size(log)))
        return write_bundle(
            self.folder / name,
            envelope=self.envelope,
            entries=entries,
            proofs=proofs,
            checkpoint=self.checkpoint,
            files=self.files(),
        )

    def receipt_size(self, log: AuditLog) -> int:
        return int(self.receipt.split("\n")[1])

    def tell(self) -> Path:
        """The whole story."""
        with self.open_log() as log:
            self.intake(log)
            self.run(log)
            return self.seal(log)


def spoiled(**changes: Any) -> Callable[[Predicate], Predicate]:
    """A predicate with these fields replaced."""
    return lambda predicate: replace(predicate, **changes)
