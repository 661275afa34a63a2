"""Black, noise and copies: sets of pictures on which every judge would say that the style is not there."""

import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.data._styles import STYLES
from expunge.training.judging.collapse import collapsed, require_alive, structure
from expunge.training.judging.judge import PicturesCollapsed
from judges.judging_hands import in_style_of
from pictures import pictures


def twin_nearest(images):
    """(N,) by two loops."""
    values = images.astype(float)
    return [min(np.sqrt(((a - b) ** 2).mean()) for m, b in enumerate(values) if m != n) for n, a in enumerate(values)]


@pytest.mark.parametrize("style", list(STYLES))
def test_real_styles_are_alive(style):
    found = require_alive(in_style_of(style, 24))
    assert found.n == 24
    assert found.reason is None


@pytest.mark.parametrize("level", [0, 127, 255])
def test_plain_pictures_are_seen(level):
    images = pictures(20)
    images[3:6] = level
    assert collapsed(images).flat == 3
    with pytest.raises(PicturesCollapsed, match="3 of 20 pictures are flat"):
        require_alive(images)


def test_noise_is_seen():
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    assert collapsed(images).noise == 20
    with pytest.raises(PicturesCollapsed, match="20 are noise"):
        require_alive(images)


def test_one_picture_twenty_times_is_seen_though_it_is_a_good_one():
    one = in_style_of("neon", 1)
    drawn = np.random.default_rng(0).integers(-3, 4, (20, 32, 32, 3))
    images = np.clip(one.astype(int) + drawn, 0, 255).astype(np.uint8)
    found = collapsed(images)
    assert (found.flat, found.noise, found.copies) == (0, 0, 20)
    with pytest.raises(PicturesCollapsed, match="copies"):
        require_alive(images)


def test_copies_equal_two_loops():
    images = pictures(12, seed=3)
    images[4] = images[9]
    images[0] = np.clip(images[1].astype(int) + 3, 0, 255)
    assert collapsed(images).copies == sum(distance < 4 for distance in twin_nearest(images)) == 4


def test_limits_are_stated_and_few_bad_ones_are_allowed():
    images = pictures(40)
    images[0] = 0
    images[1] = images[2]
    found = collapsed(images)
    assert (found.flat, found.copies, found.reason) == (1, 2, None)
    assert set(found.limits) == {"flat", "structure", "alike", "most_dead", "most_copies"}


def test_one_picture_and_none():
    assert collapsed(pictures(1)).copies == 0
    with pytest.raises(CheckBroken, match="no pictures"):
        collapsed(np.zeros((0, 32, 32, 3), np.uint8))


def test_structure_equals_numpys_correlation():
    image = pictures(1, channels=3)[0].astype(float)
    image -= image.mean(axis=(0, 1))
    moved = {
        (down, right): (image[down:, right:] * image[: 32 - down, : 32 - right]).mean()
        for down in range(5)
        for right in range(5)
    }
    expected = max(abs(value) for move, value in moved.items() if move != (0, 0)) / moved[0, 0]
    assert structure(pictures(1))[0] == pytest.approx(expected)


def test_noise_has_no_structure_and_a_constant_picture_is_not_noise():
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    grey = np.repeat(draw.integers(0, 256, (300, 32, 32, 1), dtype=np.uint8), 3, axis=3)
    assert structure(noise).max() < 0.12
    assert structure(grey).max() < 0.15
    assert structure(np.full((1, 32, 32, 3), 7, np.uint8))[0] == 1


def test_tiles_that_hardly_differ_are_no_noise():
    """A mosaic's grout is most of what varies in it: block means alone called it noise."""
    tiles = np.repeat(np.repeat(np.random.default_rng(0).integers(100, 120, (9, 8, 8, 3)), 4, 1), 4, 2)
    tiles[:, ::4], tiles[:, :, ::4] = 20, 20
    assert collapsed(tiles.astype(np.uint8)).noise == 0
