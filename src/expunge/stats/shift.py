"""Do members score above nonmembers? A test that is exact where the two are exchangeable, whatever their distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One-sided p-values of Mann-Whitney: `above` small = members score higher, `below` small = they score lower."""

    above: float
    below: float
    n: int


def shift_test(members: ArrayLike, nonmembers: ArrayLike) -> Shift:
    """Mann and Whitney 1947; exact counts for small sets without ties, else Gaussian with tie and continuity correction.

    A significant `below` means that the direction of the scores is wrong, not that anybody is safe.
    """
    high, low = finite("members", members, (None,)), finite("nonmembers", nonmembers, (None,))
    if not (high.size and low.size):
        raise CheckBroken("members and nonmembers expected", got=f"{high.size} and {low.size}")
    if np.ptp(np.concatenate([high, low])) == 0:
        return Shift(above=1.0, below=1.0, n=high.size + low.size)
    above, below = (
        float(stats.mannwhitneyu(high, low, alternative=side, method="auto").pvalue) for side in ("greater", "less")
    )
    return Shift(above=above, below=below, n=high.size + low.size)
