"""The nouns of text-to-image data: captioned pictures by slot. One record is one work; a block is an artist's works.

N records of H x W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError
from expunge.data._ids import rows_in_source
from expunge.data._records import PixelRecords

CONTENT_DOMAIN = b"expunge/picture/v1"
NOBODYS = ("", "photo")
"""Styles of works that are no artist's."""
_TEXTS = ("ids", "captions", "styles", "objects", "blocks")


@dataclass(frozen=True, kw_only=True)
class Pictures(PixelRecords):
    """N captioned pictures (N, S, S, 3).

    captions: slot -> text. styles, objects: slot -> what it is, for judging only: a model learns from the caption. A block
    is the artist whose works they are.
    """

    captions: tuple[str, ...]
    styles: tuple[str, ...]
    objects: tuple[str, ...]

    def content_digest(self, slot: int) -> str:
        """Hex SHA-256 of caption, shape and pixels of one record."""
        return picture_digest(self.captions[slot], self.images[slot])

    def only(self, rows: Sequence[int]) -> Pictures:
        """These rows, in this order, as pictures of their own."""
        texts = {name: tuple(getattr(self, name)[row] for row in rows) for name in _TEXTS}
        return replace(self, images=self.images[list(rows)], **texts)

    def in_style(self, style: str) -> Pictures:
        """Those in one style."""
        return self.only([row for row, name in enumerate(self.styles) if name == style])


def picture_digest(caption: str, image: NDArray[np.uint8]) -> str:
    """Hex SHA-256 of a caption, a shape and (H, W, 3) pixels."""
    text = caption.encode()
    found = hashlib.sha256(
        b"|".join([CONTENT_DOMAIN, b"%d" % len(text), text, "x".join(map(str, image.shape)).encode(), b""])
    )
    found.update(np.ascontiguousarray(image).data)
    return found.hexdigest()


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Captioned pictures to train on, and others of photos that no training saw. `note` is printed beside every result."""

    source: str
    note: str
    styles: tuple[str, ...]
    objects: tuple[str, ...]
    train: Pictures
    test: Pictures

    families: ClassVar[str] = "generators"
    """The kind of plug-in that trains on this."""

    @property
    def geometry(self) -> dict[str, Any]:
        """What a family has to know of the data to build a model."""
        return {"size": int(self.train.images.shape[1])}

    def aligned(self, ids: Sequence[str | None], blocks: Sequence[str]) -> PictureSet:
        """The training records in slot order as they were ingested. A slot without id is a tombstone: blank, no caption.

        Records may have left the source or moved in it; a retained one that is missing is an error.
        """
        train = self.train
        found = rows_in_source(train.slot_of, ids, "record")
        rows = np.array([-1 if row is None else row for row in found], np.int64)
        images = np.zeros((len(ids), *train.images.shape[1:]), np.uint8)
        images[rows >= 0] = train.images[rows[rows >= 0]]

        def column(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple("" if row < 0 else values[row] for row in rows.tolist())

        names = tuple(name if name is not None else f"tombstone/{slot}" for slot, name in enumerate(ids))
        pictures = Pictures(
            ids=names,
            images=images,
            captions=column(train.captions),
            styles=column(train.styles),
            objects=column(train.objects),
            blocks=tuple(blocks),
        )
        return replace(self, train=pictures)


def check_pictures(pictures: Pictures, what: str) -> Pictures:
    """Shapes, lengths and unique ids, all problems at once."""
    problems = []
    images = pictures.images
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
        problems.append(f"images are {images.dtype} {images.shape}, expected uint8 (N, S, S, 3)")
    if {len(getattr(pictures, name)) for name in _TEXTS} != {len(images)}:
        problems.append("ids, images, captions, styles, objects and blocks have different lengths")
    if not pictures.ids:
        problems.append("no records")
    elif len(set(pictures.ids)) != len(pictures.ids):
        problems.append(f"{len(pictures.ids) - len(set(pictures.ids))} duplicate ids")
    if problems:
        raise DataError(f"{what}: " + "; ".join(problems), expected="records as the data source describes them")
    return pictures
