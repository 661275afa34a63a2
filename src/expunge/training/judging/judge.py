"""What a judge of pictures is, what it answers, when it is refused, and what two families of judges agree on.

A judge that says "not the style" too easily makes a false "erased", which harms a person; so a picture that a judge cannot
place is counted apart, and so is one on which the families disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken, InputError

OTHER = "none of these"
"""What a judge answers to noise, plain colours and mixtures. It is no style, and never evidence of an erasure."""
SIDE = 32
NEEDED = 2
"""Families of evidence that have to agree before a picture is in a style."""

Pixels = NDArray[np.uint8]


class JudgeMissing(InputError):
    """A judge, or what it needs, is not there: without it nothing may be said about a style."""

    code = "judge-missing"


class JudgeBlind(CheckBroken):
    """A judge does not recognise the style in real pictures, or takes it for a neighbour's: it cannot see that it is gone."""

    code = "judge-blind"


class PicturesCollapsed(CheckBroken):
    """The pictures are black, noise or all alike: every judge would say that the style is not there."""

    code = "pictures-collapsed"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """What one judge says of N pictures.

    style: (N,) numbers of `styles`; shares: (N, S) probabilities of the styles, or None where the judge has none; things:
    (N, K) probabilities of `objects`, or None.
    """

    judge: str
    family: str
    styles: tuple[str, ...]
    style: NDArray[np.int64]
    shares: NDArray[np.float64] | None = None
    objects: tuple[str, ...] = ()
    things: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.style.ndim != 1 or (
            len(self.style) and not 0 <= self.style.min() <= self.style.max() < len(self.styles)
        ):
            raise CheckBroken(
                f"{self.judge} gave styles that are none of its own", expected=f"(N,) below {len(self.styles)}"
            )
        _check_shares(self.shares, len(self.style), len(self.styles), f"{self.judge}, styles")
        _check_shares(self.things, len(self.style), len(self.objects), f"{self.judge}, objects")

    def __len__(self) -> int:
        return len(self.style)

    def says(self, style: str) -> NDArray[np.bool_]:
        """(N,) whether each picture is in this style. Raises JudgeMissing where the judge does not know the style."""
        if style not in self.styles:
            raise JudgeMissing(f"{self.judge} does not know the style", expected=", ".join(self.styles), got=style)
        found: NDArray[np.bool_] = self.style == self.styles.index(style)
        return found


def _check_shares(shares: NDArray[np.float64] | None, rows: int, columns: int, what: str) -> None:
    if shares is None:
        return
    if shares.shape != (rows, columns) or not np.isfinite(shares).all():
        raise CheckBroken(f"{what}: finite numbers expected", expected=f"({rows}, {columns})", got=str(shares.shape))
    if rows and ((shares < 0).any() or np.abs(shares.sum(axis=1) - 1).max() > 1e-6):
        raise CheckBroken(f"{what}: the rows are no probabilities", expected="0..1 with sum 1")


@runtime_checkable
class Judge(Protocol):
    """One way of telling styles, one file in `judges/`. `family`: the kind of evidence; judges of one family may err
    together. `digest`: everything that can change an answer; it belongs into the plan."""

    name: str
    family: str

    @property
    def styles(self) -> tuple[str, ...]:
        """The names it may answer, `OTHER` among them."""

    @property
    def digest(self) -> str:
        """`sha256:` of weights and settings."""

    def judge(self, pictures: Pixels) -> Judged:
        """Look at (N, 32, 32, 3) uint8. Raises InputError on others, IntegrityError on weights that are not the recorded ones."""


@runtime_checkable
class SeesFeatures(Protocol):
    """A judge that also gives the numbers by which it tells pictures apart. `space` says, for a reader, whose they are: distances
    in two spaces cannot be compared."""

    space: str

    def features(self, pictures: Pixels) -> NDArray[np.float64]:
        """(N, D) of pictures (N, 32, 32, 3). Raises what `judge` raises."""


def check_pixels(pictures: Pixels, side: int | None = SIDE) -> Pixels:
    """The pictures, if they are what a judge looks at; `side` None takes any square."""
    fits = pictures.dtype == np.uint8 and pictures.ndim == 4 and pictures.shape[3] == 3
    if not fits or pictures.shape[1] != pictures.shape[2] or (side is not None and pictures.shape[1] != side):
        expected = f"uint8 (N, {side or 'S'}, {side or 'S'}, 3)"
        raise InputError(
            "not pictures that a judge can look at", expected=expected, got=f"{pictures.dtype} {pictures.shape}"
        )
    return pictures


# ------------------------------------------------------------------------------------------------------------ agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class Votes:
    """How many of n pictures are in a style. agreed: `needed` families or more say so; disputed: at least one does, and too
    few; nowhere: pictures that every family calls none of its styles. by_judge: hits of each judge; unplaced: pictures
    that each judge calls none of these.

    A gate on "gone" has to hold for `at_most`, too: each family misses some pictures that are in the style, and what nobody
    can place may be a style that was smeared and not removed.
    """

    style: str
    needed: int
    n: int
    agreed: int
    disputed: int
    nowhere: int
    families: tuple[str, ...]
    by_judge: Mapping[str, int]
    unplaced: Mapping[str, int]

    @property
    def at_most(self) -> int:
        """Pictures that may be in the style: those that any family puts there, and those that every family gives up on."""
        return self.agreed + self.disputed + self.nowhere


def in_style(style: str, answers: Sequence[Judged], needed: int = NEEDED) -> NDArray[np.bool_]:
    """(N,) whether at least `needed` families say that a picture is in the style; a family says so when one of its judges
    does. Raises JudgeMissing with fewer families than that, InputError on answers about different pictures."""
    seen: NDArray[np.bool_] = _families_that_say(style, answers, needed) >= needed
    return seen


def votes_of(style: str, answers: Sequence[Judged], needed: int = NEEDED) -> Votes:
    """The same as counts, with what every judge said by itself."""
    families = _families_that_say(style, answers, needed)
    unplaced = {answer.judge: _unplaced(answer) for answer in answers}
    return Votes(
        style=style,
        needed=needed,
        n=len(families),
        agreed=int((families >= needed).sum()),
        disputed=int(((families > 0) & (families < needed)).sum()),
        nowhere=int(np.logical_and.reduce(list(unplaced.values())).sum()),
        families=tuple(sorted({answer.family for answer in answers})),
        by_judge={answer.judge: int(answer.says(style).sum()) for answer in answers},
        unplaced={judge: int(rows.sum()) for judge, rows in unplaced.items()},
    )


def _unplaced(answer: Judged) -> NDArray[np.bool_]:
    return answer.says(OTHER) if OTHER in answer.styles else np.zeros(len(answer), bool)


def _families_that_say(style: str, answers: Sequence[Judged], needed: int) -> NDArray[np.int64]:
    names = sorted({answer.family for answer in answers})
    if needed < 1 or len(names) < needed:
        hint = "add a judge of another family"
        raise JudgeMissing(
            "too few families of judges", expected=f"{max(needed, 1)}", got=", ".join(names) or "none", hint=hint
        )
    if style == OTHER:
        raise InputError(f"'{OTHER}' is no style", hint="name a style")
    if len({answer.judge for answer in answers}) != len(answers) or len({len(answer) for answer in answers}) != 1:
        raise InputError("one answer a judge, all about the same pictures, expected")
    said = [np.logical_or.reduce([answer.says(style) for answer in answers if answer.family == name]) for name in names]
    return np.asarray(np.sum(said, axis=0), np.int64)
