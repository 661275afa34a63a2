"""One value among n anchors: exact conformal rank, t-prediction, what they could have detected, and calibration.

Higher = more likely a member; side "above" asks whether the value is too member-like to be one of the anchors,
"below" whether it is too low. The rank is exact for exchangeable values but cannot fall under 1/(n + 1); the
t-prediction form goes lower at the price of a Gaussian (measured on digits, n = 8…64: 1.4-1.5 % at nominal 1 %).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite
from expunge.stats.intervals import clopper_pearson, constant

Side = Literal["above", "below"]
MIN_ANCHORS = 19
"""Anchors at which the rank floor reaches .05."""
_SIMULATIONS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """p-values of one value among n anchors, one side. `p` decides; `prediction` is None when the anchors are constant.

    p equals the prediction p-value only where the value lies beyond every anchor; elsewhere it is not below the rank.
    So an outlier that a heavy tail explains is never rejected more often than 1/(n + 1), whatever the tail, at any
    alpha below that. Realised levels are in `benchmarks/null_rates`.
    """

    rank: float
    prediction: float | None
    p: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniformity:
    """Whether p-values on records nobody trained on look uniform: `distance` is Kolmogorov-Smirnov against the grid."""

    distance: float
    limit: float
    share_below: float
    share_low: float
    share_high: float
    calibrated: bool
    n: int


def rank_p_value(value: float, anchors: ArrayLike, side: Side = "above") -> float:
    """p = (1 + #{anchors at least as extreme}) / (n + 1); ties count against rejecting (Vovk et al. 2005, eq. 2.20)."""
    column = finite("anchors", anchors, (None,))
    return float(rank_p_values(np.array([value]), column[:, None], side)[0])


def rank_p_values(values: ArrayLike, anchors: ArrayLike, side: Side = "above") -> Floats:
    """The same for Z records at once: values (Z,), anchors (n, Z), p-values (Z,)."""
    row = finite("values", values, (None,))
    table = finite("anchors", anchors, (None, row.size))
    if not table.shape[0]:
        raise CheckBroken("a rank needs at least one anchor")
    extreme = table >= row if side == "above" else table <= row
    return np.asarray((1 + extreme.sum(axis=0)) / (table.shape[0] + 1), dtype=np.float64)


def distance(value: float, anchors: ArrayLike) -> float | None:
    """(value − mean) / (s·√(1 + 1/n)): t-distributed with n − 1 degrees of freedom for one more Gaussian anchor."""
    column = finite("anchors", anchors, (None,))
    if column.size < 2 or constant(column):
        return None
    return (value - float(column.mean())) / (float(column.std(ddof=1)) * math.sqrt(1 + 1 / column.size))


def prediction_p_value(value: float, anchors: ArrayLike, side: Side = "above") -> float | None:
    """One-sided p-value of that distance; None when there are fewer than 2 anchors or they are constant."""
    column = finite("anchors", anchors, (None,))
    t = distance(value, column)
    if t is None:
        return None
    return float(special.stdtr(column.size - 1, -t if side == "above" else t))


def ranked(value: float, anchors: ArrayLike, side: Side = "above") -> Ranked:
    """Both p-values and the one that decides. Raises CheckBroken on NaN or no anchors."""
    if not math.isfinite(value):
        raise CheckBroken("the value to be ranked is not finite", got=str(value))
    column = finite("anchors", anchors, (None,))
    rank, prediction = rank_p_value(value, column, side), prediction_p_value(value, column, side)
    beyond = rank <= 1 / (column.size + 1)
    if prediction is None:
        p = rank
    else:
        p = prediction if beyond else max(rank, prediction)
    return Ranked(rank=rank, prediction=prediction, p=p, n=column.size)


def ranked_p_values(values: ArrayLike, anchors: ArrayLike, side: Side = "above") -> Floats:
    """The deciding p-value of `ranked` for B values at once: values (B,), anchors (B, n), p (B,)."""
    row = finite("values", values, (None,))
    table = finite("anchors", anchors, (row.size, None))
    n = table.shape[1]
    rank = rank_p_values(row, table.T, side)
    spread = table.std(axis=1, ddof=1) if n > 1 else np.zeros(row.size)
    flat = np.ptp(table, axis=1) <= 1e-12 * np.maximum(1.0, np.abs(table).max(axis=1))
    t = (row - table.mean(axis=1)) / (np.where(flat, 1.0, spread) * math.sqrt(1 + 1 / n))
    prediction = special.stdtr(max(n - 1, 1), -t if side == "above" else t)
    beyond = rank <= 1 / (n + 1)
    decided = np.where(beyond, prediction, np.maximum(rank, prediction))
    return np.asarray(np.where(flat, rank, decided), dtype=np.float64)


def rank_e_value(value: float, anchors: ArrayLike, side: Side = "above", tilt: float = 2.0) -> float:
    """E-value of one value among n anchors: exp(tilt·z) of the value over its mean among all n + 1 of them.

    z are the values in standard deviations of all n + 1, so every one of them is treated alike and the mean of the
    e-value is exactly 1 when they are exchangeable (Vovk, Gammerman and Shafer 2022, conformal e-testing); it cannot
    exceed n + 1, as the rank cannot fall below 1/(n + 1). 1 when nothing varies.
    """
    if not (math.isfinite(value) and math.isfinite(tilt) and 0 < tilt <= 100):
        raise CheckBroken("a finite value and a tilt in (0, 100] expected", got=f"{value} and {tilt}")
    column = finite("anchors", anchors, (None,))
    if not column.size:
        raise CheckBroken("a rank needs at least one anchor")
    pool = finite("value and anchors", np.append(value, column), (None,))
    if constant(pool):
        return 1.0
    z = (pool - pool.mean()) / pool.std() * (tilt if side == "above" else -tilt)
    weight = np.exp(z - z.max())
    return float(weight[0] / weight.mean())


def leave_one_out(anchors: ArrayLike, side: Side = "above") -> tuple[Ranked, ...]:
    """Each anchor ranked among the others: placebos, since every one of them is honest."""
    column = finite("anchors", anchors, (None,))
    if column.size < 2:
        raise CheckBroken("placebos need at least 2 anchors", got=str(column.size))
    return tuple(ranked(float(column[k]), np.delete(column, k), side) for k in range(column.size))


def detectable_shift(anchors: int, *, alpha: float, power: float, seed: int) -> float:
    """Smallest shift, in SD of Gaussian anchors, that the deciding p-value finds at `alpha` with this power.

    By simulation of the whole rule: how far each of 20,000 honest values would have to be moved to be rejected. It must
    pass the bar of the t-prediction and as many anchors as make the rank reach alpha (all of them, where none would).
    """
    if anchors < 2 or not (0 < alpha < 1 and 0 < power < 1):
        raise CheckBroken(
            "at least 2 anchors, alpha and power in (0, 1) expected", got=f"{anchors}, {alpha} and {power}"
        )
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((_SIMULATIONS, anchors))
    honest = rng.standard_normal(_SIMULATIONS)
    bar = float(special.stdtrit(anchors - 1, 1 - alpha)) * math.sqrt(1 + 1 / anchors)
    threshold = table.mean(axis=1) + bar * table.std(axis=1, ddof=1)
    kth = min(max(math.floor(alpha * (anchors + 1) + 1e-9), 1), anchors)  # values above the k-th largest have rank k
    threshold = np.maximum(threshold, np.partition(table, anchors - kth, axis=1)[:, anchors - kth])
    return float(np.quantile(threshold - honest, power))


def uniformity(
    p_values: ArrayLike, *, anchors: int, seed: int, at: float = 0.05, level: float = 0.99, runs: int = 4000
) -> Uniformity:
    """Are rank p-values on never-trained records uniform on {1, …, n + 1}/(n + 1)? If not, this null must not be used.

    Two bands, both at `level`: Kolmogorov-Smirnov by simulation of independent records, and the exact binomial
    (Clopper-Pearson) share of p-values at most `at`. Records that one model scores are dependent, which widens the
    truth: the band can refuse a good null, it does not let a bad one through. `population_p_value` asks the placebos.
    """
    values = finite("p-values", p_values, (None,))
    if values.size < 20:
        raise CheckBroken("uniformity needs at least 20 never-trained records", got=str(values.size))
    if values.min() <= 0 or values.max() > 1 or anchors < 1 or runs < 1 or not (0 < at < 1 and 0 < level < 1):
        raise CheckBroken("p-values in (0, 1] of at least one anchor expected", got=f"{anchors} anchors")
    cells = anchors + 1
    rng = np.random.default_rng(seed)
    simulated = rng.multinomial(values.size, np.full(cells, 1 / cells), size=runs).cumsum(axis=1) / values.size
    null = np.abs(simulated - np.arange(1, cells + 1) / cells).max(axis=1)
    limit, found = float(np.quantile(null, level)), uniform_distance(values, anchors)
    nominal = math.floor(at * cells + 1e-9) / cells
    share = clopper_pearson(int((values <= nominal + 1e-12).sum()), values.size, level)
    low, high = share.low or 0.0, 1.0 if share.high is None else share.high
    return Uniformity(
        distance=found,
        limit=limit,
        share_below=share.estimate or 0.0,
        share_low=low,
        share_high=high,
        calibrated=found <= limit and low <= nominal <= high,
        n=values.size,
    )


def uniform_distance(p_values: Floats, anchors: int) -> float:
    """Kolmogorov-Smirnov distance of p-values from the uniform law on {1, …, n + 1}/(n + 1)."""
    if not p_values.size or anchors < 1 or p_values.min() < 0 or p_values.max() > 1:
        raise CheckBroken(
            "p-values in [0, 1] of at least one anchor expected", got=f"{p_values.size}, {anchors} anchors"
        )
    cells = anchors + 1
    counts = np.bincount(np.rint(p_values * cells).astype(np.int64), minlength=cells + 1)[1 : cells + 1]
    return float(np.abs(counts.cumsum() / p_values.size - np.arange(1, cells + 1) / cells).max())


def population_p_value(candidate: ArrayLike, anchors: ArrayLike) -> float:
    """Is the candidate one of the anchors on Z never-trained records? candidate (Z,), anchors (n, Z).

    The distance from uniformity of its per-record ranks, ranked among the same distance of every anchor left out in
    turn, so that records sharing a model may depend as they like.
    """
    row = finite("candidate", candidate, (None,))
    table = finite("anchors", anchors, (None, row.size))
    if not table.size:
        raise CheckBroken("anchors and never-trained records expected", got=str(table.shape))
    stack = np.concatenate([row[None, :], table])
    order = stats.rankdata(-stack, method="max", axis=0)  # how many are at least as large: ties treat all alike
    distances = [uniform_distance(order[k] / stack.shape[0], table.shape[0]) for k in range(stack.shape[0])]
    return rank_p_value(distances[0], np.array(distances[1:]))
