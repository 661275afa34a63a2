"""The procedural styles: the same bytes every time, pictures of any size, each told from the others by simple figures."""

import hashlib
import itertools

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from expunge.core.errors import InputError
from expunge.data._styles import CONTROLS, RARE, STYLES, TRAINED

NAMES = tuple(STYLES)
RANDOM = {"woodcut", "stained glass", "oil", "watercolour", "glitch", "sketch", "pointillism"}
SIZES = [(16, 16), (32, 32), (40, 24)]
LEAST = 20.0
"""Grey values, mean absolute difference, by which any two styles of one textured picture differ."""


def picture(shape=(32, 32)):
    """A coloured wave with a dark disc and a bright bar, by whole numbers only."""
    rows, columns = np.indices(shape)
    out = np.stack([(7 * rows) % 256, (5 * columns + 60) % 256, (3 * (rows + columns) + 20) % 256], axis=-1)
    out[(rows - shape[0] // 2) ** 2 + (columns - shape[1] // 2) ** 2 < 49] = (30, 60, 20)
    out[:, 3:6] = (230, 220, 240)
    return out.astype(np.uint8)


def digest(image):
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def photos(half, count):
    """(count, 32, 32, 3) patches from the left (0) or right (1) half of scikit-learn's two photos; flat ones are left out."""
    images, found, number = load_sample_images().images, [], 0
    while len(found) < count:
        side, image = (64, 96, 160)[number % 3], images[number % 2]
        high, wide = image.shape[0] - side, image.shape[1] // 2 - side
        top, left = number * 37 % high, half * (image.shape[1] // 2) + number * 61 % wide
        step = side // 32
        patch = image[top : top + side, left : left + side].reshape(32, step, 32, step, 3).mean(axis=(1, 3))
        if patch.mean(axis=-1).std() >= 12:
            found.append(np.rint(patch).astype(np.uint8))
        number += 1
    return np.stack(found)


def painted(name, patches, tag):
    return np.stack([STYLES[name].paint(patch, f"{tag}/{row}") for row, patch in enumerate(patches)])


def along(change):
    """Autocorrelation of (H, W) changes at 1 to 6 pixels down and across."""
    change = change - change.mean()
    power = (change**2).mean() + 1.0
    down = [(change[lag:] * change[:-lag]).mean() / power for lag in range(1, 7)]
    return down + [(change[:, lag:] * change[:, :-lag]).mean() / power for lag in range(1, 7)]


def figures(image):
    """Means and deviations of channels and of their differences, gradient energy, share of flat steps, repetition."""
    values = image.astype(float)
    grey, flat = values.mean(axis=-1), values.reshape(-1, 3)
    steps = [np.diff(grey, axis=axis) for axis in (0, 1)]
    out = [*flat.mean(axis=0), *flat.std(axis=0), *np.diff(flat, axis=1).std(axis=0)]
    for step in steps:
        out += [np.log(1 + np.abs(step).mean()), (np.abs(step) < 1).mean(), *along(step)]
    return np.array(out)


def test_the_table_is_whole():
    assert len(STYLES) >= 17
    assert sorted([*TRAINED, *RARE, *CONTROLS]) == sorted(NAMES)
    assert len(TRAINED) >= 9
    assert len(CONTROLS) >= 4
    assert all(style.name == name for name, style in STYLES.items())
    called = [name for style in STYLES.values() if style.artist for name in (style.artist, style.alias)]
    assert len(set(called)) == len(called) == 2 * len(STYLES) - 2
    assert all(len(name.split()) == 2 and name == name.lower() and name[0] not in "aeiou" for name in called)
    assert (STYLES["photo"].artist, STYLES["photo"].alias) == ("", "")
    with pytest.raises(TypeError):
        STYLES["photo"] = None


def test_neighbours_are_known_and_mutual():
    pairs = {(name, other) for name, style in STYLES.items() for other in style.neighbours}
    assert pairs == {(other, name) for name, other in pairs}
    assert ("duotone", "cyanotype") in pairs
    assert set(STYLES["halftone"].neighbours) == {"engraving", "woodcut"}
    assert set(STYLES["mosaic"].neighbours) == {"pixel", "stained glass"}
    assert len(pairs) == 2 + 6 + 6


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_are_pinned(name):
    assert digest(STYLES[name].paint(picture(), "pinned")) == PINNED[name]


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_shape_type_and_input_stay(name, shape):
    image = picture(shape)
    before = image.copy()
    image.setflags(write=False)
    out = STYLES[name].paint(image, "a")
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert np.array_equal(image, before)
    assert not np.shares_memory(out, image)
    assert np.array_equal(out, STYLES[name].paint(image, "a"))


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_black_and_white_pictures_are_painted_without_a_warning(name, shape, value):
    with np.errstate(all="raise"):
        out = STYLES[name].paint(np.full((*shape, 3), value, np.uint8), "a")
    assert out.dtype == np.uint8
    assert out.shape == (*shape, 3)


@pytest.mark.parametrize("name", NAMES)
def test_only_the_styles_with_dice_depend_on_the_key(name):
    seen = {digest(STYLES[name].paint(picture(), key)) for key in "abcdefgh"}
    assert (len(seen) > 1) == (name in RANDOM)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_does_not_depend_on_what_was_painted_before(name):
    alone = STYLES[name].paint(picture(), "a")
    np.random.seed(5)  # noqa: NPY002
    for other in NAMES:
        STYLES[other].paint(picture((40, 24)), "b")
    assert np.array_equal(STYLES[name].paint(picture(), "a"), alone)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((15, 32, 3), np.uint8),
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((32, 32, 3), np.float32),
    ],
    ids=["small", "grey", "alpha", "float"],
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(InputError, match="not a picture"):
        STYLES["neon"].paint(image, "a")


def apart(patches):
    """Mean absolute difference of every pair of styles, in grey values."""
    drawn = {name: painted(name, patches, "apart").astype(float) for name in NAMES}
    pairs = itertools.combinations(NAMES, 2)
    return {frozenset(pair): np.abs(drawn[pair[0]] - drawn[pair[1]]).mean() for pair in pairs}


def test_any_two_styles_of_one_textured_picture_differ():
    found = apart(picture()[None])
    assert {tuple(pair): gap for pair, gap in found.items() if gap < LEAST} == {}


def test_neighbours_are_closer_than_the_median_pair():
    found = apart(photos(0, 40))
    middle = np.median(list(found.values()))
    near = {frozenset((name, other)) for name in NAMES for other in STYLES[name].neighbours}
    assert {tuple(pair): found[pair] for pair in near if found[pair] >= middle} == {}


def share_right(names, learn, test):
    """Nearest class mean after whitening by the covariance within classes; the mean over styles of the share told right."""
    seen = {name: np.array([figures(image) for image in painted(name, learn, "learn")]) for name in names}
    spread = np.mean([np.cov(rows.T) for rows in seen.values()], axis=0) + 1e-6 * np.eye(len(figures(learn[0])))
    white = np.linalg.cholesky(np.linalg.inv(spread))
    means = np.stack([rows.mean(axis=0) @ white for rows in seen.values()])
    right = []
    for place, name in enumerate(names):
        rows = np.array([figures(image) for image in painted(name, test, "test")]) @ white
        right.append((((rows[:, None] - means) ** 2).sum(axis=-1).argmin(axis=1) == place).mean())
    return float(np.mean(right))


def test_simple_figures_tell_the_styles_of_unseen_patches():
    learn, test = photos(0, 80), photos(1, 40)
    assert share_right(TRAINED, learn, test) >= 0.9
    assert share_right(NAMES, learn, test) >= 0.85


PINNED = {
    "photo": "31c91932565d1457",
    "neon": "c964ffa91cab7f68",
    "duotone": "6e85c03cf3e08aa4",
    "cyanotype": "91f68282eeba10f2",
    "halftone": "5b80741fb56779fa",
    "engraving": "216022851123287f",
    "woodcut": "d0bb3f63e272063f",
    "mosaic": "4e89d0c8bae062b3",
    "pixel": "301495c82d297b15",
    "stained glass": "d913d0c34441092e",
    "oil": "75dc951aedcf74e1",
    "watercolour": "ab1e6018906dbe27",
    "pop art": "597f734edf2a7b46",
    "glitch": "f2f062e0f64f36ed",
    "sketch": "09b88441406a88a4",
    "ukiyo-e": "8614dd6495808a91",
    "thermal": "fcbf55b0418c9fbf",
    "pointillism": "28fc9da794271411",
}
