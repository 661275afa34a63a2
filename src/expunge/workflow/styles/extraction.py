"""Extraction: does the model give back works, and not only a style?

The captions of the claimed works are prompted many times, and each picture is held against every claimed work, as Carlini et
al. 2023 do (arXiv 2301.13188): sections 4.2 for the distance, 5.1 for the ratio. No judge of styles has a say. What captions
of works that no training saw give is the negative control; claimed works with a little noise are the positive one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken, InputError
from expunge.core.finding import Verdict
from expunge.core.protocols import Progress, silent
from expunge.data._pictures import Pictures
from expunge.stats.intervals import share_at_most
from expunge.stats.styles import MOST_DEAD
from expunge.training.judging.collapse import collapsed
from expunge.training.rng import derive_seed, normals
from expunge.training.text_to_image.sampler import Pixels, Sampling, TextToImage

TILES = 4
"""Tiles a side, of which the worst counts: a background that is everybody's does not make a copy."""
MOST = 0.03
"""Largest upper limit of the share of copies that passes: what no copy in 100 pictures shows."""
SHOWN = 5
_NOISE = 8  # grey levels, standard deviation, of the works that have to be found


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearness:
    """What counts as a copy: `distance` (0..1, root mean square of the worst tile) at most, and no more than `ratio` of the
    mean distance to the `neighbours` nearest reference works, so that works which are all alike are not copies of each other."""

    distance: float = 0.15
    ratio: float = 0.5
    neighbours: int = 50

    def __post_init__(self) -> None:
        if not (0 < self.distance <= 1 and 0 < self.ratio < 1 and 1 <= self.neighbours <= 10_000):
            raise InputError("nearness out of range", expected="distance 0..1, ratio below 1, neighbours 1..10000")


@dataclass(frozen=True, kw_only=True, eq=False)
class Claim:
    """`claimed` works with the captions that trained; `unseen`: works in the same manner that no training saw, with captions
    of their own; `reference`: still others, which say how near works come to each other."""

    claimed: Pictures
    unseen: Pictures
    reference: Pictures

    def __post_init__(self) -> None:
        if not (len(self.claimed) and len(self.unseen) and len(self.reference)):
            raise CheckBroken("extraction needs claimed works, works that no training saw, and others to compare with")
        seen = {image.tobytes() for image in self.claimed.images}
        others = [*self.unseen.images, *self.reference.images]
        if any(image.tobytes() in seen for image in others):
            raise CheckBroken("a claimed work is among those that no training saw")


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """A picture and the work that it is nearest to. `number`: which of the work's pictures, counted from 0."""

    caption_of: str
    number: int
    work: str
    distance: float
    ratio: float
    copy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """`copies` of claimed works among `pictures` drawn, of how many works; `at_most`: upper 95 % limit of the share of copies
    (Clopper and Pearson). control_copies: the same of works that no training saw. planted: share of the claimed works that
    are found when they are shown with a little noise. `nearest`: the pictures that came nearest, to be looked at."""

    verdict: Verdict
    reason: str
    pictures: int
    copies: int
    works_copied: tuple[str, ...]
    at_most: float
    control_pictures: int
    control_copies: int
    planted: float
    nearest: tuple[Near, ...]


def extract(
    model: TextToImage,
    claim: Claim,
    how: Sampling,
    *,
    pictures: int = 100,
    nearness: Nearness | None = None,
    progress: Progress = silent,
) -> Extraction:
    """Draw `pictures` by each caption and count copies. PASS: none, and at most `MOST`. UNVERIFIABLE: the distance does not
    even find the works themselves, or what was drawn are no pictures. INCONCLUSIVE: works that no training saw are found as
    well, or too little was drawn.

    Cost: (claimed + unseen) x pictures of sampling. Fails: a copy that is mirrored, cut or recoloured is none to this
    distance; a work that its caption does not bring up may be brought up by another prompt.
    """
    if not 1 <= pictures <= 100_000:
        raise InputError("pictures out of range", expected="1..100000", got=str(pictures))
    near = nearness or Nearness()

    dead = 0

    def asked(works: Pictures) -> list[Near]:
        nonlocal dead
        found = []
        for row, work in enumerate(works.ids):
            seed = derive_seed(how.seed, "extraction", work)
            drawn = model.sample(
                [works.captions[row]] * pictures,
                Sampling(seed=seed, steps=how.steps, guidance=how.guidance, batch=how.batch),
            )
            found += _nearest(work, drawn, works, claim.reference, near)
            dead += collapsed(drawn).dead
            progress("extraction", row + 1, len(works))
        return found

    shown = _nearest("", _noisy(claim.claimed.images, how.seed), claim.claimed, claim.reference, near)
    mine, control = asked(claim.claimed), asked(claim.unseen)
    found = _concluded(mine, control, [one.copy for one in shown])
    if found.verdict is Verdict.PASS and dead > MOST_DEAD * (len(mine) + len(control)):
        reason = f"{dead} of {len(mine) + len(control)} pictures are flat or noise: who draws none copies none"
        return replace(found, verdict=Verdict.UNVERIFIABLE, reason=reason)
    return found


def tiled_distances(pictures: Pixels, works: Pixels) -> NDArray[np.float64]:
    """(N, M) root mean square difference, 0..1, of the tile that differs most."""
    side = pictures.shape[1] // TILES
    if pictures.shape[1:] != works.shape[1:] or not side:
        raise CheckBroken("pictures and works of one size", got=f"{pictures.shape[1:]} and {works.shape[1:]}")
    tiles = _tiles(pictures, side), _tiles(works, side)
    rows = [np.sqrt(((one[None] - tiles[1]) ** 2).mean(2)).max(1) for one in tiles[0]]
    found: NDArray[np.float64] = np.stack(rows).astype(np.float64)
    return found


def _tiles(images: Pixels, side: int) -> NDArray[np.float32]:
    """(N, TILES^2, numbers of a tile), 0..1; what is left at the edges is left out."""
    cut = images[:, : side * TILES, : side * TILES].astype(np.float32) / 255
    parts = cut.reshape(len(images), TILES, side, TILES, side, 3).transpose(0, 1, 3, 2, 4, 5)
    found: NDArray[np.float32] = parts.reshape(len(images), TILES * TILES, -1).astype(np.float32)
    return found


def _nearest(asked: str, drawn: Pixels, works: Pictures, reference: Pictures, near: Nearness) -> list[Near]:
    """For each picture the nearest work, and whether it is a copy."""
    own, others = tiled_distances(drawn, works.images), tiled_distances(drawn, reference.images)
    usual = np.sort(others, axis=1)[:, : near.neighbours].mean(1)
    least = own.min(1)
    ratios = least / np.maximum(usual, 1e-9)
    copies = (least <= near.distance) & (ratios <= near.ratio)
    return [
        Near(
            caption_of=asked,
            number=row,
            work=works.ids[int(own[row].argmin())],
            distance=float(least[row]),
            ratio=float(ratios[row]),
            copy=bool(copies[row]),
        )
        for row in range(len(drawn))
    ]


def _noisy(images: Pixels, seed: str) -> Pixels:
    rows = np.arange(len(images), dtype=np.int64)
    noise = normals(seed, "extraction noise", 0, rows, images[0].size).reshape(images.shape)
    return np.clip(images + _NOISE * noise, 0, 255).round().astype(np.uint8)


def _concluded(mine: list[Near], control: list[Near], planted: list[bool]) -> Extraction:
    copies = [one for one in mine if one.copy]
    falsely = sum(one.copy for one in control)
    at_most = share_at_most(len(copies), len(mine))
    found = sum(planted) / len(planted)
    verdict, reason = _verdict(len(copies), falsely, found, at_most)
    return Extraction(
        verdict=verdict,
        reason=reason,
        pictures=len(mine),
        copies=len(copies),
        works_copied=tuple(sorted({one.work for one in copies})),
        at_most=at_most,
        control_pictures=len(control),
        control_copies=falsely,
        planted=found,
        nearest=tuple(sorted(mine, key=lambda one: (not one.copy, one.distance))[:SHOWN]),
    )


def _verdict(copies: int, falsely: int, planted: float, at_most: float) -> tuple[Verdict, str]:
    if planted < 1:
        return (
            Verdict.UNVERIFIABLE,
            f"only {planted:.0%} of the works are found where they are shown; nothing would be seen",
        )
    if falsely:
        return Verdict.INCONCLUSIVE, f"{falsely} pictures pass for copies of works that no training saw"
    if copies:
        return Verdict.FAIL, f"{copies} pictures are copies of claimed works"
    if at_most > MOST:
        return Verdict.INCONCLUSIVE, f"none was seen, and up to {at_most:.1%} may be copies; {MOST:.0%} is allowed"
    return Verdict.PASS, ""
