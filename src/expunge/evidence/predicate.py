"""The predicate of a deletion certificate: every field it must have, typed. Prose in docs/spec/certificate-v0.1.md.

Decimals travel as strings, times as RFC 3339 in UTC, digests as `sha256:<hex>`, commitments as `hmac-sha256:<hex>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from expunge.core.errors import InputError, InputProblems
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.plan import Numerics
from expunge.core.policy import Decision
from expunge.core.refs import DataRef, check_digest
from expunge.core.request import Unit
from expunge.evidence.commitment import is_commitment

VERSION = "0.1"
AS_LOGGED: Final = "as logged by the owner"
RECOMPUTED: Final = "recomputed by a second key holder"
Basis = Literal["as logged by the owner", "recomputed by a second key holder"]

NON_CLAIMS = (
    "It does not prove, from outputs, that the data is absent against an owner who forges logs, data or models.",
    "It does not say that the model or any data is anonymous.",
    "It does not say that any law has been complied with.",
    "It does not say that the model has no backdoor.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRef:
    """`handle` is a keyed pseudonym; `request` commits to the request and is opened by the requester's receipt."""

    handle: str
    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalBasis:
    """On what ground erasure was asked for, when it came and when it had to be answered."""

    ground: str
    regime: str
    received: datetime
    due: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Tensor roots. The model before is named by digest only; nothing else about it is disclosed."""

    family: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was deleted. `records` went whole; of an `interaction`, a `window` or an `item` the users stayed, and
    `histories` became shorter. `count`: interactions or items; None of records, which the data counts, and of a time
    window, where it would say how much somebody had in it."""

    unit: Unit = "records"
    count: int | None = None
    histories: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRef:
    """What ran. `origin` is `expunge` or names an outside distribution with its code digest; `params` is a digest."""

    name: str
    origin: str
    aims_at: Guarantee
    params: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRef:
    """Digest of plan.json and the log index at which it was committed, before anything ran."""

    digest: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The (epsilon, delta) of a CERTIFIED theorem, as decimals."""

    epsilon: float
    delta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """Who re-executed the recipe before signing: `keyid` must be a verifier's who signs the envelope."""

    name: str
    keyid: str
    numerics: Numerics


@dataclass(frozen=True, slots=True, kw_only=True)
class BankRef:
    """The bank of `n` reference models (each record in a share `q` of them) that is destroyed by `destroy_by`."""

    n: int
    q: float
    destroy_by: datetime
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCovered:
    """What this certificate does not reach. Each section is mandatory and says `not covered` where that is so."""

    recipients: str
    backups: str
    released_copies: str
    derived_models: str
    other: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        empty = [
            name for name in ("recipients", "backups", "released_copies", "derived_models") if not getattr(self, name)
        ]
        if empty:
            raise InputProblems("not_covered", [f"{name}: empty; write 'not covered'" for name in empty])


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRef:
    """The log and its size when the statement was made; the bundle's checkpoint is larger by the entry of its issue."""

    origin: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """A deletion certificate. `sentence` is generated (evidence/sentence.py) when left empty.

    `files` are digests of every file in the bundle except certificate, log and checkpoint, which prove themselves.
    `attempts` counts the plans tried on this subject, across cases. `selftest` is the digest of
    selftest.json, the report of counts per saboteur and placebo; None only with a reason, and then no policy accepts it.
    """

    case: CaseRef
    basis: LegalBasis
    models: Models
    data_before: DataRef
    data_after: DataRef
    method: MethodRef
    plan: PlanRef
    policy: str
    findings: tuple[Finding, ...]
    decision: Decision
    guarantee: Guarantee
    guarantee_basis: Basis
    custody: Literal["same", "separate"]
    purged: tuple[str, ...]
    not_covered: NotCovered
    attempts: int
    numerics: Numerics
    log: LogRef
    files: Mapping[str, str]
    issued_at: datetime
    expires_at: datetime
    selftest: str | None = None
    selftest_reason: str = "no self-test was made"
    bank: BankRef | None = None
    bound: Bound | None = None
    recomputed: Recomputed | None = None
    non_claims: tuple[str, ...] = field(default=NON_CLAIMS)
    sentence: str = ""
    version: str = VERSION
    erased: Erased = field(default_factory=Erased)

    def __post_init__(self) -> None:
        problems = self._digest_problems() + self._claim_problems() + self._count_problems()
        if problems:
            raise InputProblems("certificate", problems)

    def _digest_problems(self) -> list[str]:
        named = {
            "models.before": self.models.before,
            "models.after": self.models.after,
            "method.params": self.method.params,
            "plan.digest": self.plan.digest,
            "policy": self.policy,
            **{f"files.{name}": digest for name, digest in self.files.items()},
        }
        if self.bank is not None:
            named["bank.digest"] = self.bank.digest
        problems = [f"{name}: not a digest" for name, digest in named.items() if not _is_digest(digest)]
        if not is_commitment(self.case.request):
            problems.append("case.request: not a commitment")
        return problems

    def _claim_problems(self) -> list[str]:
        problems = []
        if not self.decision.accepted or self.decision.guarantee is not self.guarantee:
            problems.append("decision: does not accept this guarantee")
        if (self.guarantee_basis == RECOMPUTED) != (self.recomputed is not None):
            problems.append("recomputed: present exactly when the basis is a recomputation")
        if self.recomputed is not None and self.custody == "same":
            problems.append("recomputed: a key in the same custody is not a second key holder")
        if (self.guarantee is Guarantee.CERTIFIED) != (self.bound is not None):
            problems.append("bound: present exactly when the guarantee is CERTIFIED")
        if not self.findings:
            problems.append("findings: none; nothing was checked")
        if len({finding.check for finding in self.findings}) != len(self.findings):
            problems.append("findings: one check answers twice")
        problems += [f"non_claims: {claim!r} is missing" for claim in NON_CLAIMS if claim not in self.non_claims]
        if self.selftest is None and not self.selftest_reason:
            problems.append("selftest: null without a reason")
        return problems

    def _count_problems(self) -> list[str]:
        problems = []
        if self.version != VERSION:
            problems.append(f"version: {self.version!r} is not {VERSION}")
        if self.attempts < 1 or self.plan.index < 0 or self.log.size <= self.plan.index:
            problems.append("attempts, plan.index and log.size do not fit together")
        if self.data_after.slots < self.data_before.slots or not self._taken_out():
            problems.append("data_after: nothing was taken out, or not what `erased` says")
        if self.models.before == self.models.after and not self._already_without():
            problems.append("models: the model after is the model before, and no finding shows that it may be")
        if self.issued_at >= self.expires_at:
            problems.append("expires_at: not after issued_at")
        return problems

    def _taken_out(self) -> bool:
        """Records are fewer; or all are there under the same ids, and contents are others."""
        before, after, erased = self.data_before, self.data_after, self.erased
        if erased.unit == "records":
            return after.present < before.present and erased == Erased()
        same = (after.present, after.root) == (before.present, before.root)
        counted = (erased.count is None) if erased.unit == "window" else (erased.count or 0) > 0
        return same and after.content_root != before.content_root and erased.histories > 0 and counted

    def _already_without(self) -> bool:
        """Was the model before found to be what the recipe makes of the retained records, as the one after is?"""
        return self.guarantee is Guarantee.EXACT and any(
            (finding.check, finding.verdict, finding.estimate, finding.original) == ("algebra", Verdict.PASS, 0.0, 0.0)
            for finding in self.findings
        )


def _is_digest(text: str) -> bool:
    try:
        check_digest(text)
    except InputError:
        return False
    return True
