from dataclasses import replace

import numpy as np
import pytest
from scipy.fft import dct

from expunge.data._near import (
    PIXELS,
    Rule,
    distance,
    indexed,
    matches,
    perceptual_hash,
    thumbnails,
    unit,
    views,
    wanted,
)
from expunge.data._twins import TWINS
from pictures import pictures

EMBED = {PIXELS: thumbnails}
RULE = Rule(hash_agree=8, hash_alone=0, agree={PIXELS: 0.95}, alone={PIXELS: 0.98})


def slow_hash(image):
    """One picture, one coefficient after the other."""
    grey = image.astype(float) @ [0.299, 0.587, 0.114] if image.shape[2] == 3 else image.astype(float).mean(2)
    full = dct(dct(grey, axis=0, norm="ortho"), axis=1, norm="ortho")
    low = [full[u, v] for u in range(8) for v in range(8)][1:]
    middle = sorted(low)[31]
    return [int(value > middle) for value in low]


def bits_of(value):
    return [int(bit) for bit in np.unpackbits(np.array([value]).view(np.uint8))][:63]


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (32, 3), (28, 1)])
def test_hash_is_the_slow_hash(side, channels):
    for image, value in zip(pictures(6, side, channels), perceptual_hash(pictures(6, side, channels)), strict=True):
        assert bits_of(value) == slow_hash(image)


def test_distance_counts_differing_bits_to_the_nearest_view():
    images = pictures(20)
    hashes, one = perceptual_hash(images), wanted(images[3], EMBED)
    slow = [min(sum(a != b for a, b in zip(bits_of(h), bits_of(v), strict=True)) for v in one.hashes) for h in hashes]
    assert distance(hashes, one).tolist() == slow
    assert slow[3] == 0


def test_thumbnails_are_correlations():
    images = pictures(5, 16, 1)
    grey = images[..., 0].reshape(5, -1).astype(float)
    assert np.allclose(thumbnails(images) @ thumbnails(images).T, np.corrcoef(grey), atol=1e-5)


def test_brightness_changes_neither_detector_until_it_is_cut_off():
    image = (pictures(1) // 2 + 20).astype(np.uint8)
    brighter = np.rint(image * 1.3).astype(np.uint8)
    assert np.bitwise_count(perceptual_hash(image) ^ perceptual_hash(brighter))[0] <= 2
    assert (thumbnails(image) @ thumbnails(brighter).T)[0, 0] > 0.999


def test_views_begin_with_the_record_and_its_mirror_and_hold_every_shift():
    image = pictures(1)[0]
    seen = views(image)
    assert np.array_equal(seen[0], image)
    assert np.array_equal(seen[1], image[:, ::-1])
    moved = image[2:, :-1]  # two pixels up, one to the right
    assert any(np.array_equal(view[:-2, 1:], moved) for view in seen)
    assert len({view.tobytes() for view in seen}) == len(seen)


@pytest.mark.parametrize("name", list(TWINS))
@pytest.mark.parametrize(("side", "channels"), [(32, 3), (32, 1)])
def test_every_kind_of_twin_is_found_and_nobody_else(name, side, channels):
    images, rng = pictures(60, side, channels), np.random.default_rng(1)
    found = 0
    for slot in range(20):
        twin = TWINS[name](images[slot], rng)
        assert twin.shape == images[slot].shape
        assert not np.array_equal(twin, images[slot])
        index = indexed(np.concatenate([images[20:], twin[None]]), EMBED)
        rows = matches(index, wanted(images[slot], EMBED), RULE).tolist()
        assert set(rows) <= {40}
        found += rows == [40]
    assert found >= 18


def test_the_search_goes_both_ways_for_a_crop():
    """The attack: the request names the crop, and the whole picture stays."""
    images, rng = pictures(30), np.random.default_rng(2)
    index = indexed(images, EMBED)
    crops = [TWINS["cropped"](image, rng) for image in images]
    assert sum(slot in matches(index, wanted(crop, EMBED), RULE) for slot, crop in enumerate(crops)) >= 24


def test_a_record_that_is_not_present_is_not_found():
    images = pictures(10)
    index = indexed(np.concatenate([images, images]), EMBED)
    assert matches(index, wanted(images[4], EMBED), RULE).tolist() == [4, 14]
    gone = replace(index, present=np.arange(20) != 14)
    assert matches(gone, wanted(images[4], EMBED), RULE).tolist() == [4]


def test_blank_pictures_are_like_each_other_and_like_nothing_else():
    blank = np.zeros((1, 32, 32, 3), np.uint8)
    index = indexed(np.concatenate([pictures(50), blank, blank + 200]), EMBED)
    assert matches(index, wanted(blank[0], EMBED), RULE).tolist() == [50, 51]
    assert 50 not in matches(index, wanted(pictures(1)[0], EMBED), RULE)
    assert not thumbnails(blank).any()


def test_two_detectors_must_agree_or_one_must_be_certain():
    rule = Rule(hash_agree=8, hash_alone=1, agree={PIXELS: 0.9, "features": 0.7}, alone={PIXELS: 0.98})
    bits = np.array([8, 8, 9, 1, 20, 20, 20, 9])
    pixels = np.array([0.9, 0.89, 0.9, 0.0, 0.98, 0.97, 0.9, 0.5], np.float32)
    features = np.array([0.0, 0.69, 0.69, 0.0, 0.0, 0.6, 0.7, 0.99], np.float32)
    assert rule.holds(bits, {PIXELS: pixels, "features": features}).tolist() == [
        True, False, False, True, True, False, True, False,
    ]  # fmt: skip


def test_unit_rows_of_nothing_stay_nothing():
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    assert rows.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
