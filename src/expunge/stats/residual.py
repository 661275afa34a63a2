"""How far a model is from its retraining, in units of how far the model that was left as it is would be."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import finite


def residual_ratio(candidate: ArrayLike, original: ArrayLike, retrained: ArrayLike) -> float:
    """|candidate - retrained| / |original - retrained|, Euclidean over scores (B, I) of the same histories and items.

    0: answers as if the data had never been seen; 1: as if nothing had been done; above 1: worse than doing nothing.
    Scores and not factors are compared, because factors may turn without any answer changing. Raises CheckBroken on
    other shapes, NaN, or when original and retrained answer alike: then there is nothing to remove.
    """
    shape = np.shape(retrained)
    mine, before, ideal = (
        finite(name, array, shape)
        for name, array in (("candidate", candidate), ("original", original), ("retrained", retrained))
    )
    whole = float(np.linalg.norm(before - ideal))
    if whole == 0:
        raise CheckBroken("the original answers like its retraining", expected="a difference that could be removed")
    return float(np.linalg.norm(mine - ideal)) / whole
