"""The whole membership verdict of VERDICTS section 3 on one signal, and over signals by intersection–union.

Relative margin, absolute bound, share of bad runs and variance band must all be *shown*; what is only not refuted does
not pass. Realised rates of this rule: `benchmarks/null_rates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.core.errors import CheckBroken
from expunge.stats.bounds import (
    MIDPOINT_GAP,
    SHARE_LIMIT,
    VARIANCE_BAND,
    absolute_distance,
    midpoint_share,
    variance_ratio,
)
from expunge.stats.intervals import Bounds
from expunge.stats.threearm import Outcome, PairArms, Rule, ThreeArm, three_arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    """What a pass needs beside r. `absolute`: bound on |X − O| in SD of O, tested at the alpha of the rule. `share`:
    largest upper limit, at `level`, of the share of runs beyond the IN/OUT midpoint; asked for wherever the
    upper 95 % limit of the gap reaches `midpoint_gap` SD (at the estimate, half of all failures next to it would escape
    by luck). `band`: what the `level` interval of var(X)/var(O) must lie in.
    """

    absolute: float = 1.0
    share: float = SHARE_LIMIT
    midpoint_gap: float = MIDPOINT_GAP
    band: tuple[float, float] = VARIANCE_BAND
    level: float = 0.95

    def __post_init__(self) -> None:
        low, high = self.band
        known = self.absolute > 0 and 0 < self.share < 1 and self.midpoint_gap > 0 and 0 < self.level < 1
        if not (known and 0 < low < 1 < high):
            raise CheckBroken("positive bounds and a band around 1 expected", got=str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalVerdict:
    """One signal. `missing` names the conditions that were not shown, in the order they are asked; none = a pass.

    `per_run` says whether the share of bad runs was bounded: without it the words are "on average over retrainings".
    """

    test: ThreeArm
    absolute: Bounds
    share: Bounds
    variance: Bounds
    missing: tuple[str, ...]
    per_run: bool

    @property
    def passed(self) -> bool:
        """Whether every condition was shown."""
        return not self.missing


def judge(arms: PairArms, rule: Rule, further: Further) -> SignalVerdict:
    """All conditions on one signal."""
    test = three_arm(arms, rule)
    absolute = absolute_distance(arms, rule.alpha)
    share, variance = midpoint_share(arms, further.level), variance_ratio(arms, further.level)
    wide = test.gap.high is not None and test.gap.high >= further.midpoint_gap
    few = share.high is not None and share.high <= further.share
    shown = {
        "equivalence": test.outcome is Outcome.EQUIVALENT,
        "absolute": absolute.inside(-further.absolute, further.absolute),
        "share": few or not wide,
        "variance": variance.inside(*further.band),
    }
    missing = tuple(name for name, met in shown.items() if not met)
    return SignalVerdict(
        test=test, absolute=absolute, share=share, variance=variance, missing=missing, per_run=wide and few
    )


def all_pass(verdicts: Sequence[SignalVerdict], wanted: int) -> bool:
    """Intersection–union: every signal passes, and there are as many as wanted. None at all is no pass."""
    if wanted < 1:
        raise CheckBroken("at least one signal must be wanted", got=str(wanted))
    return len(verdicts) >= wanted and all(item.passed for item in verdicts)
