"""What `verify-scores` answers: one Finding and the rows it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.errors import ExitCode
from expunge.core.finding import Finding, Interval, Verdict
from expunge.stats.intervals import Bounds

ALPHA = 0.025
"""Error a side and a test may spend; a verdict on pooled scores has two tests, 5 % together."""
CHECK = "verify-scores"
NOT_ABSENCE = (
    "that nothing was shown is no evidence of absence: without an unlearned arm, and IN models that prove this score "
    "sees anything, nothing passes"
)
SWAPPED = (
    "members score significantly LOWER than nonmembers: higher must mean member, so these scores look negated; negate "
    "them where they are made and run this again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number of the table: estimate with its interval at `level` by `method`; `note` says what limits it."""

    what: str
    estimate: float | None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    n: int = 0
    note: str = ""

    @classmethod
    def of(cls, what: str, bounds: Bounds, n: int, note: str = "") -> Row:
        """From bounds; the method and the reason for a missing limit go into the note."""
        said = "; ".join(part for part in (note, bounds.method, bounds.reason) if part)
        return cls(
            what=what, estimate=bounds.estimate, low=bounds.low, high=bounds.high, level=bounds.level, n=n, note=said
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The verdict on one run: `source` says what was read and by which reader, `notes` what the reader did."""

    source: str
    finding: Finding
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def interval_of(bounds: Bounds) -> Interval | None:
    """The interval of a Finding, where both limits exist."""
    if bounds.low is None or bounds.high is None:
        return None
    return Interval(low=bounds.low, high=bounds.high, level=bounds.level, method=bounds.method)


def exit_code(answers: tuple[Answer, ...]) -> ExitCode:
    """3 when any run FAILs; everything else was done as asked."""
    failed = any(answer.finding.verdict is Verdict.FAIL for answer in answers)
    return ExitCode.NOT_ERASED if failed else ExitCode.DONE
