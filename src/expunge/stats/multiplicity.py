"""Many requests judged on one bank: family-wise error (Holm) and false discoveries (e-BH, e-LOND) under dependence.

Requests that share a bank share its models, so their tests depend on each other in ways nobody knows. Everything here
is valid whatever that dependence is; plain Benjamini-Hochberg is not, and is therefore absent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite


def holm(p_values: ArrayLike) -> Floats:
    """Adjusted p-values (H,): reject those at most alpha and the family-wise error is at most alpha (Holm 1979)."""
    p = _p_values(p_values)
    order = np.argsort(p, kind="stable")
    scaled = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty(p.size)
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted


def e_bh(e_values: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Which of H hypotheses are rejected, (H,) bool: the k largest e-values, k the most with e₍ₖ₎ ≥ H/(alpha·k).

    False-discovery rate at most alpha under any dependence (Wang and Ramdas 2022, eq. 4).
    """
    e = _e_values(e_values)
    _alpha(alpha)
    order = np.argsort(-e, kind="stable")
    enough = e[order] >= e.size / (alpha * np.arange(1, e.size + 1))
    count = int(np.flatnonzero(enough)[-1]) + 1 if enough.any() else 0
    rejected = np.zeros(e.size, bool)
    rejected[order[:count]] = True
    return rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class ELond:
    """Online e-LOND (Xu and Ramdas 2024, eq. 5): the t-th request is rejected when e ≥ 1/αₜ, αₜ = alpha·γₜ·(R + 1).

    R counts rejections before t and γₜ = 6/(π²t²) sums to 1. False-discovery rate at most alpha at every time, under
    any dependence. Immutable: `after` returns the state that follows.
    """

    alpha: float
    seen: int = 0
    rejected: int = 0

    def __post_init__(self) -> None:
        _alpha(self.alpha)
        if not 0 <= self.rejected <= self.seen:
            raise CheckBroken("more rejections than requests", got=f"{self.rejected} of {self.seen}")

    @property
    def level(self) -> float:
        """αₜ of the next request."""
        return self.alpha * 6 / (math.pi * (self.seen + 1)) ** 2 * (self.rejected + 1)

    def after(self, e_value: float) -> tuple[bool, ELond]:
        """Whether the next request is rejected, and the state after it."""
        value = float(_e_values([e_value])[0])
        hit = value * self.level >= 1
        return hit, ELond(alpha=self.alpha, seen=self.seen + 1, rejected=self.rejected + hit)


def _p_values(values: ArrayLike) -> Floats:
    p = finite("p-values", values, (None,))
    if not p.size or p.min() < 0 or p.max() > 1:
        raise CheckBroken("p-values lie in [0, 1]", got=f"{p.size} values")
    return p


def _e_values(values: ArrayLike) -> Floats:
    try:
        e = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckBroken("e-values are numbers", got=str(error)[:120]) from error
    if e.ndim != 1 or not e.size or np.isnan(e).any() or e.min() < 0:
        raise CheckBroken("e-values are at least 0, infinity allowed", got=f"shape {e.shape}")
    return e


def _alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise CheckBroken("alpha lies in (0, 1)", got=str(alpha))
