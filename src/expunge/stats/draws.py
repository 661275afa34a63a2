"""Whole simulated runs of the three-arm test on honest Gaussian pairs, any n at once.

Means, covariances, skewness and counts of runs are all that the verdict of VERDICTS section 3 looks at. For Gaussian
pairs the mean is Gaussian, the covariance Wishart (Bartlett 1933) and the skewness independent of both (Basu 1955), so a
run is drawn from those laws and not pair by pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

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
    factor, n = _factor(covariance, signals, correlation), pairs
    standard = _standard(signals, n, seed, runs)
    means = standard.means @ factor.T / math.sqrt(n)
    scatter = (factor @ standard.root).reshape(runs, signals, 3, -1)
    variance = 6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3))  # of the sample skewness of n Gaussians
    return Draws(
        means=means.reshape(runs, signals, 3),
        covariances=scatter @ scatter.transpose(0, 1, 3, 2) / (n - 1),
        skew=standard.skew * math.sqrt(variance),
        uniform=standard.uniform,
        covariance=covariance,
        pairs=n,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standard:
    """The same draws before they got a covariance: `means` (runs, 3S), `root` (runs, 3S, ·), `skew`, `uniform`."""

    means: Floats
    root: Floats
    skew: Floats
    uniform: Floats


@lru_cache(maxsize=16)
def _standard(signals: int, pairs: int, seed: int, runs: int) -> _Standard:
    """Kept, because every signal of a judgement is planned with the same seed at the same n; 3 MB each at 4,000 runs."""
    rng = np.random.default_rng(seed)
    found = _Standard(
        means=rng.standard_normal((runs, 3 * signals)),
        root=_wishart_root(3 * signals, pairs - 1, runs, rng),
        skew=rng.standard_normal((runs, signals, 2)),
        uniform=rng.random((runs, signals)),
    )
    for array in (found.means, found.root, found.skew, found.uniform):
        array.setflags(write=False)
    return found


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


class Passing:
    """Which runs pass, as a function of the truth; what does not depend on it is computed once.

    `alphas` are of the contrasts and of the assay.
    """

    def __init__(self, drawn: Draws, *, margin: float, alphas: tuple[float, float], further: Further | None) -> None:
        self._drawn, self._alpha, self._further = drawn, alphas[0], further
        t = margin
        self._contrasts = (
            _Contrast(drawn, (-1.0, 1.0, 0.0), alphas[1], None),
            _Contrast(drawn, (1 - t, t, -1.0), alphas[0], -drawn.skew[..., 0]),
            _Contrast(drawn, (-1 - t, t, 1.0), alphas[0], drawn.skew[..., 1]),
        )
        self._varies_alike = None if further is None else _varies_alike(drawn, further)

    def __call__(self, gap: float, residual: float) -> Bools:
        """(runs, S): whether the signal passes when E(I − O) is `gap` SD of O and the true r is `residual`."""
        right = self._contrasts[0].above(gap, residual)
        for contrast in self._contrasts[1:]:
            right &= contrast.above(gap, residual)
        further, drawn, alike = self._further, self._drawn, self._varies_alike
        if further is None or alike is None or not right.any():
            return right
        means = drawn.means + np.array([0.0, gap, residual * gap])
        right &= _close(drawn, means, further.absolute, float(special.ndtri(1 - self._alpha)))
        right &= alike
        distance, half = _standardised(drawn, means, 1, float(special.ndtri(1 - GAP_ALPHA)))
        narrow = distance + half < further.midpoint_gap
        return np.asarray(right & (_few(drawn, gap, residual, further) | narrow), dtype=np.bool_)


class _Contrast:
    """A weighted sum of O, I and X: Student's t, and Hall's transform where a skewness is given."""

    def __init__(self, drawn: Draws, weights: tuple[float, float, float], alpha: float, skew: Floats | None) -> None:
        n, w = drawn.pairs, np.array(weights)
        variance = np.einsum("a,rsab,b->rs", w, drawn.covariances, w)
        self._scale = np.sqrt(np.maximum(variance, 1e-300) / n)
        self._base, self._weights, self._skew, self._pairs = drawn.means @ w, weights, skew, n
        self._bar = float(special.stdtrit(n - 1, 1 - alpha))

    def above(self, gap: float, residual: float) -> Bools:
        """Whether the contrast is shown to be above 0."""
        t = (self._base + gap * (self._weights[1] + residual * self._weights[2])) / self._scale
        found, n, skew = t > self._bar, self._pairs, self._skew
        if skew is None:
            return np.asarray(found, dtype=np.bool_)
        bent = t + skew * t**2 / (3 * math.sqrt(n)) + skew**2 * t**3 / (27 * n) + skew / (6 * math.sqrt(n))
        return np.asarray(found & (bent > self._bar), dtype=np.bool_)


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
