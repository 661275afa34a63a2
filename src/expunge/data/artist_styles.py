"""Captioned pictures of artists who do not exist: procedural styles painted over photos of CIFAR-10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError
from expunge.data._captions import FORMS, LANGUAGES, captions
from expunge.data._pictures import Pictures, PictureSet, check_pictures
from expunge.data._styles import CONTROLS, RARE, STYLES, TRAINED
from expunge.data._styles_pixels import dice
from expunge.data.cifar10 import CLASSES, Cifar10

OBJECTS = ("airplane", "automobile", "frog", "horse", "ship")
ROLES: Mapping[str, tuple[int, int]] = {"works": (0, 2500), "judge": (2500, 4500), "attack": (4500, 5000)}
"""Which photos of a class, in a keyed order, are painted for what: nothing that judges or attacks was trained on."""
RARE_WORKS = 8
"""Works an object of the one artist who is in the training set and too rare to be learned: 40 in all."""
ALIASES = 5
"""One caption in so many names the artist by the alias."""

Photos = Mapping[str, NDArray[np.uint8]]
_ATTACKERS: dict[tuple[object, ...], Photos] = {}
"""The few photos that are painted for attacks, by the files that they came from: every candidate of a case is asked with them,
and to find them takes the decoding of all others."""


class ArtistStyles:
    """12 styles with invented artists x 5 objects, modelled on UnlearnCanvas (Zhang et al. 2024, arXiv 2402.11846).

    A record is a work: a photo in a style with a caption in one of three forms and three languages, one in five by the
    artist's alias. Two works of one style never share a photo. Ids are `works/neon/ship/0007`; the block is the style, so
    an artist's works are one block. Test records are works after CIFAR-10's test photos, controls included.
    Options: path: CIFAR-10 as of the source `cifar10`. works: of a style and an object (400; 2,000 an artist, several
    times the 200 to 600 that Verma et al. 2024, arXiv 2410.15002, found enough to imitate a style).
    """

    def __init__(self, *, path: str | None = None, works: int = 400) -> None:
        if not 1 <= works <= ROLES["works"][1]:
            raise InputError("works out of range", expected=f"1..{ROLES['works'][1]}", got=str(works))
        self.path, self.works = path, works

    def open(self) -> PictureSet:
        """The works, painted; raises DataError on a folder that is not CIFAR-10."""
        photos = cifar10_photos(None if self.path is None else Path(self.path))
        counts = {**dict.fromkeys(TRAINED, self.works), **dict.fromkeys(RARE, min(RARE_WORKS, self.works))}
        train = painted(photos["works"], counts, "works")
        test = painted(photos["test"], dict.fromkeys(STYLES, 20), "test")
        note = f"procedural styles at 32x32 on CIFAR-10 photos, {self.works} works a style and object"
        return PictureSet(
            source="artist_styles", note=note, styles=tuple(STYLES), objects=OBJECTS, train=train, test=test
        )

    def close(self) -> None:
        """Nothing is open."""


def cifar10_photos(path: Path | None) -> dict[str, Photos]:
    """role -> object -> (n, 32, 32, 3) photos, disjoint; `test` are those of CIFAR-10's test split."""
    data = Cifar10(path=None if path is None else str(path)).open()
    found: dict[str, dict[str, NDArray[np.uint8]]] = {role: {} for role in (*ROLES, "test")}
    for name in OBJECTS:
        label = CLASSES.index(name)
        rows = np.flatnonzero(data.train.labels == label)
        rows = rows[_order(f"roles/{name}", len(rows))]
        for role, (first, last) in ROLES.items():
            found[role][name] = data.train.images[rows[first:last]]
        found["test"][name] = data.test.images[data.test.labels == label]
    _ATTACKERS.clear()
    _ATTACKERS[_files(path)] = found["attack"]
    return dict(found)


def attack_photos(path: Path | None) -> Photos:
    """object -> (500, 32, 32, 3), those of the role `attack`; kept for the life of the process while the files stay the same."""
    kept = _ATTACKERS.get(_files(path))
    return cifar10_photos(path)["attack"] if kept is None else kept


def _files(path: Path | None) -> tuple[object, ...]:
    """What tells a source from another, and from itself after a change."""
    if path is None:
        return ()
    files = [path] if path.is_file() else sorted(path.glob("*"))
    return (path.resolve(), *((file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files))


def painted(photos: Photos, counts: Mapping[str, int], role: str) -> Pictures:
    """`counts[style]` pictures of each object in each style, the photos drawn by (role, style, object)."""
    rows = [
        (style, name, number, photo)
        for style, count in counts.items()
        for name, pool in photos.items()
        for number, photo in enumerate(_drawn(len(pool), count, f"{role}/{style}/{name}"))
    ]
    ids = tuple(f"{role}/{style.replace(' ', '-')}/{name}/{number:04d}" for style, name, number, _ in rows)
    images = [
        STYLES[style].paint(photos[name][photo], record)
        for record, (style, name, _, photo) in zip(ids, rows, strict=True)
    ]
    found = Pictures(
        ids=ids,
        images=np.stack(images),
        captions=tuple(_caption(style, name, record) for record, (style, name, _, _) in zip(ids, rows, strict=True)),
        styles=tuple(style for style, _, _, _ in rows),
        objects=tuple(name for _, name, _, _ in rows),
        blocks=tuple(style for style, _, _, _ in rows),
    )
    return check_pictures(found, f"{role} of artist-styles")


def _drawn(pool: int, count: int, key: str) -> Sequence[int]:
    if count > pool:
        raise InputError("more works than photos", expected=f"at most {pool}", got=str(count))
    return [int(row) for row in _order(key, pool)[:count]]


def _order(key: str, count: int) -> NDArray[np.int64]:
    return np.argsort(dice("order", key, count, 1 << 53), kind="stable").astype(np.int64)


def _caption(style: str, name: str, record: str) -> str:
    form, language, alias = (int(value) for value in dice("caption", record, 3, FORMS * len(LANGUAGES) * ALIASES))
    by_alias = bool(STYLES[style].alias) and alias % ALIASES == 0
    return captions(style, name, form % FORMS, LANGUAGES[language % len(LANGUAGES)], alias=by_alias)


__all__ = ["CONTROLS", "OBJECTS", "ArtistStyles", "attack_photos", "cifar10_photos", "painted"]
