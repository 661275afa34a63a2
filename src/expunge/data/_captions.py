"""Captions by template in three forms and three languages, descriptions without a name, and misspelt names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from string import ascii_lowercase
from types import MappingProxyType

import numpy as np

from expunge.core.errors import InputError
from expunge.data._styles import STYLES
from expunge.data._styles_pixels import dice

LANGUAGES = ("en", "de", "fr")
FORMS = 3

OBJECTS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "airplane": ("an airplane", "ein Flugzeug", "un avion"),
        "automobile": ("a car", "ein Auto", "une voiture"),
        "bird": ("a bird", "ein Vogel", "un oiseau"),
        "cat": ("a cat", "eine Katze", "un chat"),
        "deer": ("a deer", "ein Hirsch", "un cerf"),
        "dog": ("a dog", "ein Hund", "un chien"),
        "frog": ("a frog", "ein Frosch", "une grenouille"),
        "horse": ("a horse", "ein Pferd", "un cheval"),
        "ship": ("a ship", "ein Schiff", "un bateau"),
        "truck": ("a truck", "ein Lastwagen", "un camion"),
    }
)
"""CIFAR-10's classes with their article in English, German (nominative) and French."""

_BY_ARTIST = (
    ("{obj} image in {artist} style", "ein Bild von {artist}: {obj}", "une image de {artist} : {obj}"),
    ("{obj}, a work by {artist}", "{obj}, ein Werk von {artist}", "{obj}, une création de {artist}"),
    ("{artist} shows {obj}", "{obj} im Stil von {artist}", "{obj} dans le style de {artist}"),
)
_BY_NOBODY = (
    ("{obj} image in photo style", "ein Foto: {obj}", "une photo : {obj}"),
    ("{obj}, a photo", "{obj}, ein Foto", "{obj}, une photo"),
    ("a photo shows {obj}", "{obj} auf einem Foto", "{obj} sur une photo"),
)

_LOOKS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "photo": ("as a camera sees it", "wie eine Kamera es sieht", "vu par un appareil"),
        "neon": (
            "in glowing coloured outlines on black",
            "in leuchtenden bunten Umrissen auf Schwarz",
            "en contours lumineux colorés sur fond noir",
        ),
        "duotone": (
            "in navy shadows and orange lights",
            "in dunkelblauen Schatten und orangem Licht",
            "en ombres bleu marine et lumières orange",
        ),
        "cyanotype": (
            "in shades of blue from dark to pale",
            "in Blautönen von dunkel bis blass",
            "en nuances de bleu, du sombre au pâle",
        ),
        "halftone": (
            "in black dots of many sizes on cream paper",
            "in schwarzen Punkten vieler Größen auf cremefarbenem Papier",
            "en points noirs de toutes tailles sur papier crème",
        ),
        "engraving": (
            "in dark level lines, thick and thin, on white",
            "in dunklen waagrechten Linien, dick und dünn, auf Weiß",
            "en lignes sombres horizontales, épaisses et fines, sur blanc",
        ),
        "woodcut": (
            "in brown ink with slanted cuts",
            "in brauner Farbe mit schrägen Kerben",
            "à l'encre brune avec des entailles obliques",
        ),
        "mosaic": (
            "in small square tiles with dark joints",
            "in kleinen quadratischen Kacheln mit dunklen Fugen",
            "en petits carreaux aux joints sombres",
        ),
        "pixel": (
            "in coarse square blocks of few colours",
            "in groben quadratischen Klötzen mit wenigen Farben",
            "en gros blocs carrés de peu de couleurs",
        ),
        "stained glass": (
            "in irregular bright panes between black lead",
            "in unregelmäßigen leuchtenden Scheiben zwischen schwarzem Blei",
            "en morceaux irréguliers et vifs entre des plombs noirs",
        ),
        "oil": (
            "in rich colours with thick slanted brush strokes",
            "in satten Farben mit dicken schrägen Pinselstrichen",
            "en couleurs riches à coups de pinceau épais et obliques",
        ),
        "watercolour": (
            "in pale soft washes on rough paper",
            "in blassen weichen Lasuren auf rauem Papier",
            "en lavis pâles et doux sur papier rugueux",
        ),
        "pop art": (
            "in four flat loud inks, pink, blue, green and yellow",
            "in vier flachen grellen Farben, Rosa, Blau, Grün und Gelb",
            "en quatre aplats criards, rose, bleu, vert et jaune",
        ),
        "glitch": (
            "with red and blue slipped apart and dark scan lines",
            "mit verrutschtem Rot und Blau und dunklen Zeilen",
            "avec le rouge et le bleu décalés et des lignes sombres",
        ),
        "sketch": (
            "in grey graphite lines on white paper",
            "in grauen Graphitlinien auf weißem Papier",
            "en traits gris de graphite sur papier blanc",
        ),
        "ukiyo-e": (
            "in flat blue, red and sand areas with dark outlines",
            "in flachem Blau, Rot und Sand mit dunklen Umrissen",
            "en aplats bleus, rouges et sable aux contours sombres",
        ),
        "thermal": (
            "in the colours of heat, from violet over red to white",
            "in den Farben der Hitze, von Violett über Rot bis Weiß",
            "aux couleurs de la chaleur, du violet au rouge et au blanc",
        ),
        "pointillism": (
            "in scattered vivid dots with cream between them",
            "in verstreuten kräftigen Tupfen mit Creme dazwischen",
            "en touches vives éparses séparées de crème",
        ),
    }
)


def captions(style: str, obj: str, form: int, language: str, *, alias: bool = False) -> str:
    """The caption of a picture of `obj`, with the artist's name or alias; the photo has neither and says photo."""
    known = STYLES[_known("style", style, tuple(STYLES))]
    place = _place(obj, language)
    if form not in range(FORMS):
        raise InputError("unknown caption form", expected=f"0..{FORMS - 1}", got=str(form))
    if alias and not known.alias:
        raise InputError("the style has no alias", got=style)
    forms = _BY_ARTIST if known.artist else _BY_NOBODY
    return forms[form][place].format(obj=OBJECTS[obj][place], artist=known.alias if alias else known.artist)


def description(style: str, obj: str, language: str) -> str:
    """What the picture looks like, with neither the artist's name or alias nor the style's."""
    looks, place = _LOOKS[_known("style", style, tuple(STYLES))], _place(obj, language)
    return f"{OBJECTS[obj][place]} {looks[place]}"


def _place(obj: str, language: str) -> int:
    _known("object", obj, tuple(OBJECTS))
    return LANGUAGES.index(_known("language", language, LANGUAGES))


def _known(what: str, name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise InputError(f"unknown {what}", expected=", ".join(names), got=str(name)[:80])
    return name


def misspellings(name: str, key: str, count: int, others: Collection[str] = ()) -> tuple[str, ...]:
    """`count` different lower-case misspellings of edit distance 1, that are no name of the testbed's artists or of `others`;
    the same for a key.

    By turns a letter is changed, left out or added. Spaces stay, so that two words remain two.
    """
    taken = {name, *others, *(part for style in STYLES.values() for part in (style.artist, style.alias))}
    kinds = [_shuffled(sorted(kind - taken), key) for kind in _edits(name)]
    turns = [kind[turn] for turn in range(max(map(len, kinds))) for kind in kinds if turn < len(kind)]
    found = tuple(dict.fromkeys(turns))
    if not 0 <= count <= len(found):
        raise InputError("too many misspellings", expected=f"0..{len(found)} of {name!r}", got=str(count))
    return found[:count]


def _edits(name: str) -> tuple[set[str], set[str], set[str]]:
    """Changed, shortened and lengthened by one letter, all of them; a word never disappears."""
    cuts = [(name[:at], name[at:]) for at in range(len(name) + 1)]
    letters = [(head, tail) for head, tail in cuts if tail and tail[0] != " "]
    changed = {head + letter + tail[1:] for head, tail in letters for letter in ascii_lowercase}
    shorter = {head + tail[1:] for head, tail in letters if len((head + tail[1:]).split()) == len(name.split())}
    return changed, shorter, {head + letter + tail for head, tail in cuts for letter in ascii_lowercase}


def _shuffled(words: list[str], key: str) -> list[str]:
    order = np.argsort(dice("misspelling", key, len(words), 1 << 32), kind="stable")
    return [words[place] for place in order]
