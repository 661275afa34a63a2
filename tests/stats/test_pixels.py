import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.pixels import images_of, nearest, noisy, shifted, step_towards


def drawn(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 4, 2)).astype(np.uint8)


def test_noisy_copies_are_seeded_differ_everywhere_and_have_their_size():
    images = np.full((40, 5, 4, 2), 128, np.uint8)
    copies = noisy(images, levels=16.0, copies=6, seed=3)
    assert copies.shape == (6, 40, 5, 4, 2)
    assert np.array_equal(copies, noisy(images, levels=16.0, copies=6, seed=3))
    assert not np.array_equal(copies, noisy(images, levels=16.0, copies=6, seed=4))
    assert (copies.astype(float) - 128).std() == pytest.approx(16.0, rel=0.05)


def test_no_copy_is_the_record_itself_however_small_the_noise():
    copies = noisy(drawn(30), levels=0.01, copies=4, seed=0)
    assert (copies != drawn(30)).reshape(4, 30, -1).any(axis=2).all()


def test_shifts_equal_their_twin():
    images = drawn(3)
    moved = shifted(images)
    for k, (down, right) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
        for row in range(5):
            for column in range(4):
                source = images[:, min(max(row + down, 0), 4), min(max(column + right, 0), 3)]
                np.testing.assert_array_equal(moved[k, :, row, column], source)


def test_nearest_equals_its_twin():
    images, pool = drawn(4), drawn(12, seed=1)
    rows = nearest(images, pool, 5)
    for image, found in zip(images, rows, strict=True):
        distances = [np.linalg.norm(image.astype(float) - other) for other in pool]
        assert sorted(distances)[:5] == pytest.approx([distances[k] for k in found])
    with pytest.raises(CheckBroken):
        nearest(images, pool[:4], 5)


def test_a_step_reports_the_length_it_really_took():
    images, goals = drawn(3), drawn(3, seed=1).astype(float)
    moved, lengths = step_towards(images, goals, 0.5)
    for image, goal, found, length in zip(images, goals, moved, lengths, strict=True):
        assert np.abs(found - (image + goal) / 2).max() <= 0.5
        assert length == pytest.approx(np.linalg.norm(found.astype(float) - image) / 255)
    still, none = step_towards(images, images, 0.5)
    assert np.array_equal(still, images)
    assert not none.any()


def test_what_is_not_images_breaks_the_check():
    for bad in (drawn(2).astype(float), drawn(2)[0], drawn(0)):
        with pytest.raises(CheckBroken):
            images_of("x", bad)
