"""How many complement pairs a verdict needs, by simulation with the pilot's covariance and the number of signals.

A closed form on one contrast under-sizes by a third or more, because passing needs both contrasts, the assay and all
signals at once, and the further conditions of VERDICTS section 3 more again. `stats.draws` draws whole runs of any n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite
from expunge.stats.draws import Draws, Passing, draw_runs
from expunge.stats.intervals import constant
from expunge.stats.verdict import Further

RUNS = 4000
MAX_PAIRS = 1_000_000
"""Where the search for n stops; needing more is reported as None."""
_SMALLEST_GAP, _LARGEST_GAP, _STEP = 0.02, 1000.0, 1.15
_LEAST_PAIRS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What is planned for.

    margin: t, share of the gap. alpha: per side, and for the assay. fail_alpha: level at which the no-op control must
    be refused; for the assay the smaller of the two decides. power: wanted probability that an exact unlearner passes
    all signals. signals S, and the mean correlation of their pair contrasts. covariance (3, 3): of O, I, X within a
    pair, in units of var(O). further: the conditions beside r that a pass also needs; None plans for r alone.
    """

    margin: float
    alpha: float
    power: float
    signals: int
    correlation: float
    covariance: Floats
    fail_alpha: float | None = None
    further: Further | None = None

    def __post_init__(self) -> None:
        finite("design covariance", self.covariance, (3, 3))
        if not np.isfinite(self.correlation):
            raise CheckBroken("a correlation between signals expected", got=str(self.correlation))
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
    if not (np.isfinite(gap) and np.isfinite(residual)):
        raise CheckBroken("a finite gap and residual expected", got=f"{gap} and {residual}")
    return _passing(design, _draw(design, pairs, seed, runs))(gap, residual)


def needed_pairs(design: Design, *, gap: float, seed: int, most: int = MAX_PAIRS, runs: int = RUNS) -> int | None:
    """Smallest n with the wanted power at this gap; None when above `most` or when the gap is not positive."""
    if not gap > 0:
        return None

    def enough(n: int) -> bool:
        return power_at(design, pairs=n, gap=gap, seed=seed, runs=runs) >= design.power

    low, high = _LEAST_PAIRS - 1, 4
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
    """Smallest gap, in SD of O, that n pairs decide with the wanted power; None when no gap is large enough.

    Power need not grow with the gap once the share of bad runs is asked for (from 4 SD on), so a grid is walked.
    """
    share = _passing(design, _draw(design, pairs, seed, runs))

    def enough(gap: float) -> bool:
        return share(gap, 0.0) >= design.power

    step = 2.0 if design.further is None else _STEP
    high = next((gap for gap in _gaps(step) if enough(gap)), None)
    if high is None:
        return None
    low = high / step
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _gaps(step: float) -> Iterator[float]:
    gap = _SMALLEST_GAP
    while gap <= _LARGEST_GAP:
        yield gap
        gap *= step


def _draw(design: Design, pairs: int, seed: int, runs: int) -> Draws:
    if pairs < _LEAST_PAIRS:
        raise CheckBroken(f"power needs at least {_LEAST_PAIRS} pairs", got=str(pairs))
    covariance = np.asarray(design.covariance, dtype=np.float64)
    return draw_runs(
        covariance, signals=design.signals, correlation=design.correlation, pairs=pairs, seed=seed, runs=runs
    )


def _passing(design: Design, drawn: Draws) -> Callable[[float, float], float]:
    """Share of simulated runs in which everything comes out right on all signals, at a gap and a true residual."""
    alphas = (design.alpha, min(design.fail_alpha or design.alpha, design.alpha))
    passing = Passing(drawn, margin=design.margin, alphas=alphas, further=design.further)
    return lambda gap, residual: float(passing(gap, residual).all(axis=1).mean())
