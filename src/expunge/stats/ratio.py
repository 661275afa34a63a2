"""How much likelier a model's score is among IN than among OUT models, said no stronger than n models can say it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite
from expunge.stats.intervals import constant

_LEAST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodRatio:
    """IN:OUT. `ratio` lies in [1/n, n]; `capped` says that the densities claimed more than n models can support."""

    ratio: float
    capped: bool
    n: int

    def words(self) -> str:
        """`1:12 or lower, capped by n = 12`, `3.2:1`."""
        side = f"{self.ratio:.3g}:1" if self.ratio >= 1 else f"1:{1 / self.ratio:.3g}"
        return f"{side}, capped by n = {self.n}" if self.capped else side


def likelihood_ratio(value: float, into: ArrayLike, out: ArrayLike) -> LikelihoodRatio:
    """Student predictive density of one score under n IN models over that under n OUT models (Geisser 1993, ch. 2).

    Capped at the smaller n, both ways: n models cannot show odds beyond n to 1 whatever curve is drawn through them.
    Raises CheckBroken on fewer than 3 models a side, NaN, or a side that does not vary.
    """
    sides = [finite(name, column, (None,)) for name, column in (("into", into), ("out", out))]
    n = min(side.size for side in sides)
    if n < _LEAST or not math.isfinite(value) or any(constant(side) for side in sides):
        raise CheckBroken(f"a ratio needs a finite value and {_LEAST} models a side that vary", got=f"n = {n}")
    logs = _log_predictive(value, sides[0]) - _log_predictive(value, sides[1])
    limit = math.log(n)
    return LikelihoodRatio(ratio=math.exp(min(max(logs, -limit), limit)), capped=abs(logs) > limit, n=n)


def typical_ratio(values: ArrayLike, into: ArrayLike, out: ArrayLike) -> LikelihoodRatio:
    """The ratio at the median run of the X arm, values (n,)."""
    column = finite("values", values, (None,))
    if not column.size:
        raise CheckBroken("a ratio needs a run")
    return likelihood_ratio(float(np.median(column)), into, out)


def _log_predictive(value: float, sample: Floats) -> float:
    n = sample.size
    scale = float(sample.std(ddof=1)) * math.sqrt(1 + 1 / n)
    t = (value - float(sample.mean())) / scale
    constant_part = float(special.gammaln(n / 2) - special.gammaln((n - 1) / 2)) - 0.5 * math.log((n - 1) * math.pi)
    return constant_part - math.log(scale) - n / 2 * math.log1p(t * t / (n - 1))
