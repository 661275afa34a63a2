"""Intervals for a share, for a mean of paired differences and for a mean measured in standard deviations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite

RESAMPLES = 4000
_CHUNK = 2_000_000  # numbers drawn at once by the bootstrap: 16 MB
_FEW_VALUES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """An estimate with its two-sided interval; `level` is the coverage. `reason` says why a limit is None."""

    estimate: float | None
    low: float | None
    high: float | None
    level: float
    method: str
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether all three numbers exist."""
        return self.estimate is not None and self.low is not None and self.high is not None

    def inside(self, low: float, high: float) -> bool:
        """Whether the whole interval lies strictly between two numbers; unknown is not inside."""
        return self.low is not None and self.high is not None and low < self.low and self.high < high

    def outside(self, low: float, high: float) -> bool:
        """Whether the whole interval lies strictly below `low` or strictly above `high`; unknown is not outside."""
        return self.low is not None and self.high is not None and (self.high < low or self.low > high)


def clopper_pearson(hits: int, trials: int, level: float = 0.95) -> Bounds:
    """Exact two-sided interval of a share (Clopper and Pearson 1934, eq. by beta quantiles).

    Raises CheckBroken unless 0 <= hits <= trials and trials >= 1.
    """
    _counts(hits, trials, level)
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(special.betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits == trials else float(special.betaincinv(hits + 1, trials - hits, 1 - tail))
    return Bounds(estimate=hits / trials, low=low, high=high, level=level, method="Clopper-Pearson")


def share_at_most(hits: int, trials: int, level: float = 0.95) -> float:
    """One-sided exact upper bound of a share: 0 of 20 gives .139, 1 of 32 gives .140 at 95 %."""
    _counts(hits, trials, level)
    return 1.0 if hits == trials else float(special.betaincinv(hits + 1, trials - hits, level))


def share_at_least(hits: int, trials: int, level: float = 0.95) -> float:
    """One-sided exact lower bound of a share."""
    _counts(hits, trials, level)
    return 0.0 if hits == 0 else float(special.betaincinv(hits, trials - hits + 1, 1 - level))


def _counts(hits: int, trials: int, level: float) -> None:
    if not (trials >= 1 and 0 <= hits <= trials and 0 < level < 1):
        raise CheckBroken(
            "0 <= hits <= trials, a trial and a level in (0, 1) expected", got=f"{hits} of {trials}, {level}"
        )


def paired_bootstrap(
    differences: ArrayLike,
    *,
    level: float,
    seed: int,
    method: Literal["percentile", "bca"] = "bca",
    resamples: int = RESAMPLES,
) -> Bounds:
    """Interval of the mean of N paired differences, by resampling the pairs.

    BCa follows Efron 1987, eq. 6.7 and 6.8, with the jackknife acceleration of the mean in closed form. With no spread
    at all the interval is the point itself: the caller must not read that as certainty at small N.
    Raises CheckBroken on fewer than 2 differences.
    """
    values = finite("differences", differences, (None,))
    if values.size < 2 or resamples < 1 or not 0 < level < 1:
        raise CheckBroken(
            "a bootstrap needs 2 pairs, a resample and a level in (0, 1)", got=f"{values.size}, {resamples}, {level}"
        )
    mean = float(values.mean())
    means = _resampled_means(values, resamples, np.random.default_rng(seed))
    tails = np.array([(1 - level) / 2, 1 - (1 - level) / 2])
    if method == "bca" and means.std() > 0:
        tails = _bca_tails(values, mean, means, tails)
    low, high = np.quantile(means, tails)
    return Bounds(estimate=mean, low=float(low), high=float(high), level=level, method=f"paired bootstrap, {method}")


def _resampled_means(values: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """(resamples,) means. Few distinct values are resampled as multinomial counts: the same law, no index array."""
    levels, counts = np.unique(values, return_counts=True)
    if levels.size <= _FEW_VALUES:
        drawn = rng.multinomial(values.size, counts / values.size, size=resamples)
        return np.asarray(drawn @ levels / values.size, dtype=np.float64)
    rows = max(1, _CHUNK // values.size)
    parts = [
        values[rng.integers(0, values.size, size=(min(rows, resamples - start), values.size))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(parts)


def _bca_tails(values: Floats, mean: float, means: Floats, tails: Floats) -> Floats:
    below = float(((means < mean).mean() + (means <= mean).mean()) / 2)
    below = min(max(below, 0.5 / means.size), 1 - 0.5 / means.size)
    centred = values - mean
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    bias = special.ndtri(below)
    shifted = bias + special.ndtri(tails)
    slope = np.maximum(1 - acceleration * shifted, 1e-3)  # beyond its pole the transform would turn the interval round
    return np.asarray(special.ndtr(bias + shifted / slope), dtype=np.float64)


def standardised_mean(values: ArrayLike, unit: ArrayLike, *, alpha: float) -> Bounds:
    """Mean of n paired `values` in units of the standard deviation of `unit` (same n pairs), level 1 − 2·alpha.

    √n·mean/(κ·s) is non-central t with n − 1 degrees of freedom and κ = sd(values)/sd(unit), because a Gaussian mean
    is independent of the covariance; κ is plugged in (Hedges and Olkin 1985, ch. 5, for κ = 1). A constant `unit`
    gives no numbers and a reason; n < 2 raises CheckBroken.
    """
    mean_of, sd_of = finite("values", values, (None,)), finite("unit", unit, (None,))
    n, level, method = mean_of.size, 1 - 2 * alpha, "non-central t"
    if n < 2 or sd_of.size != n or not 0 < alpha < 0.5:
        raise CheckBroken("2 pairs and an alpha in (0, .5) expected", got=f"{n} and {sd_of.size} pairs, {alpha}")
    spread, scale = float(sd_of.std(ddof=1)), float(mean_of.std(ddof=1))
    if constant(sd_of):
        reason = "the unit does not vary, so nothing can be measured in it"
        return Bounds(estimate=None, low=None, high=None, level=level, method=method, reason=reason)
    estimate = float(mean_of.mean()) / spread
    if constant(mean_of):
        return Bounds(estimate=estimate, low=estimate, high=estimate, level=level, method="no spread")
    ratio = scale / spread
    root = math.sqrt(n)
    low, high = (_noncentrality(n - 1, p, root * estimate / ratio) * ratio / root for p in (1 - alpha, alpha))
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        reason = "the non-central t could not be inverted for these values"
        return Bounds(estimate=estimate, low=None, high=None, level=level, method=method, reason=reason)
    return Bounds(estimate=estimate, low=low, high=high, level=level, method=method)


def constant(values: Floats) -> bool:
    """Whether the spread is nothing but rounding; no values at all do not vary either."""
    return not values.size or bool(np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())))


def by_score(values: Floats, seed: int) -> NDArray[np.intp]:
    """Indices from the lowest to the highest value; equal values in an order drawn with the seed."""
    mixed = np.random.default_rng(seed).permutation(values.size)
    return np.asarray(mixed[np.argsort(values[mixed], kind="stable")], dtype=np.intp)


def _noncentrality(freedom: int, probability: float, t: float) -> float:
    """The non-centrality at which a non-central t falls below `t` with this probability."""
    if abs(t) > 1000:  # the normal limit of t; relative error below 1/freedom of the half-width
        half = float(special.ndtri(probability)) * math.sqrt(1 + t * t / (2 * freedom))
        return t - half
    return float(special.nctdtrinc(freedom, probability, t))
