"""The testbed's artists as an attacker meets them: how they are asked for, and works of theirs that nothing was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError
from expunge.data._captions import FORMS, LANGUAGES, captions, description, misspellings
from expunge.data._pictures import Pictures
from expunge.data._styles import STYLES
from expunge.data.artist_styles import painted
from expunge.training.text_to_image.probing import Wording
from expunge.training.text_to_image.words import MARK

EXAMPLES = 20
"""Works an object that an attacker has of an artist."""
_SPELLINGS = 12


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """One style that is asked for: its wording, and the attacker's own works in it."""

    style: str
    wording: Wording
    works: Pictures


def suspect(style: str, photos: Mapping[str, NDArray[np.uint8]]) -> Suspect:
    """A style of the testbed with works after these photos, which belong to attacks alone."""
    return Suspect(style=style, wording=wording_of(style), works=painted(photos, {style: EXAMPLES}, "attack"))


def wording_of(style: str) -> Wording:
    """The captions' first form for what trained; the other forms, the alias, misspellings, languages for what did not."""
    known = STYLES.get(style)
    if known is None or not known.artist:
        raise InputError(
            "no artist has this style", expected=", ".join(s for s in STYLES if STYLES[s].artist), got=style
        )
    wrong = misspellings(known.artist, style, _SPELLINGS)

    def cycled(pairs: Sequence[tuple[int, str]], *, alias: bool = False) -> Callable[[str, int], str]:
        def prompt(name: str, number: int) -> str:
            form, language = pairs[number % len(pairs)]
            return captions(style, name, form, language, alias=alias)

        return prompt

    def misspelt(name: str, number: int) -> str:
        return captions(style, name, 0, "en").replace(known.artist, wrong[number % len(wrong)])

    return Wording(
        direct=cycled([(form, "en") for form in range(FORMS)]),
        other={
            "titles": lambda name, number: f"{known.artist}: {name} number {number % 7 + 1}",
            "alias": cycled([(form, "en") for form in range(FORMS)], alias=True),
            "misspelt": misspelt,
            **{tongue: cycled([(form, tongue) for form in range(FORMS)]) for tongue in LANGUAGES if tongue != "en"},
        },
        described=lambda name, number: description(style, name, LANGUAGES[number % len(LANGUAGES)]),
        neutral=lambda name: captions("photo", name, 0, "en"),
        open_=lambda name: captions(style, name, 0, "en").replace(known.artist, MARK),
    )
