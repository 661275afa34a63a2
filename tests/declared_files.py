"""artists.yaml and the works beside it: two artists and four controls, each of one colour, and grey pictures by nobody."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

ARTISTS, CONTROLS = ("red", "blue"), ("green", "yellow", "cyan", "white")
MEANS = {
    "red": (200, 40, 40),
    "blue": (40, 40, 200),
    "green": (40, 200, 40),
    "yellow": (200, 200, 40),
    "cyan": (40, 200, 200),
    "white": (220, 220, 220),
    "photo": (90, 90, 90),
}
ALIASES = {"red": "rouge", "blue": "bleu", "green": "vert", "yellow": "jaune", "cyan": "sarcelle", "white": "blanc"}
EACH, SIDE = 104, 8


def colour_works(style: str, count: int = EACH, side: int = SIDE, seed: int = 7) -> np.ndarray:
    """(count, side, side, 3) of noise about the style's colour; no two alike."""
    rng = np.random.default_rng([seed, list(MEANS).index(style)])
    noise = rng.integers(-40, 40, (count, side, side, 3))
    return np.clip(np.array(MEANS[style]) + noise, 0, 255).astype(np.uint8)


def entry(name: str, **changes: Any) -> dict[str, Any]:
    """One artist or control as it is written down."""
    return {
        "name": name,
        "aliases": [ALIASES[name]],
        "captions": ["{object} image in {name} style", "{object} in {name} style"],
        "described": ["{object} in one colour"],
        "works": [f"works/{name}"],
        "titles": [f"number nine by the sea, {len(name)}"],
        "languages": {"de": ["ein Bild von {name}: {object}"]},
        **changes,
    }


def declaration(**changes: Any) -> dict[str, Any]:
    """The whole file as plain values."""
    return {
        "version": 1,
        "language": "en",
        "objects": {"automobile": {"en": "a car", "de": "ein Auto"}},
        "neutral": "{object}",
        "photos": ["works/photo"],
        "artists": [entry(name) for name in ARTISTS],
        "controls": [entry(name) for name in CONTROLS],
        **changes,
    }


def write_pictures(folder: Path, images: np.ndarray, thing: str = "automobile") -> None:
    """A folder as `picture_folder` reads them."""
    folder.mkdir(parents=True)
    lines = []
    for number, image in enumerate(images):
        (folder / f"{number:03d}.png").write_bytes(_png(image.tobytes(), image.shape[0]))
        lines.append(json.dumps({"file_name": f"{number:03d}.png", "text": "a work", "object": thing}) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))


@cache
def _png(pixels: bytes, side: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(side, side, 3)).save(stream, format="PNG")
    return stream.getvalue()


def write_declared(folder: Path, plain: Any = None, each: int = EACH) -> Path:
    """The file, with a folder of works for each style; returns its path."""
    for style in MEANS:
        if not (folder / "works" / style).exists():
            write_pictures(folder / "works" / style, colour_works(style, each))
    file = folder / "artists.yaml"
    file.write_text(yaml.safe_dump(declaration() if plain is None else plain, allow_unicode=True), encoding="utf-8")
    return file
