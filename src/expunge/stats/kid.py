"""How far apart the pictures of two models are: the kernel distance of Binkowski et al. 2018 (arXiv 1801.01401), and Fréchet's.

Both compare numbers of pictures, features (n, d), and whose features they are is for the caller to say: figures of two feature
spaces cannot be compared, and those published as KID and FID are of Inception's. The kernel distance decides, because its
estimate is unbiased at every n; the Fréchet distance is above 0 for two samples of one model, the more so the smaller n is
(Binkowski et al., section 4 and appendix D), and is only reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.spending import LEVEL

BLOCK = 20
"""Pictures in a block; a few more where they do not come out even."""

Features = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """A squared kernel distance, 0 = the same distribution, with its standard `error` from `blocks` blocks of `n` pictures in all
    and one-sided limits: the lower one at 95 %, the upper one at the level that was asked for. The estimate is unbiased, so it
    may be below 0."""

    estimate: float
    error: float
    at_least: float
    at_most: float
    blocks: int
    n: int

    def most(self, level: float) -> float:
        """Upper limit at another level."""
        return self.estimate + float(special.stdtrit(self.blocks - 1, level)) * self.error


def kernel(first: Features, second: Features) -> Features:
    """(n, m) of (x.y / d + 1)^3, Binkowski et al., section 4."""
    found: Features = (first @ second.T / first.shape[1] + 1) ** 3
    return found


def squared_mmd(first: Features, second: Features) -> float:
    """Unbiased squared maximum mean discrepancy of pairs of pictures (n, d), Gretton et al. 2012 (JMLR 13), lemma 6, equation 4.

    Picture i of one model and picture i of the other answer the same prompt, and may come from the same noise: so a picture
    is never compared with its partner, and the estimate stays unbiased; two models that draw the same give 0. (Binkowski
    et al. draw both sides apart from each other and compare all.) Raises CheckBroken on anything but two tables of one shape.
    """
    _check(first, second)
    n = len(first)
    terms = kernel(first, first) + kernel(second, second) - 2 * kernel(first, second)
    return float((terms.sum() - np.trace(terms)) / (n * (n - 1)))


def distance(pairs: Sequence[tuple[Features, Features]], level: float = LEVEL) -> Distance:
    """Mean over all groups of pairs (one a style), with t-limits over blocks (Zaremba et al. 2013, arXiv 1307.1954, section 2):
    the estimate over a whole sample is not normal where the distributions are alike, a mean over blocks is. `level`: of the
    upper limit."""
    found, sizes = [], []
    for first, second in pairs:
        _check(first, second)
        count = max(2, len(first) // BLOCK)
        for rows in np.array_split(np.arange(len(first)), count):
            found.append(squared_mmd(first[rows], second[rows]))
            sizes.append(len(rows))
    if not found:
        raise CheckBroken("no pictures to compare")
    blocks = np.array(found)
    error, centre = float(blocks.std(ddof=1)) / len(blocks) ** 0.5, float(blocks.mean())
    low, high = (float(special.stdtrit(len(blocks) - 1, one)) * error for one in (LEVEL, level))
    return Distance(
        estimate=centre,
        error=error,
        at_least=centre - low,
        at_most=centre + high,
        blocks=len(blocks),
        n=int(sum(sizes)),
    )


def apart(groups: Sequence[Features]) -> float:
    """Mean squared distance between two different groups (styles): the unit in which a shift is told. At least two groups."""
    pairs = [squared_mmd(first, second) for first, second in combinations(groups, 2)]
    if not pairs:
        raise CheckBroken("a distance between styles takes two of them")
    return float(np.mean(pairs))


def frechet(first: Features, second: Features) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), Heusel et al. 2017 (arXiv 1706.08500), equation 6; biased upwards at small n."""
    _check(first, second)
    centres = first.mean(0) - second.mean(0)
    one, two = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (first, second))
    root = np.sqrt(np.clip(np.linalg.eigvals(one @ two).real, 0, None)).sum()
    return float(max(0.0, centres @ centres + np.trace(one) + np.trace(two) - 2 * root))


def _check(first: Features, second: Features) -> None:
    good = first.ndim == 2 and first.shape == second.shape and first.shape[0] >= 2 and first.shape[1] >= 1
    if not good or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise CheckBroken(
            "finite features of as many pictures, two or more, expected", got=f"{first.shape} and {second.shape}"
        )
