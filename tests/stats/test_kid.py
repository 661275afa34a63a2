"""Distances of pictures: against sums written out, against the true distance where it can be counted out, and its limits."""

import itertools
import math

import numpy as np
import pytest
from scipy import linalg, stats

from expunge.core.errors import CheckBroken
from expunge.stats.kid import BLOCK, apart, distance, frechet, kernel, squared_mmd


def drawn(n=40, d=3, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def k(x, y):
    return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3


def slow_mmd(first, second):
    n = len(first)
    total = 0.0
    for i, j in itertools.product(range(n), repeat=2):
        if i != j:
            total += k(first[i], first[j]) + k(second[i], second[j]) - k(first[i], second[j]) - k(first[j], second[i])
    return total / (n * (n - 1))


def true_mmd(pairs, chances):
    """Between the two margins of a distribution over pairs, counted out."""

    def mean(one, other):
        return sum(
            p * q * k(pairs[i][one], pairs[j][other])
            for (i, p), (j, q) in itertools.product(enumerate(chances), repeat=2)
        )

    return mean(0, 0) + mean(1, 1) - 2 * mean(0, 1)


def test_the_kernel_is_the_published_one():
    x, y = drawn(2), drawn(3, seed=1)
    assert kernel(x, y).shape == (2, 3)
    assert kernel(x, y)[1, 2] == pytest.approx((float(x[1] @ y[2]) / 3 + 1) ** 3)


@pytest.mark.parametrize("n", [2, 3, 11])
def test_the_estimate_is_the_sum_over_all_pairs_but_partners(n):
    x, y = drawn(n), drawn(n, shift=0.5, seed=1)
    assert squared_mmd(x, y) == pytest.approx(slow_mmd(x.tolist(), y.tolist()))


@pytest.mark.parametrize("n", [2, 3])
def test_the_estimate_is_unbiased_though_partners_hang_together(n):
    """Every sample there is, weighed by its chance: the mean is the distance itself, be partners alike or not."""
    pairs = [((0.0, 1.0), (0.0, 1.0)), ((2.0, -1.0), (1.0, 1.0)), ((-1.0, 0.5), (-1.0, 0.0))]
    chances = [0.5, 0.3, 0.2]
    mean = 0.0
    for rows in itertools.product(range(3), repeat=n):
        x, y = (np.array([pairs[row][side] for row in rows]) for side in (0, 1))
        mean += math.prod(chances[row] for row in rows) * squared_mmd(x, y)
    assert mean == pytest.approx(true_mmd(pairs, chances))
    assert mean > 0.05


def test_pictures_that_did_not_change_are_at_no_distance():
    x = drawn()
    found = distance([(x, x.copy())])
    assert (found.estimate, found.at_least, found.at_most) == (pytest.approx(0, abs=1e-12),) * 3


def test_limits_are_t_limits_over_blocks_of_one_style_each():
    groups = [(drawn(45, seed=s), drawn(45, shift=0.3, seed=s + 10)) for s in range(3)]
    blocks = []
    for x, y in groups:
        for rows in (range(23), range(23, 45)):  # 45 pictures make two blocks
            blocks.append(slow_mmd([x[i] for i in rows], [y[i] for i in rows]))
    found = distance(groups)
    reach = stats.t.ppf(0.95, 5) * np.std(blocks, ddof=1) / math.sqrt(6)
    assert (found.blocks, found.n) == (6, 135)
    assert found.estimate == pytest.approx(np.mean(blocks))
    assert (found.at_least, found.at_most) == (
        pytest.approx(found.estimate - reach),
        pytest.approx(found.estimate + reach),
    )


def test_few_pictures_are_still_two_blocks():
    assert distance([(drawn(6), drawn(6, seed=1))]).blocks == 2
    assert distance([(drawn(3 * BLOCK), drawn(3 * BLOCK, seed=1))]).blocks == 3


def test_two_samples_of_one_model_are_within_chance_and_two_models_are_not():
    same = distance([(drawn(400), drawn(400, seed=1))])
    other = distance([(drawn(400), drawn(400, shift=0.5, seed=1))])
    assert same.at_least < 0 < same.at_most < other.at_least


def test_artists_who_changed_places_are_seen_style_by_style():
    """Together their pictures are what they were; each one's are not."""
    one, two = drawn(), drawn(shift=2, seed=1)
    apart_by = apart([one, two])
    assert distance([(one, two), (two, one)]).estimate > 0.9 * apart_by
    together = np.concatenate([one, two])
    assert abs(squared_mmd(together, together[::-1])) < 0.1 * apart_by


def test_the_unit_is_the_mean_over_pairs_of_styles():
    groups = [drawn(shift=shift, seed=seed) for seed, shift in enumerate((0, 1, 3))]
    sums = [slow_mmd(a.tolist(), b.tolist()) for a, b in itertools.combinations(groups, 2)]
    assert apart(groups) == pytest.approx(sum(sums) / 3)


def test_frechet_is_the_published_formula():
    x, y = drawn(60, 4), drawn(60, 4, shift=0.7, seed=1) * 2
    one, two = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(0) - y.mean(0)
    slow = gap @ gap + np.trace(one + two - 2 * linalg.sqrtm(one @ two).real)
    assert frechet(x, y) == pytest.approx(slow)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_of_one_model_grows_as_pictures_get_fewer_and_the_kernel_distance_does_not():
    """Why the one is only reported."""
    few = [(drawn(12, 6, seed=s), drawn(12, 6, seed=s + 100)) for s in range(20)]
    many = [(drawn(300, 6, seed=s), drawn(300, 6, seed=s + 100)) for s in range(20)]
    assert np.mean([frechet(*pair) for pair in few]) > 10 * np.mean([frechet(*pair) for pair in many]) > 0
    assert abs(np.mean([squared_mmd(*pair) for pair in few])) < 0.2 * np.mean([frechet(*pair) for pair in few])


@pytest.mark.parametrize(
    "pair",
    [
        (drawn(1), drawn(1)),
        (drawn(4), drawn(5)),
        (drawn(4), np.full((4, 3), np.nan)),
        (drawn(4)[:, 0], drawn(4)[:, 0]),
        (np.zeros((4, 0)), np.zeros((4, 0))),
    ],
)
def test_what_cannot_be_compared_is_refused(pair):
    for measure in (squared_mmd, frechet):
        with pytest.raises(CheckBroken):
            measure(*pair)
    with pytest.raises(CheckBroken):
        distance([pair])
    with pytest.raises(CheckBroken):
        distance([])
    with pytest.raises(CheckBroken):
        apart([drawn()])
