"""How many complement pairs a verdict needs, by simulation with the pilot's covariance and the number of signals.

A closed form on one contrast under-sizes by a third or more, because passing needs both contrasts, the assay and all
signals at once. Only means and covariances of the contrasts enter a t-test, so a run of any n is drawn at once: the
mean from its Gaussian and the covariance from its Wishart law (Bartlett 1933), not n pairs one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite
from expunge.stats.intervals import constant

RUNS = 4000
MAX_PAIRS = 1_000_000
"""Where the search for n stops; needing more is reported as None."""
_LARGEST_GAP = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What is planned for.

    margin: t, share of the gap. alpha: per side, and for the assay. fail_alpha: level at which the no-op control must
    be refused; for the assay the smaller of the two decides. power: wanted probability that an exact unlearner passes
    all signals. signals S, and the mean correlation of their pair contrasts. covariance (3, 3): of O, I, X within a
    pair, in units of var(O).
    """

    margin: float
    alpha: float
    power: float
    signals: int
    correlation: float
    covariance: Floats
    fail_alpha: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.margin < 1 and 0 < self.alpha < 0.5 and 0 < self.power < 1 and self.signals >= 1):
            raise CheckBroken("a design needs margin, alpha and power in (0, 1) and a signal", got=str(self)[:120])


def out_draw(out: ArrayLike, into: ArrayLike) -> Floats:
    """(3, 3) covariance in units of var(O) when no X was run: X is an OUT model of the IN model's half.

    X then varies like O and correlates with O as I does; its correlation with I is not known and set to 0.
    Raises CheckBroken when O does not vary.
    """
    pair = _pair_covariance(out, into)
    crossed = float(pair[0, 1])
    return _nearest(np.array([[1.0, crossed, crossed], [crossed, float(pair[1, 1]), 0.0], [crossed, 0.0, 1.0]]))


def measured(out: ArrayLike, into: ArrayLike, unlearned: ArrayLike) -> Floats:
    """(3, 3) covariance of O, I, X in units of var(O), as the pilot measured it."""
    return _pair_covariance(out, into, unlearned)


def _pair_covariance(*columns: ArrayLike) -> Floats:
    first = finite("arm 0", columns[0], (None,))
    rows = [finite(f"arm {k}", column, (first.size,)) for k, column in enumerate(columns)]
    if first.size < 3 or constant(first):
        raise CheckBroken("a pilot covariance needs at least 3 pairs and an O that varies", got=f"{first.size} pairs")
    covariance = np.cov(np.stack(rows), ddof=1)
    return np.asarray(covariance / covariance[0, 0], dtype=np.float64)


def _nearest(covariance: Floats) -> Floats:
    """The covariance with negative eigenvalues raised to 0: an assumed 0 may not fit two measured correlations."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T, dtype=np.float64)


def power_at(design: Design, *, pairs: int, gap: float, seed: int, residual: float = 0.0, runs: int = RUNS) -> float:
    """Probability that a method with this true residual passes every signal on n pairs.

    `gap` is E(I − O) in SD of O; residual 0 is an exact unlearner, 1 a no-op.
    """
    return _pass_share(design, _draw(design, pairs, seed, runs), gap, residual)


def needed_pairs(design: Design, *, gap: float, seed: int, most: int = MAX_PAIRS, runs: int = RUNS) -> int | None:
    """Smallest n with the wanted power at this gap; None when above `most` or when the gap is not positive."""
    if not gap > 0:
        return None

    def enough(n: int) -> bool:
        return power_at(design, pairs=n, gap=gap, seed=seed, runs=runs) >= design.power

    low, high = 2, 4
    while not enough(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    return int(_bisect_pairs(enough, low, high))


def _bisect_pairs(enough: Callable[[int], bool], low: int, high: int) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def minimum_detectable(design: Design, *, pairs: int, seed: int, runs: int = RUNS) -> float | None:
    """Smallest gap, in SD of O, that n pairs decide with the wanted power; None when no gap is large enough."""
    drawn = _draw(design, pairs, seed, runs)

    def enough(gap: float) -> bool:
        return _pass_share(design, drawn, gap, 0.0) >= design.power

    low, high = 0.0, 1.0
    while not enough(high):
        if high > _LARGEST_GAP:
            return None
        low, high = high, 2 * high
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Simulated samples of A = X − O and D = I − O: means (runs, S, 2) and covariances (runs, S, 3) as AA, AD, DD."""

    means: Floats
    covariances: Floats
    pairs: int


def _draw(design: Design, pairs: int, seed: int, runs: int) -> _Drawn:
    if pairs < 2:
        raise CheckBroken("power needs at least 2 pairs", got=str(pairs))
    factor, rng = _factor(design), np.random.default_rng(seed)
    size = factor.shape[0]
    means = rng.standard_normal((runs, size)) @ factor.T / np.sqrt(pairs)
    scatter = factor @ _wishart_root(size, pairs - 1, runs, rng)
    paired = scatter.reshape(runs, design.signals, 2, -1)
    cross = np.einsum("rsac,rsbc->rsab", paired, paired) / (pairs - 1)
    covariances = np.stack([cross[..., 0, 0], cross[..., 0, 1], cross[..., 1, 1]], axis=-1)
    return _Drawn(means.reshape(runs, design.signals, 2), covariances, pairs)


def _factor(design: Design) -> Floats:
    """(2S, 2S) root of the covariance of (A₁, D₁, A₂, D₂, …): equal signals that correlate by one number."""
    to_differences = np.array([[-1.0, 0.0, 1.0], [-1.0, 1.0, 0.0]])
    within = to_differences @ np.asarray(design.covariance, dtype=np.float64) @ to_differences.T
    floor = -1 / (design.signals - 1) if design.signals > 1 else 0.0
    rho = float(np.clip(design.correlation, floor, 1.0))
    between = np.full((design.signals, design.signals), rho)
    np.fill_diagonal(between, 1.0)
    values, vectors = np.linalg.eigh(np.kron(between, within))
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), dtype=np.float64)


def _wishart_root(size: int, freedom: int, runs: int, rng: np.random.Generator) -> Floats:
    """(runs, size, ·) roots of Wishart(freedom, 1) matrices: Bartlett triangles, or plain draws at small freedom."""
    if freedom < size:
        return rng.standard_normal((runs, size, freedom))
    root = np.tril(rng.standard_normal((runs, size, size)), -1)
    diagonal = np.arange(size)
    root[:, diagonal, diagonal] = np.sqrt(rng.chisquare(freedom - diagonal, size=(runs, size)))
    return root


def _pass_share(design: Design, drawn: _Drawn, gap: float, residual: float) -> float:
    """Share of simulated runs in which assay, both contrasts and the no-op control come out right on all signals."""
    t, n = design.margin, drawn.pairs
    a, d = drawn.means[..., 0] + residual * gap, drawn.means[..., 1] + gap
    aa, ad, dd = (drawn.covariances[..., k] for k in range(3))
    pass_bar = float(special.stdtrit(n - 1, 1 - design.alpha))
    assay_bar = float(special.stdtrit(n - 1, 1 - min(design.fail_alpha or design.alpha, design.alpha)))
    minus_error = np.sqrt(np.maximum(aa - 2 * t * ad + t * t * dd, 0.0) / n)
    plus_error = np.sqrt(np.maximum(aa + 2 * t * ad + t * t * dd, 0.0) / n)
    right = (
        (d > assay_bar * np.sqrt(dd / n)) & (a - t * d < -pass_bar * minus_error) & (a + t * d > pass_bar * plus_error)
    )
    return float(right.all(axis=1).mean())
