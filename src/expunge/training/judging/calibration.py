"""How well a judge sees on real pictures that it was not trained on. Without this its "not there" is worth nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.core.codec import digest_of
from expunge.core.errors import CheckBroken
from expunge.data._pictures import Pictures, picture_digest
from expunge.stats.intervals import clopper_pearson, share_at_most
from expunge.training.judging.judge import OTHER, Judge, JudgeBlind, Judged, JudgeMissing

LEVEL = 0.95
FLOOR = 0.8
"""Lower 95 % limit of the share of a style's real pictures that a judge must recognise."""
MIXED_UP = 0.1
"""Upper 95 % limit of the share of a neighbour's pictures that a judge may take for the style."""
FEWEST = 50
"""Real pictures of a style below which nothing is concluded about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """hits of n with the exact two-sided 95 % interval (Clopper and Pearson 1934) and the one-sided upper limit.

    Without any trial there are no numbers, and a reason.
    """

    n: int
    hits: int
    share: float | None
    low: float | None
    high: float | None
    at_most: float | None
    reason: str = ""


def share_of(hits: int, n: int, nothing: str) -> Share:
    """The share, or `nothing` as the reason why there is none."""
    if not n:
        return Share(n=0, hits=0, share=None, low=None, high=None, at_most=None, reason=nothing)
    bounds = clopper_pearson(hits, n, LEVEL)
    return Share(
        n=n, hits=hits, share=bounds.estimate, low=bounds.low, high=bounds.high, at_most=share_at_most(hits, n, LEVEL)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StyleCalibration:
    """One style. seen: its own pictures recognised; taken_for: pictures of all other styles taken for it; neighbours: the
    same, one by one; garbage: pictures of no style taken for it; objects: objects recognised in its pictures."""

    style: str
    seen: Share
    taken_for: Share
    neighbours: Mapping[str, Share]
    garbage: Share
    objects: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A judge on n held-out pictures. confusion: rows are what a picture is, columns what the judge says, both in the order
    of `styles`. `pictures` is the digest of what was looked at. Every number is plain, so that it can go into evidence."""

    judge: str
    family: str
    digest: str
    pictures: str
    n: int
    styles: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    all_styles: Share
    all_objects: Share
    by_style: tuple[StyleCalibration, ...]

    def of(self, style: str) -> StyleCalibration:
        """The style's part. Raises JudgeMissing where the judge does not know it."""
        for part in self.by_style:
            if part.style == style:
                return part
        raise JudgeMissing(f"{self.judge} was not calibrated for the style", expected=", ".join(self.styles), got=style)


def calibrate(judge: Judge, pictures: Pictures, neighbours: Mapping[str, Sequence[str]]) -> Calibration:
    """Ask the judge about pictures whose style and object are known, and which it was not trained on (the caller's word).

    Raises CheckBroken on a style that the judge has no name for.
    """
    answer = judge.judge(pictures.images)
    unknown = sorted(set(pictures.styles) - set(answer.styles))
    if unknown:
        raise CheckBroken(f"{judge.name} has no name for some styles", got=", ".join(unknown))
    truth = np.array([answer.styles.index(style) for style in pictures.styles], np.int64)
    table = confusion_of(truth, answer.style, len(answer.styles))
    right = _objects_right(answer, pictures)
    own = [place for place, style in enumerate(answer.styles) if style != OTHER]
    return Calibration(
        judge=judge.name,
        family=judge.family,
        digest=judge.digest,
        pictures=_digest(pictures),
        n=len(pictures),
        styles=answer.styles,
        confusion=tuple(tuple(int(count) for count in row) for row in table),
        all_styles=share_of(int(table[own, own].sum()), int(table[own].sum()), "no picture of any style"),
        all_objects=_object_share(right, np.ones(len(pictures), bool)),
        by_style=tuple(_of_style(place, answer, table, neighbours, right, truth) for place in own),
    )


def confusion_of(truth: NDArray[np.int64], found: NDArray[np.int64], styles: int) -> NDArray[np.int64]:
    """(S, S) counts, rows the truth."""
    return np.bincount(truth * styles + found, minlength=styles * styles).reshape(styles, styles)


def _of_style(
    place: int,
    answer: Judged,
    table: NDArray[np.int64],
    neighbours: Mapping[str, Sequence[str]],
    right: NDArray[np.int64],
    truth: NDArray[np.int64],
) -> StyleCalibration:
    name = answer.styles[place]
    others = [row for row, style in enumerate(answer.styles) if row != place and style != OTHER]
    garbage = [row for row, style in enumerate(answer.styles) if style == OTHER]
    near = {other: answer.styles.index(other) for other in neighbours.get(name, ()) if other in answer.styles}
    return StyleCalibration(
        style=name,
        seen=share_of(int(table[place, place]), int(table[place].sum()), "no picture of the style"),
        taken_for=share_of(int(table[others, place].sum()), int(table[others].sum()), "no picture of another style"),
        neighbours={
            other: share_of(int(table[row, place]), int(table[row].sum()), "no picture of this neighbour")
            for other, row in near.items()
        },
        garbage=share_of(int(table[garbage, place].sum()), int(table[garbage].sum()), "no picture of no style"),
        objects=_object_share(right, truth == place),
    )


def _objects_right(answer: Judged, pictures: Pictures) -> NDArray[np.int64]:
    """(N,) 1 where the object is right, 0 where it is wrong, -1 where the judge or the picture has none."""
    if answer.things is None:
        return np.full(len(pictures), -1, np.int64)
    found = answer.things.argmax(axis=1) if len(pictures) else np.zeros(0, np.int64)
    number = {name: place for place, name in enumerate(answer.objects)}
    wanted = np.array([number.get(name, -1) for name in pictures.objects], np.int64)
    return np.where(wanted < 0, -1, (found == wanted).astype(np.int64))


def _object_share(right: NDArray[np.int64], rows: NDArray[np.bool_]) -> Share:
    asked = rows & (right >= 0)
    return share_of(int(right[asked].sum()), int(asked.sum()), "the judge says nothing of objects, or none was shown")


def _digest(pictures: Pictures) -> str:
    rows = [picture_digest("", image) for image in pictures.images]
    return digest_of([rows, list(pictures.styles), list(pictures.objects)])


# ------------------------------------------------------------------------------------------------------------- refusal


def blindness(calibration: Calibration, style: str, *, floor: float = FLOOR, mixed_up: float = MIXED_UP) -> str | None:
    """Why this judge may not say that the style is gone, or None. All reasons at once.

    It must recognise the style (lower limit at least `floor`, on at least FEWEST pictures), and tell it from each
    neighbour (upper limit at most `mixed_up`): a judge that calls the neighbour's pictures by its name sees it everywhere.
    """
    part = calibration.of(style)
    if part.seen.low is None or part.seen.n < FEWEST:
        return f"{part.seen.n} real pictures of {style}, at least {FEWEST} are needed"
    reasons = []
    if part.seen.low < floor:
        reasons.append(f"recognises {part.seen.hits} of {part.seen.n}, lower limit {part.seen.low:.3f} below {floor}")
    for other, share in part.neighbours.items():
        if share.at_most is None:
            reasons.append(f"was shown no picture of the neighbour {other}")
        elif share.at_most > mixed_up:
            reasons.append(f"takes {share.hits} of {share.n} of {other} for it, upper limit {share.at_most:.3f}")
    return "; ".join(reasons) or None


def require_sighted(calibration: Calibration, style: str, *, floor: float = FLOOR, mixed_up: float = MIXED_UP) -> None:
    """Raises JudgeBlind with every reason: "not there" from such a judge is UNVERIFIABLE, never a pass."""
    reason = blindness(calibration, style, floor=floor, mixed_up=mixed_up)
    if reason is not None:
        raise JudgeBlind(
            f"judge {calibration.judge} cannot see {style}: {reason}",
            hint="use another judge for this style, or train this one on more pictures",
        )
