"""KLoM and U-LiRA as the literature reports them, with the null that they lack. They are shown and never decide.

Both are far from 0 (or ½) for honest retrains when the number of models N is small; so each comes with the same number
computed on OUT models against other OUT models, as often as asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite
from expunge.stats.intervals import constant

_BINS = 20
_LEAST = 8
_PSEUDO = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A published metric, its mean under the null for this N, the null's 95 % quantile, and an exact p-value."""

    value: float
    null_mean: float
    null_high: float
    p: float
    n: int


def klom(unlearned: ArrayLike, never: ArrayLike, *, seed: int, runs: int = 199) -> Calibrated:
    """KL divergence of margins, unlearned (N, R) from never-trained models (N, R), mean over the R records.

    Georgiev et al. 2024 (arXiv 2410.23232, section 3): per record, both samples on 20 common bins; here half a count is
    added to every bin, so that an empty one is not infinite.
    """
    return _against_shuffles(_klom, unlearned, never, seed, runs)


def u_lira(unlearned: ArrayLike, never: ArrayLike, *, seed: int, runs: int = 199) -> Calibrated:
    """Accuracy of the per-record Gaussian likelihood ratio, fitted without the model it judges; ½ = indistinguishable.

    Hayes et al. 2024 (arXiv 2403.01218, algorithm 2) with leave-one-out fits in place of held-out shadow models.
    """
    return _against_shuffles(_u_lira, unlearned, never, seed, runs)


def _against_shuffles(
    statistic: Callable[[Floats, Floats], float], unlearned: ArrayLike, never: ArrayLike, seed: int, runs: int
) -> Calibrated:
    """The statistic among itself on models whose arms were exchanged at random (exact under exchangeability)."""
    x = finite("unlearned", unlearned, (None, None))
    o = finite("never", never, (None, x.shape[1]))
    if min(len(x), len(o)) < _LEAST or not x.shape[1]:
        raise CheckBroken(f"at least {_LEAST} models an arm and a record expected", got=f"{len(x)} and {len(o)}")
    if runs < 1:
        raise CheckBroken("at least one exchange of the arms expected", got=str(runs))
    rng, stack = np.random.default_rng(seed), np.concatenate([x, o])
    value, null = statistic(x, o), np.empty(runs)
    for run in range(runs):
        order = rng.permutation(len(stack))
        null[run] = statistic(stack[order[: len(x)]], stack[order[len(x) :]])
    p = (1 + int((null >= value).sum())) / (runs + 1)
    return Calibrated(
        value=value, null_mean=float(null.mean()), null_high=float(np.quantile(null, 0.95)), p=p, n=min(len(x), len(o))
    )


def _klom(x: Floats, o: Floats) -> float:
    total = 0.0
    for left, right in zip(x.T, o.T, strict=True):
        if constant(np.concatenate([left, right])):
            continue  # nothing to tell apart: a divergence of 0
        edges = np.histogram_bin_edges(np.concatenate([left, right]), bins=_BINS)
        p, q = (np.histogram(side, bins=edges)[0] + _PSEUDO for side in (left, right))
        p, q = p / p.sum(), q / q.sum()
        total += float((p * np.log(p / q)).sum())
    return float(total / x.shape[1])


def _u_lira(x: Floats, o: Floats) -> float:
    hits = _left_out(x, o) + _left_out(o, x)
    return float(hits / (x.size + o.size))


def _left_out(own: Floats, other: Floats) -> float:
    """How many of `own` (N, R) are likelier under the rest of their arm than under the other; ties count half."""
    n = len(own)
    mean = (own.sum(0) - own) / (n - 1)
    square = ((own**2).sum(0) - own**2) / (n - 1) - mean**2
    ratio = _log_density(own, mean, square * (n - 1) / (n - 2)) - _log_density(own, other.mean(0), other.var(0, ddof=1))
    return float((ratio > 0).sum() + 0.5 * (ratio == 0).sum())


def _log_density(value: Floats, mean: Floats, variance: Floats) -> Floats:
    v = np.maximum(variance, 1e-12)
    return np.asarray(-0.5 * np.log(v) - (value - mean) ** 2 / (2 * v), dtype=np.float64)
