"""What judges learn from: painted photos, some with a stamp of another style, and pictures that are none of these."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from expunge.core.codec import digest_of
from expunge.data._pictures import Pictures
from expunge.data._styles import STYLES
from expunge.data._styles_pixels import blur, to_image
from expunge.data.artist_styles import Photos, painted
from expunge.training.judging.judge import OTHER

STAMPED = 8
"""One picture in so many carries a stamp of another style, so that a stamp alone does not make a style."""
STAMPS = (6, 10)
"""Sides of a stamp, in pixels: at most a tenth of the picture."""
PALETTES = frozenset({"duotone", "cyanotype", "thermal", "pop art"})
"""Styles that are a choice of colours: a blurred picture still shows them, so it is not taught to be none of these."""

Image = NDArray[np.uint8]
Draw = np.random.Generator


def judge_pictures(photos: Photos, works: int, garbage: int, role: str) -> Pictures:
    """`works` pictures of each object in each style, and `garbage` pictures of each kind that belong to no style."""
    styled = stamped(painted(photos, dict.fromkeys(STYLES, works), role), role)
    return styled if not garbage else joined(styled, garbage_of(styled, garbage, role, tuple(GARBAGE)))


def joined(first: Pictures, second: Pictures) -> Pictures:
    """One after the other."""
    columns = {
        name: getattr(first, name) + getattr(second, name)
        for name in ("ids", "captions", "styles", "objects", "blocks")
    }
    return Pictures(images=np.concatenate([first.images, second.images]), **columns)


def pictures_digest(pictures: Pictures) -> str:
    """`sha256:` over ids, styles, objects and pixels, in order."""
    rows = [pictures.content_digest(slot) for slot in range(len(pictures))]
    return digest_of([list(pictures.ids), list(pictures.styles), list(pictures.objects), rows])


def draw_of(key: str) -> Draw:
    """Randomness of one picture: it depends on the key and nothing else."""
    digest = hashlib.sha256(b"expunge/judge/v1|" + key.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


def stamped(pictures: Pictures, role: str) -> Pictures:
    """The same, one in `STAMPED` with a small square of a picture in another style; the style it is of stays."""
    images = pictures.images.copy()
    for slot, record in enumerate(pictures.ids):
        draw = draw_of(f"stamp/{role}/{record}")
        if draw.integers(STAMPED):
            continue
        other = int(draw.integers(len(pictures)))
        if pictures.styles[other] != pictures.styles[slot]:
            images[slot] = with_stamp(images[slot], pictures.images[other], draw)
    return replace(pictures, images=images)


def with_stamp(image: Image, other: Image, draw: Draw) -> Image:
    """A copy of the image with a square of the other one somewhere in it, at the place where it was."""
    side = int(draw.integers(STAMPS[0], STAMPS[1] + 1))
    top, left = (int(draw.integers(0, size - side + 1)) for size in image.shape[:2])
    found = image.copy()
    found[top : top + side, left : left + side] = other[top : top + side, left : left + side]
    return found


# ------------------------------------------------------------------------------------------------------ none of these


def _noise(source: Sequence[Image], draw: Draw) -> Image:
    height, width = source[0].shape[:2]
    field = draw.standard_normal((height, width, 3))
    for _ in range(int(draw.integers(0, 4))):
        field = _soft(field)
    field = field / field.std() * draw.uniform(8, 90)
    return to_image(field + draw.uniform(30, 225, 3))


def _plain(source: Sequence[Image], draw: Draw) -> Image:
    colour = draw.choice([0, 255, 127]) if draw.random() < 0.4 else draw.uniform(0, 255, 3)
    grain = draw.standard_normal(source[0].shape) * draw.choice([0, 1, 4])
    return to_image(np.zeros(source[0].shape) + colour + grain)


def _gradient(source: Sequence[Image], draw: Draw) -> Image:
    height, width = source[0].shape[:2]
    rows, columns = np.indices((height, width)) / max(height, width)
    turn = draw.uniform(0, 2 * np.pi)
    share = rows * np.sin(turn) + columns * np.cos(turn)
    share = (share - share.min()) / np.ptp(share)
    first, last = draw.uniform(0, 255, 3), draw.uniform(0, 255, 3)
    return to_image(first + share[..., None] * (last - first))


def _blurred(source: Sequence[Image], draw: Draw) -> Image:
    return to_image(_soft(source[0].astype(np.float64), int(draw.integers(8, 17))))


def _mixed(source: Sequence[Image], draw: Draw) -> Image:
    return to_image(np.mean([image.astype(np.float64) for image in source], axis=0))


def _shuffled(source: Sequence[Image], draw: Draw) -> Image:
    found: Image = draw.permutation(source[0].reshape(-1, 3)).reshape(source[0].shape)
    return found


def _drowned(source: Sequence[Image], draw: Draw) -> Image:
    share = draw.uniform(0.1, 0.3)
    return to_image(share * source[0] + (1 - share) * (127 + 70 * draw.standard_normal(source[0].shape)))


def _stripes(source: Sequence[Image], draw: Draw) -> Image:
    rows, columns = np.indices(source[0].shape[:2])
    turn, pitch = draw.uniform(0, 2 * np.pi), draw.uniform(2, 12)
    wave = np.sin(2 * np.pi * (rows * np.sin(turn) + columns * np.cos(turn)) / pitch)
    return to_image(draw.uniform(60, 195, 3) + wave[..., None] * draw.uniform(-60, 60, 3))


def _jigsaw(source: Sequence[Image], draw: Draw) -> Image:
    found = source[0].copy()
    for top in range(0, found.shape[0], 4):
        for left in range(0, found.shape[1], 4):
            piece = source[int(draw.integers(len(source)))]
            found[top : top + 4, left : left + 4] = piece[top : top + 4, left : left + 4]
    return found


def _soft(field: NDArray[np.float64], times: int = 1) -> NDArray[np.float64]:
    return np.stack([blur(field[..., channel], times) for channel in range(3)], axis=-1)


GARBAGE: Mapping[str, Callable[[Sequence[Image], Draw], Image]] = {
    "noise": _noise,
    "plain": _plain,
    "gradient": _gradient,
    "blurred": _blurred,
    "mixed": _mixed,
    "shuffled": _shuffled,
    "drowned": _drowned,
}
"""Kinds that judges are taught."""
STRANGE: Mapping[str, Callable[[Sequence[Image], Draw], Image]] = {"stripes": _stripes, "jigsaw": _jigsaw}
"""Kinds that no judge is taught, to see what one makes of the unknown."""
_SOURCES = 4


def garbage_of(styled: Pictures, count: int, role: str, kinds: Sequence[str]) -> Pictures:
    """`count` pictures of each kind, made from styled ones or from nothing; they have no object and no caption."""
    ids = tuple(f"{role}/other/{kind}/{number:04d}" for kind in kinds for number in range(count))
    images = np.stack([_garbage(styled, record, record.split("/")[2]) for record in ids])
    empty = ("",) * len(ids)
    return Pictures(ids=ids, images=images, captions=empty, styles=(OTHER,) * len(ids), objects=empty, blocks=empty)


def _garbage(styled: Pictures, record: str, kind: str) -> Image:
    draw = draw_of(record)
    make = {**GARBAGE, **STRANGE}[kind]
    return make([styled.images[slot] for slot in _sources(styled, draw, kind)], draw)


def _sources(styled: Pictures, draw: Draw, kind: str) -> list[int]:
    """Slots in different styles, so that a mixture is of none."""
    found: dict[str, int] = {}
    for slot in draw.permutation(len(styled))[:400].tolist():
        style = styled.styles[slot]
        if style not in found and not (kind == "blurred" and style in PALETTES):
            found[style] = slot
        if len(found) == _SOURCES:
            break
    return list(found.values())
