"""What an edit did to everybody else, from paired answers: the drop of each retained style, of their mean, of objects, of
pictures that show what was asked, and how far the pictures moved.

What could not be shown to stay within its limit counts as harm: an edit is refused sooner than a neighbour is. Upper limits are
what passes, at `level`, which rises with the attempt (`stats.spending`); lower ones are what fails, at 95 % at every attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.kid import Distance, apart, distance, frechet
from expunge.stats.spending import LEVEL

LOST = "lost.at_most"
"""Name under which evidence says `Collateral.lost`: what edits are added up by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Largest drops that are allowed, as shares: of retained styles on average and at worst, of objects, and of pictures that
    show style and object as `asked`. `moved`: how far pictures may move, as a share of the mean distance between two artists
    (both squared kernel distances); one artist of ten who is lost moves them by more, a training without the artist by less."""

    mean: float = 0.05
    worst: float = 0.15
    objects: float = 0.03
    asked: float = 0.05
    moved: float = 0.02

    def __post_init__(self) -> None:
        shares = (self.mean, self.objects, self.asked, self.moved)
        if not (all(0 < share <= 0.1 for share in shares) and 0 < self.worst <= 0.25):
            raise CheckBroken("limits beyond what any policy may set", got=str(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """Features (n, d) of the pictures of one style in one `space`: the original's, the candidate's from the same noise, and the
    original's once more for the same prompts from other noise."""

    space: str
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    again: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """One retained style: whether each picture is in it, before and after (n,) bool; whether its object is seen, likewise.
    `looks` is None where no judge gives features."""

    style: str
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    seen_before: NDArray[np.bool_]
    seen_after: NDArray[np.bool_]
    looks: Looks | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Before minus after, paired, with its one-sided limits: the lower at 95 %, the upper at `level`. Above 0 = lost."""

    estimate: float
    at_least: float
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Share of pictures that show both the style and the object that were asked for."""

    before: float
    after: float
    drop: Drop


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """How far the pictures of other artists moved, style by style and averaged. `edit`: candidate against original, from the same
    noise; `seeds`: original against itself under other seeds, which is 0 but for chance; `unit`: between two artists of the
    original. All are squared kernel distances in `space`. frechet, frechet_seeds: the same two as Fréchet distances of all
    pictures together, which chance alone lifts above 0."""

    space: str
    edit: Distance
    seeds: Distance
    unit: float
    frechet: float
    frechet_seeds: float

    @property
    def told(self) -> bool:
        """Whether artists lie further apart in this space than chance puts the same pictures drawn again, as passing takes it."""
        return self.unit > 0 and self.unit > self.seeds.at_most

    @property
    def seen(self) -> bool:
        """The same at 95 %, which is enough to fail."""
        return self.unit > 0 and self.unit > self.seeds.most(LEVEL)

    def share(self, squared: float) -> float:
        """A squared distance in the unit."""
        return squared / self.unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """Drops of each style, of their mean, of objects and of pictures as asked, how far pictures moved (None: no judge gives
    features, or only one style was asked for), and the reasons why something was harmed (empty = nothing)."""

    styles: Mapping[str, Drop]
    mean: Drop
    objects: Drop
    asked: Asked
    moved: Moved | None
    reasons: tuple[str, ...]

    @property
    def lost(self) -> float:
        """The largest upper limit of what was lost, be it retained styles on average, objects, or both as asked: edits that keep
        every style can still wear the objects away."""
        return max(drop.at_most for drop in (self.mean, self.objects, self.asked.drop))


def drop_of(before: NDArray[np.bool_], after: NDArray[np.bool_], level: float = LEVEL) -> Drop:
    """Paired difference of two shares with t-limits, whose variance is never below that of one pair that differs."""
    if before.shape != after.shape or before.ndim != 1 or len(before) < 2:
        raise CheckBroken("pairs of answers about the same prompts", got=f"{before.shape} and {after.shape}")
    gaps = before.astype(float) - after.astype(float)
    n, centre = len(gaps), float(gaps.mean())
    variance = max(float(gaps.var(ddof=1)), 1 / n)
    low, high = (float(special.stdtrit(n - 1, one)) * (variance / n) ** 0.5 for one in (LEVEL, level))
    return Drop(estimate=centre, at_least=max(-1.0, centre - low), at_most=min(1.0, centre + high))


def collateral_of(kept: Sequence[Kept], limits: Limits, *, level: float = LEVEL) -> Collateral:
    """All drops and what they break. A single style's worst drop is held to its estimate: so many limits at once would
    refuse every honest edit; everything else is held to its upper limit."""
    if not kept:
        raise CheckBroken("no retained style was asked for")
    styles = {one.style: drop_of(one.before, one.after, level) for one in kept}
    mean = drop_of(np.concatenate([one.before for one in kept]), np.concatenate([one.after for one in kept]), level)
    objects = drop_of(
        np.concatenate([one.seen_before for one in kept]), np.concatenate([one.seen_after for one in kept]), level
    )
    asked, moved = asked_of(kept, level), moved_of(kept, level)
    reasons = [
        f"{style} fell by {drop.estimate:.0%}; {limits.worst:.0%} is allowed"
        for style, drop in styles.items()
        if drop.estimate > limits.worst
    ]
    if mean.at_most > limits.mean:
        reasons.append(f"retained styles may have fallen by {mean.at_most:.1%}; {limits.mean:.0%} is allowed")
    if objects.at_most > limits.objects:
        reasons.append(f"objects may be seen {objects.at_most:.1%} less often; {limits.objects:.0%} is allowed")
    if asked.drop.at_most > limits.asked:
        reasons.append(
            f"pictures may show what was asked {asked.drop.at_most:.1%} less often; {limits.asked:.0%} is allowed"
        )
    return Collateral(
        styles=styles,
        mean=mean,
        objects=objects,
        asked=asked,
        moved=moved,
        reasons=(*reasons, *_moved_too_far(moved, limits)),
    )


def asked_of(kept: Sequence[Kept], level: float = LEVEL) -> Asked:
    """Over all retained styles together: a picture counts where the style and the object are both seen in it."""
    before = np.concatenate([one.before & one.seen_before for one in kept])
    after = np.concatenate([one.after & one.seen_after for one in kept])
    return Asked(before=float(before.mean()), after=float(after.mean()), drop=drop_of(before, after, level))


def moved_of(kept: Sequence[Kept], level: float = LEVEL) -> Moved | None:
    """Style by style, so that two artists who changed places are seen. Raises CheckBroken where the spaces differ."""
    looks = [one.looks for one in kept if one.looks is not None]
    if len(looks) < len(kept) or len(looks) < 2:
        return None
    if len({one.space for one in looks}) != 1:
        raise CheckBroken("distances in two feature spaces cannot be averaged")
    before, after, again = (
        np.concatenate(rows) for rows in zip(*((one.before, one.after, one.again) for one in looks), strict=True)
    )
    return Moved(
        space=looks[0].space,
        edit=distance([(one.before, one.after) for one in looks], level),
        seeds=distance([(one.before, one.again) for one in looks], level),
        unit=apart([one.before for one in looks]),
        frechet=frechet(before, after),
        frechet_seeds=frechet(before, again),
    )


def _moved_too_far(moved: Moved | None, limits: Limits) -> list[str]:
    if moved is None:
        return []
    if not moved.told:
        return ["the features do not tell artists apart, so it is not seen how far their pictures moved"]
    most = moved.share(moved.edit.at_most)
    if most <= limits.moved:
        return []
    return [f"pictures may have moved by {most:.1%} of the distance between artists; {limits.moved:.0%} is allowed"]
