"""Whole simulated runs of the three-arm test on honest Gaussian pairs, any n at once.

Means, covariances, skewness and counts of runs are all that the verdict of VERDICTS section 3 looks at. For Gaussian
pairs the mean is Gaussian, the covariance Wishart (Bartlett 1933) and the skewness independent of both (Basu 1955), so a
run is drawn from those laws and not pair by pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from expunge.stats.arrays import Bools, Floats
from expunge.stats.threearm import GAP_ALPHA
from expunge.stats.verdict import Further


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """`means` (runs, S, 3) and `covariances` (runs, S, 3, 3) of O, I, X around true means of 0; `skew` (runs, S, 2) of
    the two contrasts, `uniform` (runs, S); `covariance` (3, 3) is the true one, in units of var(O)."""

    means: Floats
    covariances: Floats
    skew: Floats
    uniform: Floats
    covariance: Floats
    pairs: int


def draw_runs(covariance: Floats, *, signals: int, correlation: float, pairs: int, seed: int, runs: int) -> Draws:
    """Runs of n pairs on S signals that correlate by one number. Raises nothing: the caller checked."""
    factor, rng = _factor(covariance, signals, correlation), np.random.default_rng(seed)
    size, n = factor.shape[0], pairs
    means = rng.standard_normal((runs, size)) @ factor.T / math.sqrt(n)
    scatter = (factor @ _wishart_root(size, n - 1, runs, rng)).reshape(runs, signals, 3, -1)
    variance = 6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3))  # of the sample skewness of n Gaussians
    return Draws(
        means=means.reshape(runs, signals, 3),
        covariances=scatter @ scatter.transpose(0, 1, 3, 2) / (n - 1),
        skew=rng.standard_normal((runs, signals, 2)) * math.sqrt(variance),
        uniform=rng.random((runs, signals)),
        covariance=covariance,
        pairs=n,
    )


def _factor(covariance: Floats, signals: int, correlation: float) -> Floats:
    """(3S, 3S) root of the covariance of (O₁, I₁, X₁, O₂, …)."""
    floor = -1 / (signals - 1) if signals > 1 else 0.0
    between = np.full((signals, signals), float(np.clip(correlation, floor, 1.0)))
    np.fill_diagonal(between, 1.0)
    values, vectors = np.linalg.eigh(np.kron(between, covariance))
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), dtype=np.float64)


def _wishart_root(size: int, freedom: int, runs: int, rng: np.random.Generator) -> Floats:
    """(runs, size, ·) roots of Wishart(freedom, 1) matrices: Bartlett triangles, or plain draws at small freedom."""
    if freedom < size:
        return rng.standard_normal((runs, size, freedom))
    root = np.tril(rng.standard_normal((runs, size, size)), -1)
    diagonal = np.arange(size)
    root[:, diagonal, diagonal] = np.sqrt(rng.chisquare(freedom - diagonal, size=(runs, size)))
    return root


def shown(
    drawn: Draws,
    *,
    margin: float,
    alphas: tuple[float, float],
    gap: float,
    residual: float,
    further: Further | None,
) -> Bools:
    """(runs, S): whether the signal passes. `alphas` are of the contrasts and of the assay.

    `gap` is E(I − O) in SD of O, `residual` the true r.
    """
    t = margin
    means = drawn.means + np.array([0.0, gap, residual * gap])
    right = _beyond(drawn, means, np.array([-1.0, 1.0, 0.0]), alphas[1], None)
    right &= _beyond(drawn, means, -np.array([t - 1, -t, 1.0]), alphas[0], -drawn.skew[..., 0])
    right &= _beyond(drawn, means, np.array([-1 - t, t, 1.0]), alphas[0], drawn.skew[..., 1])
    if further is None:
        return right
    right &= _close(drawn, means, further.absolute, float(special.ndtri(1 - alphas[0])))
    right &= _varies_alike(drawn, further)
    distance, half = _standardised(drawn, means, 1, float(special.ndtri(1 - GAP_ALPHA)))
    narrow = distance + half < further.midpoint_gap
    return np.asarray(right & (_few(drawn, gap, residual, further) | narrow), dtype=np.bool_)


def _beyond(drawn: Draws, means: Floats, weights: Floats, alpha: float, skew: Floats | None) -> Bools:
    """Whether a contrast is shown to be above 0: Student's t, and Hall's transform where a skewness is given."""
    n, bar = drawn.pairs, float(special.stdtrit(drawn.pairs - 1, 1 - alpha))
    variance = np.einsum("a,rsab,b->rs", weights, drawn.covariances, weights)
    t = means @ weights / np.sqrt(np.maximum(variance, 1e-300) / n)
    found = t > bar
    if skew is None:
        return np.asarray(found, dtype=np.bool_)
    bent = t + skew * t**2 / (3 * math.sqrt(n)) + skew**2 * t**3 / (27 * n) + skew / (6 * math.sqrt(n))
    return np.asarray(found & (bent > bar), dtype=np.bool_)


def _close(drawn: Draws, means: Floats, bound: float, bar: float) -> Bools:
    """|X − O| < bound SD of O."""
    distance, half = _standardised(drawn, means, 2, bar)
    return np.asarray((distance - half > -bound) & (distance + half < bound), dtype=np.bool_)


def _standardised(drawn: Draws, means: Floats, arm: int, bar: float) -> tuple[Floats, Floats]:
    """(arm − O) in SD of O and half its interval: the normal limit of the non-central t, exact at a distance of 0."""
    c, n = drawn.covariances, drawn.pairs
    unit = c[..., 0, 0]
    distance = (means[..., arm] - means[..., 0]) / np.sqrt(unit)
    spread = np.maximum(unit + c[..., arm, arm] - 2 * c[..., 0, arm], 0.0) / unit
    return distance, bar * np.sqrt(spread / n + distance**2 / (2 * (n - 1)))


def _varies_alike(drawn: Draws, further: Further) -> Bools:
    """The Pitman-Morgan interval of var(X)/var(O) lies in the band."""
    c, n = drawn.covariances, drawn.pairs
    ratio = c[..., 2, 2] / c[..., 0, 0]
    alike = c[..., 0, 2] ** 2 / np.maximum(c[..., 0, 0] * c[..., 2, 2], 1e-300)
    t = float(special.stdtrit(n - 2, 1 - (1 - further.level) / 2))
    k = 1 + 2 * np.maximum(0.0, 1 - alike) * t * t / (n - 2)
    root = np.sqrt(np.maximum(k * k - 1, 0.0))
    return np.asarray((ratio * (k - root) > further.band[0]) & (ratio * (k + root) < further.band[1]), dtype=np.bool_)


def _few(drawn: Draws, gap: float, residual: float, further: Further) -> Bools:
    """Whether few enough runs lie beyond the midpoint: a binomial count at the true probability of one."""
    c, n = drawn.covariance, drawn.pairs
    middle = (c[0, 0] + c[1, 1] + 2 * c[0, 1]) / (4 * (n - 1))
    beyond = float(special.ndtr((residual - 0.5) * gap / math.sqrt(max(c[2, 2] + middle, 1e-300))))
    most = int(_most_hits(n, further.share, further.level))
    return np.asarray(drawn.uniform <= (special.bdtr(most, n, beyond) if most >= 0 else -1.0), dtype=np.bool_)


def _most_hits(pairs: int, share: float, level: float) -> int:
    """The most hits of n whose one-sided upper limit is at most `share`; −1 when not even 0 is."""
    low, high = -1, pairs
    while high - low > 1:
        middle = (low + high) // 2
        upper = float(special.betaincinv(middle + 1, pairs - middle, level))
        low, high = (middle, high) if upper <= share else (low, middle)
    return low
