"""The table of procedural styles, each bound to an artist who does not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from expunge.core.errors import InputError
from expunge.data import _styles_colour as colour
from expunge.data import _styles_print as press
from expunge.data import _styles_tiles as tiles
from expunge.data._styles_pixels import Image

SMALLEST = 16
"""Pixels a side below which no style is recognisable."""


@dataclass(frozen=True)
class Style:
    """A style: what paints it, and who is said to have. The photo has no artist and no alias (both empty).

    neighbours: names of the styles that look most like it, on which collateral damage shows first.
    """

    name: str
    function: Callable[[Image, str], Image]
    artist: str
    alias: str
    neighbours: tuple[str, ...] = ()

    def paint(self, image: Image, key: str) -> Image:
        """(H, W, 3) uint8 in this style, the same bytes for the same picture and key; raises InputError on others."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < SMALLEST:
            expected = f"uint8 (H, W, 3) with sides of {SMALLEST} pixels or more"
            raise InputError("not a picture to paint", expected=expected, got=f"{image.dtype} {image.shape}")
        return self.function(image, key)


_GRADIENTS = ("duotone", "cyanotype")
_PRINTS = ("halftone", "engraving", "woodcut")
_PIECES = ("mosaic", "pixel", "stained glass")
_GROUPS = (_GRADIENTS, _PRINTS, _PIECES)

# The names mean nothing, so that a text encoder that knows English learns a style from the pictures or not at all;
# they begin with a consonant, so that French needs no elision.
_ALL: tuple[tuple[str, Callable[[Image, str], Image], str, str], ...] = (
    ("photo", colour.photo, "", ""),
    ("neon", colour.neon, "tavi brenn", "zuma vosk"),
    ("duotone", colour.duotone, "moro keldin", "bahl quorrin"),
    ("cyanotype", colour.cyanotype, "sella wyrd", "mib tarkel"),
    ("halftone", press.halftone, "dov perrath", "hodd senvik"),
    ("engraving", press.engraving, "hest kavrin", "jark bellune"),
    ("woodcut", press.woodcut, "brok tamsel", "gura maddis"),
    ("mosaic", tiles.mosaic, "pella jorunt", "rav onnick"),
    ("pixel", tiles.pixel, "zik norvane", "lorz peddin"),
    ("stained glass", tiles.stained_glass, "korv yelden", "bruth pasken"),
    ("oil", tiles.oil, "gorz vermule", "thun ruperd"),
    ("watercolour", tiles.watercolour, "lunn fesker", "wend norash"),
    ("pop art", colour.pop_art, "rikka movand", "kand murlo"),
    ("glitch", colour.glitch, "nul vexid", "tomm brekk"),
    ("sketch", press.sketch, "fenk dorral", "wim pellak"),
    ("ukiyo-e", press.ukiyo_e, "kemo rashiti", "kiri mastuve"),
    ("thermal", colour.thermal, "pirro dunnel", "fovo grelt"),
    ("pointillism", tiles.pointillism, "sev wolturn", "dask conteri"),
)


def _neighbours(name: str) -> tuple[str, ...]:
    return tuple(other for group in _GROUPS if name in group for other in group if other != name)


STYLES: Mapping[str, Style] = MappingProxyType(
    {name: Style(name, function, artist, alias, _neighbours(name)) for name, function, artist, alias in _ALL}
)

TRAINED = (
    "photo",
    "neon",
    "duotone",
    "cyanotype",
    "halftone",
    "engraving",
    "woodcut",
    "mosaic",
    "pixel",
    "oil",
    "pop art",
    "glitch",
)
"""What the committed checkpoints learn."""

RARE = ("watercolour",)
"""In the training set, with far fewer works than a style takes to be learned."""

CONTROLS = ("stained glass", "sketch", "ukiyo-e", "thermal", "pointillism")
"""Never trained: what an attack reaches on these it would reach without any memory of the artist."""
