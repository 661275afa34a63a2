"""Three-arm non-inferiority on complement pairs (VERDICTS section 3).

O, I and X are one number a pair k = 1…n: the block statistic of the model that never saw the block (OUT), of the one
that did (IN), and of the IN model after unlearning. Higher = more likely a member. The residual influence is
r = E(X − O) / E(I − O): 0 as if never seen, 1 nothing removed, below 0 over-unlearned. It is tested by the linear
contrasts of three-arm gold-standard trials (Pigeot et al. 2003, eq. 3; Hauschke and Pigeot 2005), on the n pairs, so
that whatever covariance the arms of a pair have is in the standard error: ignoring it inflates false passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite
from expunge.stats.intervals import Bounds, constant, standardised_mean

MIN_PAIRS = 3
GAP_ALPHA = 0.025
"""The gap is shown, and its upper limit planned with, at 95 % whatever alpha an attempt may spend."""
DISTINCT_SHARE = 0.9
"""Least share of pairs that must differ from each other; coarse scores repeat now and then, copied pairs all do."""


class Outcome(Enum):
    """What the data of one signal show. BLIND: I > O was not shown; OPEN: neither side was shown."""

    EQUIVALENT = "equivalent"
    RESIDUE = "residue"
    OVER_UNLEARNED = "over-unlearned"
    BLIND = "blind"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairArms:
    """Block statistics, float (n,) each, one entry a complement pair. Higher = more likely a member."""

    out: Floats
    into: Floats
    unlearned: Floats

    @classmethod
    def of(cls, out: ArrayLike, into: ArrayLike, unlearned: ArrayLike) -> PairArms:
        """Checked arms. Raises CheckBroken on NaN, unequal lengths or fewer than 3 pairs."""
        first = finite("out", out, (None,))
        n = first.size
        if n < MIN_PAIRS:
            raise CheckBroken("too few complement pairs", expected=f"at least {MIN_PAIRS}", got=str(n))
        return cls(out=first, into=finite("into", into, (n,)), unlearned=finite("unlearned", unlearned, (n,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`margin` is t, a share of the I − O gap. `alpha` is for passing, per side; `fail_alpha` for a demonstrated
    residue, per side, and for the no-op control (smaller when several signals may each raise the alarm)."""

    margin: float
    alpha: float
    fail_alpha: float

    def __post_init__(self) -> None:
        if not (0 < self.margin < 1 and 0 < self.alpha < 0.5 and 0 < self.fail_alpha < 0.5):
            raise CheckBroken("margin in (0, 1) and alpha in (0, .5) expected", got=str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastTest:
    """One-sample t of a contrast with n − 1 degrees of freedom.

    `below` is the p-value against "the mean is at least 0", `above` the one against "the mean is at most 0". The
    guarded ones are never smaller: they are what a pass must be earned with (`contrast_test`).
    """

    mean: float
    below: float
    above: float
    guarded_below: float
    guarded_above: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreeArm:
    """Everything one signal says: assay I − O, contrasts c⁻ and c⁺, r with its Fieller interval (level 1 − 2·alpha)."""

    outcome: Outcome
    assay: ContrastTest
    minus: ContrastTest
    plus: ContrastTest
    residual: Bounds
    gap: Bounds
    n: int

    @property
    def equivalence_p(self) -> float:
        """The larger of the two guarded one-sided p-values: small = equivalent within the margin."""
        return max(self.minus.guarded_below, self.plus.guarded_above)


def contrast_test(values: Floats) -> ContrastTest:
    """Student's one-sample t, one-sided both ways. A contrast without spread is decided by its sign, 0 by neither.

    Skewed values make one of the two sides too small (a mean and a standard deviation that move together): a right
    skew lets too much pass below 0. The guarded p-values are therefore the larger of Student's and that of Hall's (1992,
    eq. 5) transform of t, which removes the skewness it can see; they cost an honest Gaussian about a tenth of its
    level (`benchmarks/null_rates`). A contrast without spread may fail a method, but its guarded p-values are 1.
    """
    n, mean = values.size, float(values.mean())
    if constant(values):
        zero = abs(mean) <= 1e-12 * max(1.0, float(np.abs(values).max()))
        below, above = (1.0, 1.0) if zero else (float(mean > 0), float(mean < 0))
        return ContrastTest(mean=mean, below=below, above=above, guarded_below=1.0, guarded_above=1.0, n=n)
    spread = float(values.std(ddof=1))
    t = mean / (spread / math.sqrt(n))
    corrected = hall(t, _skewness((values - mean) / spread), n)
    below, above = float(special.stdtr(n - 1, t)), float(special.stdtr(n - 1, -t))
    return ContrastTest(
        mean=mean,
        below=below,
        above=above,
        guarded_below=max(below, float(special.stdtr(n - 1, corrected))),
        guarded_above=max(above, float(special.stdtr(n - 1, -corrected))),
        n=n,
    )


def hall(t: float, skewness: float, n: int) -> float:
    """Hall's (1992, J. R. Statist. Soc. B 54, eq. 5) monotone transform of a t statistic: t + γt²/(3√n) + γ²t³/(27n) +
    γ/(6√n), free of the skewness γ to first order."""
    root = math.sqrt(n)
    return t + skewness * t * t / (3 * root) + skewness**2 * t**3 / (27 * n) + skewness / (6 * root)


def _skewness(standardised: Floats) -> float:
    """Sample skewness with Fisher's correction, from values that were divided by the n − 1 standard deviation."""
    n = standardised.size
    return float((standardised**3).sum()) * n / ((n - 1) * (n - 2))


def contrasts(arms: PairArms, margin: float) -> tuple[Floats, Floats]:
    """c⁻ = X − (1−t)·O − t·I and c⁺ = X − (1+t)·O + t·I, (n,) each; equivalence is c⁻ < 0 < c⁺."""
    minus = arms.unlearned - (1 - margin) * arms.out - margin * arms.into
    plus = arms.unlearned - (1 + margin) * arms.out + margin * arms.into
    return minus, plus


def fieller(numerator: Floats, denominator: Floats, alpha: float) -> Bounds:
    """Interval of E(numerator)/E(denominator) over n pairs, level 1 − 2·alpha (Fieller 1954).

    The set of ρ whose contrast numerator − ρ·denominator is not rejected. Where the denominator is not shown to be
    positive that set is unbounded and the ratio is noise over noise: then no numbers, and a reason.
    """
    n, level, method = numerator.size, 1 - 2 * alpha, "Fieller"
    covariance = np.cov(numerator, denominator, ddof=1)
    top, bottom = float(numerator.mean()), float(denominator.mean())
    q = float(special.stdtrit(n - 1, 1 - alpha)) ** 2 / n
    a = bottom**2 - q * float(covariance[1, 1])
    b = top * bottom - q * float(covariance[0, 1])
    c = top**2 - q * float(covariance[0, 0])
    if not (a > 0 and bottom > 0):
        reason = "I > O was not shown at this level, so r has no bounded interval"
        return Bounds(estimate=None, low=None, high=None, level=level, method=method, reason=reason)
    root = math.sqrt(max(b * b - a * c, 0.0))
    return Bounds(estimate=top / bottom, low=(b - root) / a, high=(b + root) / a, level=level, method=method)


def three_arm(arms: PairArms, rule: Rule) -> ThreeArm:
    """The tests in their fixed order: assay sensitivity first, then the two one-sided contrasts."""
    minus_values, plus_values = contrasts(arms, rule.margin)
    assay = contrast_test(arms.into - arms.out)
    minus, plus = contrast_test(minus_values), contrast_test(plus_values)
    gap = standardised_mean(arms.into - arms.out, arms.out, alpha=GAP_ALPHA)
    outcome = _outcome(assay, minus, plus, rule)
    if outcome is Outcome.EQUIVALENT and (not gap.known or copied(arms)):
        outcome = Outcome.OPEN  # an O that never varies may fail a method by its sign, but cannot earn a pass
    return ThreeArm(
        outcome=outcome,
        assay=assay,
        minus=minus,
        plus=plus,
        residual=fieller(arms.unlearned - arms.out, arms.into - arms.out, rule.alpha),
        gap=gap,
        n=arms.out.size,
    )


def _outcome(assay: ContrastTest, minus: ContrastTest, plus: ContrastTest, rule: Rule) -> Outcome:
    """Failing asks fail_alpha of the assay and nothing of alpha: an alpha spent by retries must not hide a residue."""
    if max(assay.above, minus.guarded_below, plus.guarded_above) <= rule.alpha:
        return Outcome.EQUIVALENT
    if assay.above <= rule.fail_alpha and minus.above <= rule.fail_alpha:
        return Outcome.RESIDUE
    if assay.above <= rule.fail_alpha and plus.below <= rule.fail_alpha:
        return Outcome.OVER_UNLEARNED
    return Outcome.BLIND if assay.above > rule.alpha else Outcome.OPEN


def copied(arms: PairArms) -> bool:
    """Whether the X arm is the O arm in any order, number for number, or pairs repeat each other: no fresh evidence."""
    if np.array_equal(np.sort(arms.out), np.sort(arms.unlearned)):
        return True
    distinct = len(np.unique(np.stack([arms.out, arms.into, arms.unlearned], axis=1), axis=0))
    return bool(distinct < DISTINCT_SHARE * arms.out.size)


def no_op(arms: PairArms, rule: Rule) -> ThreeArm:
    """The positive control: nothing was removed, X = I. A test that does not call this a residue sees nothing."""
    return three_arm(PairArms(out=arms.out, into=arms.into, unlearned=arms.into), rule)


def placebo(arms: PairArms, rule: Rule, seed: int) -> ThreeArm:
    """The negative control on n // 2 pairs: X is the OUT model of a pair that is not among them, drawn with the seed.

    Half the pairs are given up because X from the same pairs would have the mean of O by construction and could never
    be flagged. Raises CheckBroken below 6 pairs.
    """
    half = arms.out.size // 2
    order = np.random.default_rng(seed).permutation(arms.out.size)
    judged, lent = order[:half], order[half : 2 * half]
    return three_arm(PairArms.of(arms.out[judged], arms.into[judged], arms.out[lent]), rule)
