"""ROC points, AUC and TPR at a fixed FPR with intervals, and histograms that hide single records.

Higher = more likely a member. Members and nonmembers are 1-d arrays of scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite
from expunge.stats.intervals import Bounds, clopper_pearson

_RESOLUTION = 1e-12
MIN_IN_BIN = 20
"""Records a figure's bin must hold: an axis coordinate is a score, and a bin of one is somebody's score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roc:
    """Rates at every threshold, from (0, 0) to (1, 1), float (T,) each."""

    fpr: Floats
    tpr: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """`edges` (B + 1,), on a round grid and no record's own score, and `counts` (B,), each 0 or at least 20."""

    edges: Floats
    counts: NDArray[np.int64]
    n: int


def roc(members: ArrayLike, nonmembers: ArrayLike) -> Roc:
    """One point a distinct score, tied scores together (a diagonal step)."""
    high, low = _both(members, nonmembers)
    cuts = np.unique(np.concatenate([high, low]))[::-1]
    tpr = 1 - np.searchsorted(np.sort(high), cuts, side="left") / high.size
    fpr = 1 - np.searchsorted(np.sort(low), cuts, side="left") / low.size
    return Roc(fpr=np.concatenate([[0.0], fpr]), tpr=np.concatenate([[0.0], tpr]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RocBand:
    """Limits of the TPR at each FPR of a grid, float (F,) each; the whole true curve lies between them at `level`."""

    fpr: Floats
    low: Floats
    high: Floats
    level: float


def roc_band(members: ArrayLike, nonmembers: ArrayLike, level: float = 0.95, points: int = 201) -> RocBand:
    """Simultaneous distribution-free band (Campbell 1994): both empirical survival functions may be off by their
    Dvoretzky-Kiefer-Wolfowitz distance, sqrt(ln(2/a)/(2n)) with Massart's constant and (1 - a)^2 = level."""
    if not 0 < level < 1 or points < 2:
        raise CheckBroken("a level in (0, 1) and at least 2 points expected", got=f"{level} and {points}")
    high, low = _both(members, nonmembers)
    log_tail = math.log(2 / (1 - math.sqrt(level)))
    up, aside = (math.sqrt(log_tail / (2 * side.size)) for side in (high, low))
    curve, grid = roc(high, low), np.linspace(0, 1, points)

    def tpr(at: Floats) -> Floats:
        return np.asarray(curve.tpr[np.searchsorted(curve.fpr, at, side="right") - 1], dtype=np.float64)

    below = np.where(grid - aside >= 0, tpr(np.maximum(grid - aside, 0)) - up, 0.0)
    above = np.where(grid + aside <= 1, tpr(np.minimum(grid + aside, 1)) + up, 1.0)
    return RocBand(fpr=grid, low=np.clip(below, 0, 1), high=np.clip(above, 0, 1), level=level)


def auc(members: ArrayLike, nonmembers: ArrayLike, level: float = 0.95) -> Bounds:
    """Area with DeLong's variance (1988, eq. 3 to 5), the interval taken on the logit scale to stay inside [0, 1].

    When the two sets are wholly separated that variance is 0: the limits are then None with a reason.
    """
    if not 0 < level < 1:
        raise CheckBroken("a level in (0, 1) expected", got=str(level))
    high, low = _both(members, nonmembers)
    ranks = stats.rankdata(np.concatenate([high, low]))
    wins_of_members = (ranks[: high.size] - stats.rankdata(high)) / low.size
    wins_of_others = 1 - (ranks[high.size :] - stats.rankdata(low)) / high.size
    area, method = float(wins_of_members.mean()), "DeLong, logit"
    if high.size < 2 or low.size < 2:
        return Bounds(estimate=area, low=None, high=None, level=level, method=method, reason="fewer than 2 records")
    variance = float(wins_of_members.var(ddof=1) / high.size + wins_of_others.var(ddof=1) / low.size)
    if variance <= 0 or not 0 < area < 1:
        reason = "the two sets are wholly separated or wholly tied, so the variance of the area is not estimable"
        return Bounds(estimate=area, low=None, high=None, level=level, method=method, reason=reason)
    half = float(special.ndtri(1 - (1 - level) / 2)) * math.sqrt(variance) / (area * (1 - area))
    centre = math.log(area / (1 - area))
    bounds = special.expit(np.array([centre - half, centre + half]))
    return Bounds(estimate=area, low=float(bounds[0]), high=float(bounds[1]), level=level, method=method)


def tpr_at_fpr(members: ArrayLike, nonmembers: ArrayLike, fpr: float, level: float = 0.95) -> Bounds:
    """Share of members above the lowest threshold whose realised FPR does not exceed `fpr`; Clopper-Pearson interval.

    The threshold is read from the nonmembers, so the interval is that of the share at this threshold.
    """
    high, low = _both(members, nonmembers)
    if not 0 <= fpr < 1:
        raise CheckBroken("a false-positive rate in [0, 1) expected", got=str(fpr))
    allowed = math.floor(fpr * low.size + 1e-9)
    threshold = np.sort(low)[::-1][allowed]
    return clopper_pearson(int((high > threshold).sum()), high.size, level)


def histogram(scores: ArrayLike, *, bins: int = 30, least: int = MIN_IN_BIN) -> Histogram | None:
    """Counts on a round grid, neighbours merged until each bin holds at least `least`; None below `least` records."""
    values = finite("scores", scores, (None,))
    if bins < 1 or least < 1:
        raise CheckBroken("at least one bin and one record a bin expected", got=f"{bins} and {least}")
    if values.size < least:
        return None
    step = _round_step(max(float(np.ptp(values)) / bins, _RESOLUTION * float(np.abs(values).max())))
    first = math.floor(float(values.min()) / step)
    last = max(first + 1, math.ceil(float(values.max()) / step + 1e-9))
    grid: Floats = np.arange(first, last + 1, dtype=np.float64) * step
    counts = np.histogram(values, bins=grid)[0]
    keep = _merged(counts, least)
    return Histogram(edges=grid[keep], counts=np.add.reduceat(counts, keep[:-1]).astype(np.int64), n=values.size)


def _round_step(width: float) -> float:
    """The next of 1, 2, 5 times a power of ten; 1 when there is no width."""
    if not width > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(width))
    return next(k * power for k in (1, 2, 5, 10) if k * power >= width * (1 - 1e-9))


def _merged(counts: NDArray[np.int64], least: int) -> list[int]:
    """Indices of the grid edges that stay, so that every bin between them holds at least `least`."""
    keep, held = [0], 0
    for index, count in enumerate(counts):
        held += int(count)
        if held >= least:
            keep.append(index + 1)
            held = 0
    if keep[-1] != len(counts):
        if len(keep) > 1:
            keep.pop()
        keep.append(len(counts))
    return keep


def _both(members: ArrayLike, nonmembers: ArrayLike) -> tuple[Floats, Floats]:
    high, low = finite("members", members, (None,)), finite("nonmembers", nonmembers, (None,))
    if not (high.size and low.size):
        raise CheckBroken("members and nonmembers expected", got=f"{high.size} and {low.size}")
    return high, low
