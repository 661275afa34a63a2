"""The further conditions beside r: absolute distance, share of bad runs, variance (VERDICTS section 3)."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from expunge.stats.intervals import Bounds, clopper_pearson, constant, share_at_least, share_at_most, standardised_mean
from expunge.stats.threearm import PairArms

SHARE_LIMIT = 0.15
"""Largest share of runs beyond the IN/OUT midpoint: met by 0 of 20 or 1 of 32 at 95 %."""
MIDPOINT_GAP = 4.0
"""Gap, in SD of O, below which honest runs cross the midpoint too often for that share to mean anything."""
VARIANCE_BAND = (0.25, 4.0)
"""Declared band of the variance ratio X/O."""


def absolute_distance(arms: PairArms, alpha: float) -> Bounds:
    """Mean of X − O in SD of O, level 1 − 2·alpha: the margin on r is loosest where the record is most exposed."""
    return standardised_mean(arms.unlearned - arms.out, arms.out, alpha=alpha)


def midpoint_share(arms: PairArms, level: float = 0.95) -> Bounds:
    """Share of runs whose X lies beyond the midpoint of IN and OUT, fitted on the other pairs.

    `low` and `high` are one-sided exact limits at `level` each (Clopper–Pearson). A run at the midpoint counts as beyond.
    """
    n = arms.out.size
    middle = (arms.out + arms.into) / 2
    of_others = (middle.sum() - middle) / (n - 1)
    hits = int((arms.unlearned >= of_others).sum())
    low, high = share_at_least(hits, n, level), share_at_most(hits, n, level)
    method = "Clopper-Pearson, one-sided"
    return Bounds(estimate=clopper_pearson(hits, n).estimate, low=low, high=high, level=level, method=method)


def variance_ratio(arms: PairArms, level: float = 0.95) -> Bounds:
    """var(X)/var(O) over pairs that correlate, with the exact Gaussian interval of Pitman and Morgan (1939).

    ratio·(K ± √(K²−1)), K = 1 + 2(1−ρ²)t²/(n−2), t the Student quantile with n − 2 degrees of freedom. An X that never
    varies (a clamp at the OUT mean) has ratio 0, not an unknown one.
    """
    method, n = "Pitman-Morgan", arms.out.size
    if constant(arms.unlearned) and not constant(arms.out):
        return Bounds(estimate=0.0, low=0.0, high=0.0, level=level, method="X does not vary")
    if constant(arms.out):
        reason = "O does not vary"
        return Bounds(estimate=None, low=None, high=None, level=level, method=method, reason=reason)
    ratio = float(arms.unlearned.var(ddof=1) / arms.out.var(ddof=1))
    correlation = float(np.corrcoef(arms.out, arms.unlearned)[0, 1])
    t = float(special.stdtrit(n - 2, 1 - (1 - level) / 2))
    k = 1 + 2 * max(0.0, 1 - correlation**2) * t * t / (n - 2)
    root = math.sqrt(max(k * k - 1, 0.0))
    return Bounds(estimate=ratio, low=ratio * (k - root), high=ratio * (k + root), level=level, method=method)
