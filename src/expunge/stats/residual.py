"""How far a model is from its retraining, in units of how far the model that was left as it is would be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import finite


@dataclass(slots=True)
class ResidualSums:
    """Squared distances to a retraining, added up over as many histories at a time as memory has room for."""

    candidate: float = 0.0
    original: float = 0.0

    def add(self, candidate: ArrayLike, original: ArrayLike, retrained: ArrayLike) -> None:
        """Scores (B, I) of some more histories. Raises CheckBroken on other shapes or NaN."""
        shape = np.shape(retrained)
        mine, before, ideal = (
            finite(name, array, shape)
            for name, array in (("candidate", candidate), ("original", original), ("retrained", retrained))
        )
        self.candidate += float(np.square(mine - ideal).sum())
        self.original += float(np.square(before - ideal).sum())

    @property
    def ratio(self) -> float | None:
        """See `residual_ratio`; None where original and retraining answer alike."""
        return float(np.sqrt(self.candidate / self.original)) if self.original else None


def residual_ratio(candidate: ArrayLike, original: ArrayLike, retrained: ArrayLike) -> float:
    """|candidate - retrained| / |original - retrained|, Euclidean over scores (B, I) of the same histories and items.

    0: answers as if the data had never been seen; 1: as if nothing had been done; above 1: worse than doing nothing.
    Scores and not factors are compared, because factors may turn without any answer changing. Raises CheckBroken on
    other shapes, NaN, or when original and retrained answer alike: then there is nothing to remove.
    """
    sums = ResidualSums()
    sums.add(candidate, original, retrained)
    if sums.ratio is None:
        raise CheckBroken("the original answers like its retraining", expected="a difference that could be removed")
    return sums.ratio
