"""What must hold before a guarantee is granted. Empty or absent means refused; the floors are in code.

A relying party brings its own policy; the floors below keep either side from turning a check into a formality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from expunge.core.errors import InputError, InputProblems
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.selftest import SelftestRule

Kind = Literal["classifier", "recommender", "generator"]
"""What is deleted from: a classifier's records, a recommender's users, or the works that a text-to-image model learned."""


class Demand(Enum):
    """How a check counts (CORRECTIONS: each check is marked for each guarantee)."""

    MUST_PASS = "must_pass"  # noqa: S105
    MUST_PASS_IF_SEEN = "must_pass_if_seen"  # noqa: S105 - PASS, or UNVERIFIABLE where nothing could be seen before either
    MUST_NOT_FAIL = "must_not_fail"
    REPORT = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Numbers that decide. Units: alpha and power are probabilities, margins are shares of the I - O gap or SD of O.

    `accuracy_margin` and `class_margin` are percentage points of accuracy, `ranking_margin` is a difference of NDCG or
    Recall (0 to 1). `max_bank` bounds the number of bank
    models a verdict may ask for; a gap that needs more is UNVERIFIABLE.
    """

    alpha: float = 0.025
    margin: float = 0.2
    absolute_margin: float = 1.0
    power: float = 0.8
    signals: int = 3
    max_bank: int = 512
    accuracy_margin: float = 1.0
    class_margin: float = 3.5
    ranking_margin: float = 0.005
    max_attempts: int = 4


# name: (lowest, highest) that any policy may set; VERDICTS section 7 wants these in code, not in a file.
FLOORS: Mapping[str, tuple[float, float]] = {
    "alpha": (1e-6, 0.025),
    "margin": (0.01, 0.5),
    "absolute_margin": (0.05, 1.0),
    "power": (0.5, 0.999),
    "signals": (1, 20),
    "max_bank": (2, 100_000),
    "accuracy_margin": (0.0, 5.0),
    "class_margin": (0.0, 15.0),
    "ranking_margin": (0.0, 0.05),
    "max_attempts": (1, 10),
}

# Checks no policy may leave out for a guarantee. A recommender proves EXACT by algebra (VERDICTS section 1); EMPIRICAL rests
# on a bank of users, and there the served file itself must be told from those that saw the user, because nothing else of it
# is compared with anything exact.
REQUIRED: Mapping[Kind, Mapping[Guarantee, Mapping[str, Demand]]] = {
    "classifier": {
        Guarantee.EXACT: {
            "provenance": Demand.MUST_PASS,
            "membership": Demand.MUST_NOT_FAIL,
            "deployed": Demand.MUST_NOT_FAIL,
        },
        Guarantee.CERTIFIED: {"provenance": Demand.MUST_PASS, "membership": Demand.MUST_NOT_FAIL},
        Guarantee.EMPIRICAL: {"membership": Demand.MUST_PASS, "deployed": Demand.MUST_PASS_IF_SEEN},
    },
    "recommender": {
        Guarantee.EXACT: {
            "algebra": Demand.MUST_PASS,
            "census": Demand.MUST_PASS,
            "left_out": Demand.MUST_PASS_IF_SEEN,
            "behaviour": Demand.MUST_NOT_FAIL,
            "downstream": Demand.MUST_NOT_FAIL,
            "weights_only": Demand.MUST_NOT_FAIL,
        },
        Guarantee.EMPIRICAL: {
            "membership": Demand.MUST_PASS,
            "deployed": Demand.MUST_PASS,
            "census": Demand.MUST_PASS,
            "ranking": Demand.MUST_NOT_FAIL,
        },
    },
    "generator": {
        Guarantee.EXACT: {"provenance": Demand.MUST_PASS, "style": Demand.MUST_NOT_FAIL},
        Guarantee.EMPIRICAL: {"style": Demand.MUST_PASS, "collateral": Demand.MUST_PASS},
    },
}
EMPIRICAL_SIGNALS = 3
SIGNALS = ("gradient_norm", "lira", "rmia")
"""Attacks that decide by default: a likelihood ratio and a ratio to the population, from outputs, and one white-box."""
_STRICTNESS = (Demand.REPORT, Demand.MUST_NOT_FAIL, Demand.MUST_PASS_IF_SEEN, Demand.MUST_PASS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome of judging findings: accepted with a guarantee, or not, with every reason."""

    accepted: bool
    guarantee: Guarantee | None
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Guarantee -> checks and how they count, plus the limits. Raises InputProblems with everything that is wrong.

    `attacks` are the signals: every one of them must pass, and a plan names them before anything runs. A recommender's
    policy may do without as long as it grants nothing but EXACT, and a generator's always: no bank is asked then, and its
    guarantees do not rest on one. `selftest` is what the self-test
    behind a certificate must have shown; no policy can do without one.
    """

    name: str
    guarantees: Mapping[str, Mapping[str, Demand]]
    limits: Limits
    kind: Kind = "classifier"
    attacks: tuple[str, ...] = SIGNALS
    selftest: SelftestRule = field(default_factory=SelftestRule)

    def __post_init__(self) -> None:
        problems = self._limit_problems() + self._rule_problems() + self._attack_problems()
        if problems:
            raise InputProblems(f"policy {self.name!r}", problems, code="policy")

    def _limit_problems(self) -> list[str]:
        return [
            f"limits.{name}: {getattr(self.limits, name)} is outside [{low}, {high}]"
            for name, (low, high) in FLOORS.items()
            if not low <= getattr(self.limits, name) <= high
        ]

    def _rule_problems(self) -> list[str]:
        if not self.guarantees:
            return ["guarantees: empty; an empty policy grants nothing and is refused"]
        problems = []
        for text, rules in self.guarantees.items():
            if text not in Guarantee.__members__:
                problems.append(f"guarantees.{text}: unknown guarantee")
                continue
            guarantee = Guarantee[text]
            if guarantee not in REQUIRED[self.kind]:
                problems.append(f"guarantees.{text}: no {self.kind} can be granted it")
                continue
            for check, floor in REQUIRED[self.kind][guarantee].items():
                if _STRICTNESS.index(rules.get(check, Demand.REPORT)) < _STRICTNESS.index(floor):
                    problems.append(f"guarantees.{text}.{check}: must be at least {floor.value}")
            signals = guarantee is Guarantee.EMPIRICAL and self.kind != "generator"
            if signals and self.limits.signals < EMPIRICAL_SIGNALS:
                problems.append(f"limits.signals: EMPIRICAL needs at least {EMPIRICAL_SIGNALS}")
        return problems

    def _attack_problems(self) -> list[str]:
        exact_only = Guarantee.EMPIRICAL.name not in self.guarantees
        if not self.attacks and (self.kind == "generator" or (self.kind == "recommender" and exact_only)):
            return []
        problems = []
        if len(set(self.attacks)) != len(self.attacks):
            problems.append("attacks: one is named twice; repeating is no evidence")
        if len(self.attacks) < self.limits.signals:
            problems.append(f"attacks: {len(self.attacks)} are named, limits.signals asks for {self.limits.signals}")
        return problems

    def rules(self, guarantee: Guarantee) -> Mapping[str, Demand]:
        """Checks of a guarantee; raises InputError when the policy does not grant it at all."""
        rules = self.guarantees.get(guarantee.name)
        if not rules:
            raise InputError(f"policy {self.name!r} has no rule for {guarantee.name}", hint="absent means refused")
        return rules

    def judge(self, guarantee: Guarantee, findings: Sequence[Finding]) -> Decision:
        """Pure: the same findings always give the same decision. A check the policy names and nobody ran refuses."""
        by_name = {finding.check: finding for finding in findings}
        reasons, verdicts = [], []
        for check, demand in sorted(self.rules(guarantee).items()):
            finding = by_name.get(check)
            if finding is None:
                reasons.append(f"{check}: not run")
                verdicts.append(Verdict.FAIL)
            elif demand is Demand.MUST_PASS and finding.verdict is not Verdict.PASS:
                reasons.append(f"{check}: {finding.verdict.value}, must pass: {finding.reason}")
                verdicts.append(finding.verdict)
            elif demand is Demand.MUST_PASS_IF_SEEN and finding.verdict is Verdict.INCONCLUSIVE:
                reasons.append(f"{check}: INCONCLUSIVE, must pass where anything can be seen: {finding.reason}")
                verdicts.append(Verdict.INCONCLUSIVE)
            elif demand is not Demand.REPORT and finding.verdict is Verdict.FAIL:
                reasons.append(f"{check}: FAIL: {finding.reason}")
                verdicts.append(Verdict.FAIL)
        if not verdicts:
            return Decision(accepted=True, guarantee=guarantee, verdict=Verdict.PASS, reasons=())
        verdict = Verdict.FAIL if Verdict.FAIL in verdicts else verdicts[0]
        return Decision(accepted=False, guarantee=None, verdict=verdict, reasons=tuple(reasons))
