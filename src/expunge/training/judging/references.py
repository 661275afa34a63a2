"""Judges that are made of works which somebody brings: what such a judge learns from, what it keeps back, and when it is blind.

A quarter of each style's references is kept back. A judge that does not tell these apart says nothing of anything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812

from expunge.core.codec import digest_of
from expunge.data._pictures import Pictures, picture_digest
from expunge.stats.intervals import share_at_most
from expunge.training.judging.calibration import FLOOR
from expunge.training.judging.judge import OTHER, JudgeBlind, JudgeMissing, Pixels, check_pixels
from expunge.training.judging.pictures import garbage_of, joined

FEWEST = 20
"""References of a style, at least."""
KEPT_BACK = 4
"""One work of a style in so many is kept back."""
GARBAGE = ("noise", "plain", "gradient", "mixed", "drowned")
"""None of these: of the kinds that the shipped judges are taught those that are no artist's whatever the artist's colours are."""
MOST_SIDE = 64
"""Pixels a side that are looked at; larger pictures are averaged down to it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class References:
    """Works of S styles: `pictures` (N, S, S, 3), the number of the style of each, and what each shows (empty = nobody says)."""

    styles: tuple[str, ...]
    pictures: Pixels
    style: NDArray[np.int64]
    objects: tuple[str, ...]
    side: int

    @property
    def kept_back(self) -> NDArray[np.bool_]:
        """(N,) of every style the same share."""
        found = np.zeros(len(self.style), bool)
        for style in range(len(self.styles)):
            found[np.flatnonzero(self.style == style)[KEPT_BACK - 1 :: KEPT_BACK]] = True
        return found

    def require_told(self, said: NDArray[np.int64], rows: NDArray[np.bool_]) -> None:
        """Raises JudgeBlind where works that were kept back are shown (95 %) to be told apart less often than `FLOOR`."""
        right, n = int((said == self.style[rows]).sum()), int(rows.sum())
        if share_at_most(right, n) < FLOOR:
            raise JudgeBlind(
                f"{right} of {n} references that were kept back are told apart, upper limit below {FLOOR}",
                hint="bring more works, or styles that differ",
            )

    def as_pictures(self, rows: NDArray[np.bool_]) -> Pictures:
        """These references as pictures without captions."""
        at = np.flatnonzero(rows).tolist()
        names = tuple(self.styles[self.style[row]] for row in at)
        return Pictures(
            ids=tuple(f"reference/{row}" for row in at),
            images=self.pictures[rows],
            captions=("",) * len(at),
            styles=names,
            objects=tuple(self.objects[row] for row in at),
            blocks=names,
        )


def gathered(works: Mapping[str, Pixels], objects: Mapping[str, Sequence[str]] | None = None) -> References:
    """All of them. Raises JudgeMissing on fewer than two styles or `FEWEST` works, or on pictures of several sizes."""
    few = [style for style, pictures in works.items() if len(pictures) < FEWEST]
    sides = {pictures.shape[1] for pictures in works.values() if len(pictures)}
    if len(works) < 2 or few or OTHER in works or len(sides) != 1:
        raise JudgeMissing(
            "a judge is made of works of the style and of others",
            expected=f"2 styles or more, {FEWEST} works each, all of one size",
            got=", ".join(few) or f"{len(works)} styles, {len(sides)} sizes",
        )
    for pictures in works.values():
        check_pixels(pictures, None)
    shown = objects or {}
    return References(
        styles=tuple(works),
        pictures=np.concatenate([shrunk(pictures) for pictures in works.values()]),
        style=np.repeat(np.arange(len(works)), [len(pictures) for pictures in works.values()]),
        objects=tuple(one for style, found in works.items() for one in shown.get(style, ("",) * len(found))),
        side=sides.pop(),
    )


def with_garbage(works: References) -> Pictures:
    """What is not kept back, and half as many pictures that are none of these."""
    shown = works.as_pictures(~works.kept_back)
    each = max(4, len(shown) // (2 * len(GARBAGE)))
    return joined(shown, garbage_of(shown, each, "references", GARBAGE))


def references_digest(
    judge: str, works: Mapping[str, Pixels], objects: Mapping[str, Sequence[str]], settings: Sequence[int]
) -> str:
    """`sha256:` of everything that can change an answer of a judge made of them, on one build."""
    pixels = {style: [picture_digest("", image) for image in found] for style, found in works.items()}
    return digest_of(
        [judge, list(works), pixels, {style: list(said) for style, said in objects.items()}, list(settings)]
    )


def looked_at(pictures: Pixels, side: int) -> Pixels:
    """The pictures as such a judge takes them. Raises InputError on another size than that of its references."""
    return shrunk(check_pixels(pictures, side))


def shrunk(pictures: Pixels) -> Pixels:
    """(N, S, S, 3) at most `MOST_SIDE` a side, by averaging."""
    if pictures.shape[1] <= MOST_SIDE or not len(pictures):
        return pictures
    pixels = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    small = F.interpolate(pixels, (MOST_SIDE, MOST_SIDE), mode="area").round().clamp(0, 255)
    return np.ascontiguousarray(small.permute(0, 2, 3, 1).numpy().astype(np.uint8))
