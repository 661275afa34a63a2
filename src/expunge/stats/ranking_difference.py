"""Did a model get worse for the same users? Paired differences of a metric, and non-inferiority with a margin.

n users, differences (n,) = after − before, so below 0 is a loss. The users are the sample: nothing here speaks about
another catalogue, another split of events or another training seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.stats.arrays import Floats, finite
from expunge.stats.intervals import RESAMPLES, Bounds, paired_bootstrap
from expunge.stats.ranking import PerUser
from expunge.stats.threearm import contrast_test

LEAST_USERS = 3
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """The mean of n differences, their standard deviation (n − 1) and how many users `changed` at all.

    `t` and `bootstrap` are two-sided at 1 − alpha; `t_floor` and `bootstrap_floor` one-sided lower limits at 1 − alpha.
    """

    mean: float
    sd: float
    n: int
    changed: int
    t: Bounds
    t_floor: float
    bootstrap: Bounds
    bootstrap_floor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    """A `verdict` and why. `p`: against "the mean is at most −margin". `floor`: one-sided t limit of the mean.

    `unseen_share`: so large a share of users may differ from all n that were seen and still be missed with probability
    alpha, 1 − alpha^(1/n). A mean says nothing about them: a loss that hits fewer users has to be looked for elsewhere.
    """

    verdict: Verdict
    reason: str
    mean: float
    floor: float
    p: float
    margin: float
    resolvable: float
    unseen_share: float
    n: int


def differences(after: PerUser, before: PerUser) -> PerUser:
    """after − before a user, in [−1, 1]. Raises CheckBroken unless both were measured on the very same users."""
    if not np.array_equal(after.users, before.users):
        raise CheckBroken("two models were measured on different users", got=f"{after.users.size}, {before.users.size}")
    return replace(after, values=after.values - before.values)


def paired_difference(
    values: ArrayLike, *, seed: int, alpha: float = 0.05, resamples: int = RESAMPLES
) -> PairedDifference:
    """Student's t and BCa (`intervals.paired_bootstrap`) side by side; identical models give exactly 0 in [0, 0].

    Raises CheckBroken on NaN, fewer than 3 users or an alpha outside (0, .5).
    """
    column = _checked(values, alpha)
    mean, sd, n = float(column.mean()), float(column.std(ddof=1)), column.size

    def drawn(level: float) -> Bounds:
        return paired_bootstrap(column, level=level, seed=seed, resamples=resamples)

    half = _t_half(sd, n, alpha / 2)
    floor = drawn(1 - 2 * alpha).low
    return PairedDifference(
        mean=mean,
        sd=sd,
        n=n,
        changed=int(np.count_nonzero(np.abs(column) > _ROUNDING)),
        t=Bounds(estimate=mean, low=mean - half, high=mean + half, level=1 - alpha, method="paired t"),
        t_floor=mean - _t_half(sd, n, alpha),
        bootstrap=drawn(1 - alpha),
        bootstrap_floor=mean if floor is None else floor,
    )


def resolvable_margin(*, sd: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest margin that n users can pass with this power when nothing is lost, in units of the metric.

    δ·sd/√n, where a non-central t of n − 1 degrees of freedom and non-centrality δ exceeds the 1 − alpha quantile of t
    with probability `power`; 2.5·sd/√n at .05 and .8. `sd`: of the paired differences, from a pilot or from the sample.
    """
    if not (math.isfinite(sd) and sd >= 0 and n >= LEAST_USERS and 0 < alpha < 0.5 and alpha < power < 1):
        expected = f"sd >= 0, n >= {LEAST_USERS}, 0 < alpha < .5 and alpha < power < 1"
        raise CheckBroken("no margin can be computed", expected=expected, got=f"{sd}, {n}, {alpha}, {power}")
    bar = float(special.stdtrit(n - 1, 1 - alpha))
    shift = float(special.nctdtrinc(n - 1, 1 - power, bar))
    return shift * sd / math.sqrt(n)


def noninferior(
    values: ArrayLike, margin: float, *, alpha: float = 0.05, power: float = 0.8, resolvable: float | None = None
) -> NonInferiority:
    """Is the mean loss shown to be smaller than the margin? In this order:

    PASS, all n differences are 0: the metric is the same for every one of these users, which is a fact and no test.
    FAIL, the mean is shown to lie below −margin (Student, one-sided alpha), whatever the power.
    INCONCLUSIVE, the margin is below `resolvable`: these users cannot answer, so a lucky pass is refused. It is taken
    from these differences unless it was planned (`resolvable_margin` with the sd of a pilot). At a margin that equals
    the planned one the power is as claimed for Gaussian differences (less where a few lose much); taken from the sample
    it refuses about every second time there, so plan.
    PASS, the mean is shown to lie above −margin: the larger of Student's p and of Hall's, which corrects t for skewness
    (`threearm.contrast_test`), is at most alpha. Otherwise INCONCLUSIVE.

    Raises CheckBroken on NaN, fewer than 3 users or a margin below 0. Not guarded against a loss so rare that these
    users do not show it: see `NonInferiority.unseen_share`.
    """
    column = _checked(values, alpha)
    sd, n = float(column.std(ddof=1)), column.size
    limit = resolvable_margin(sd=sd, n=n, alpha=alpha, power=power) if resolvable is None else resolvable
    if not all(math.isfinite(number) and number >= 0 for number in (margin, limit)):
        raise CheckBroken("margins of at least 0 expected", got=f"{margin} and a resolvable {limit}")
    test = contrast_test(column + margin)
    alike = bool(np.abs(column).max() <= _ROUNDING)
    verdict, reason = _decide(alike, test.below <= alpha, test.guarded_above <= alpha, margin, limit, n)
    mean = float(column.mean())
    return NonInferiority(
        verdict=verdict,
        reason=reason,
        mean=mean,
        floor=mean - _t_half(sd, n, alpha),
        p=test.guarded_above,
        margin=margin,
        resolvable=limit,
        unseen_share=1 - alpha ** (1 / n),
        n=n,
    )


def _decide(alike: bool, lost: bool, kept: bool, margin: float, limit: float, n: int) -> tuple[Verdict, str]:
    if alike:
        return Verdict.PASS, f"the metric is the same for each of the {n} users"
    if lost:
        return Verdict.FAIL, f"a mean loss of more than {margin:g} is shown on {n} users"
    if margin < limit:
        return Verdict.INCONCLUSIVE, f"{n} users resolve a margin of {limit:.3g} at best, not {margin:g}"
    if kept:
        return Verdict.PASS, f"the mean loss is shown to be below {margin:g} on {n} users"
    return Verdict.INCONCLUSIVE, f"{n} users show neither a loss of more than {margin:g} nor its absence"


def _checked(values: ArrayLike, alpha: float) -> Floats:
    column = finite("differences", values, (None,))
    if column.size < LEAST_USERS or not 0 < alpha < 0.5:
        expected = f"at least {LEAST_USERS} users and alpha in (0, .5)"
        raise CheckBroken("too few paired differences", expected=expected, got=f"{column.size} and {alpha}")
    return column


def _t_half(sd: float, n: int, tail: float) -> float:
    return float(special.stdtrit(n - 1, 1 - tail)) * sd / math.sqrt(n)
