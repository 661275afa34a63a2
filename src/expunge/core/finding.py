"""What a check answers: Finding, its verdict, and the guarantee a certificate may speak of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from expunge.core.errors import InputError


class Verdict(Enum):
    """PASS is earned with data; INCONCLUSIVE had too little power; UNVERIFIABLE is blind here."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    UNVERIFIABLE = "UNVERIFIABLE"


class Guarantee(Enum):
    """Strongest first. Granted by checks, never declared by a method (VERDICTS section 1)."""

    EXACT = "EXACT"
    CERTIFIED = "CERTIFIED"
    EMPIRICAL = "EMPIRICAL"

    @property
    def rank(self) -> int:
        """0 is the strongest."""
        return list(Guarantee).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A closed confidence interval; `level` is its coverage, e.g. .95; `method` names how it was computed."""

    low: float
    high: float
    level: float
    method: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise InputError("an interval needs finite ends in order", got=f"[{self.low}, {self.high}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One requirement inside a finding (VERDICTS section 3 lists those of the membership verdict)."""

    name: str
    verdict: Verdict
    estimate: float | None = None
    limit: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One question, answered on the candidate, with its two controls.

    `original` is the same statistic on the model that saw the records (can this check see anything?), `reference`
    on models that never did (what does "gone" look like?). A missing number is None and `reason` says why.
    """

    check: str
    question: str
    statistic: str
    verdict: Verdict
    reason: str
    estimate: float | None = None
    interval: Interval | None = None
    limit: float | None = None
    original: float | None = None
    reference: float | None = None
    n: int = 0
    mde: float | None = None
    conditions: tuple[Condition, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("estimate", "limit", "original", "reference", "mde"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise InputError(f"finding {self.check}: {name} is not finite", hint="use None and a reason")
        if not self.reason:
            raise InputError(f"finding {self.check} gives no reason")
        if self.verdict is Verdict.PASS and self.n < 1:
            raise InputError(f"finding {self.check} passes on no data")


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipScores:
    """Attack scores. Higher = more likely a member, always; whoever holds losses negates them at the source.

    `values` is indexed [model][record]: M models by R records, any sequence type of floats.
    """

    attack: str
    values: object
    unit: str


def worst(verdicts: tuple[Verdict, ...]) -> Verdict:
    """Intersection-union: a pass needs all to pass; FAIL outranks UNVERIFIABLE outranks INCONCLUSIVE."""
    if not verdicts:
        return Verdict.INCONCLUSIVE
    order = (Verdict.FAIL, Verdict.UNVERIFIABLE, Verdict.INCONCLUSIVE, Verdict.PASS)
    return min(verdicts, key=order.index)
