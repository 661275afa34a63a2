"""Judges, pictures and answers made by hand."""

from __future__ import annotations

import numpy as np

from expunge.data._pictures import Pictures
from expunge.data._styles import STYLES
from expunge.training.judging.judge import OTHER, Judged
from pictures import pictures as smooth

STYLE_NAMES = ("red", "green", "blue", OTHER)


def answer(judge, family, numbers, styles=STYLE_NAMES, **more):
    return Judged(judge=judge, family=family, styles=styles, style=np.array(numbers, np.int64), **more)


class ColourJudge:
    """Says which channel is the brightest; `wrong` (numbers of pictures) are called by another name."""

    name, family, styles, digest = "colour", "colours", STYLE_NAMES, "sha256:" + "0" * 64

    def __init__(self, wrong=(), says=0):
        self.wrong, self.says = list(wrong), says

    def judge(self, pictures):
        found = pictures.reshape(len(pictures), -1, 3).mean(axis=1).argmax(axis=1).astype(np.int64)
        found[self.wrong] = self.says
        things = np.tile([0.7, 0.3], (len(pictures), 1))
        return answer(self.name, self.family, found, objects=("car", "frog"), things=things)


def coloured(each=60, seed=0):
    """`each` noisy pictures of the three colours; every second one shows a car."""
    draw = np.random.default_rng(seed)
    rows = [(number, n) for number in range(3) for n in range(each)]
    images = draw.integers(0, 90, (len(rows), 32, 32, 3))
    for slot, (number, _) in enumerate(rows):
        images[slot, ..., number] += 120
    styles = tuple(STYLE_NAMES[number] for number, _ in rows)
    return Pictures(
        ids=tuple(f"test/{style}/{n}" for style, (_, n) in zip(styles, rows, strict=True)),
        images=images.astype(np.uint8),
        captions=("",) * len(rows),
        styles=styles,
        objects=tuple(("car", "frog")[n % 2] for _, n in rows),
        blocks=styles,
    )


def in_style_of(style, count=12, seed=0):
    """Smooth random fields painted in a style: no photos, and no file is needed."""
    return np.stack([STYLES[style].paint(image, f"{seed}/{n}") for n, image in enumerate(smooth(count, seed=seed))])


def photo_patches():
    """(N, 32, 32, 3) real photos: patches of scikit-learn's two sample pictures in a quarter of their size, without the sky."""
    from sklearn.datasets import load_sample_images

    found = []
    for image in load_sample_images().images:
        size = [side // 4 * 4 for side in image.shape[:2]]
        small = image[: size[0], : size[1]].reshape(size[0] // 4, 4, size[1] // 4, 4, 3).mean(axis=(1, 3))
        places = [(t, left) for t in range(0, small.shape[0] - 31, 24) for left in range(0, small.shape[1] - 31, 24)]
        found += [small[t : t + 32, left : left + 32] for t, left in places]
    return np.rint(np.stack([image for image in found if image.std(axis=(0, 1)).max() > 20])).astype(np.uint8)


def painted_patches(style, key="patch"):
    """The patches in one style."""
    return np.stack([STYLES[style].paint(image, f"{key}/{n}") for n, image in enumerate(photo_patches())])
