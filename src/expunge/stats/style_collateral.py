"""What an edit did to everybody else, from paired answers: the drop of each retained style, of their mean, and of objects.

What could not be shown to stay within its limit counts as harm: an edit is refused sooner than a neighbour is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from expunge.core.errors import CheckBroken

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest drops that are allowed, as shares: of retained styles on average and at worst, and of objects."""

    mean: float = 0.05
    worst: float = 0.15
    objects: float = 0.03

    def __post_init__(self) -> None:
        if not (0 < self.mean <= 0.1 and 0 < self.worst <= 0.25 and 0 < self.objects <= 0.1):
            raise CheckBroken("limits beyond what any policy may set", got=str(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """One retained style: whether each picture is in it, before and after (n,) bool; whether its object is seen, likewise."""

    style: str
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    seen_before: NDArray[np.bool_]
    seen_after: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Before minus after, paired, with its one-sided upper limit. Above 0 = lost."""

    estimate: float
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """Drops of each style, of their mean and of objects, and the reasons why something was harmed (empty = nothing)."""

    styles: Mapping[str, Drop]
    mean: Drop
    objects: Drop
    reasons: tuple[str, ...]


def drop_of(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Drop:
    """Paired difference of two shares with a t-limit, whose variance is never below that of one pair that differs."""
    if before.shape != after.shape or before.ndim != 1 or len(before) < 2:
        raise CheckBroken("pairs of answers about the same prompts", got=f"{before.shape} and {after.shape}")
    gaps = before.astype(float) - after.astype(float)
    n = len(gaps)
    variance = max(float(gaps.var(ddof=1)), 1 / n)
    reach = float(special.stdtrit(n - 1, LEVEL)) * (variance / n) ** 0.5
    return Drop(estimate=float(gaps.mean()), at_most=min(1.0, float(gaps.mean()) + reach))


def collateral_of(kept: Sequence[Kept], limits: Limits) -> Collateral:
    """All drops and what they break. A single style's worst drop is held to its estimate: so many limits at once would
    refuse every honest edit; their mean and the objects are held to their upper limits."""
    if not kept:
        raise CheckBroken("no retained style was asked for")
    styles = {one.style: drop_of(one.before, one.after) for one in kept}
    mean = drop_of(np.concatenate([one.before for one in kept]), np.concatenate([one.after for one in kept]))
    objects = drop_of(
        np.concatenate([one.seen_before for one in kept]), np.concatenate([one.seen_after for one in kept])
    )
    reasons = [
        f"{style} fell by {drop.estimate:.0%}; {limits.worst:.0%} is allowed"
        for style, drop in styles.items()
        if drop.estimate > limits.worst
    ]
    if mean.at_most > limits.mean:
        reasons.append(f"retained styles may have fallen by {mean.at_most:.1%}; {limits.mean:.0%} is allowed")
    if objects.at_most > limits.objects:
        reasons.append(f"objects may be seen {objects.at_most:.1%} less often; {limits.objects:.0%} is allowed")
    return Collateral(styles=styles, mean=mean, objects=objects, reasons=tuple(reasons))
