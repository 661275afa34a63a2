import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.core.errors import CheckBroken
from expunge.stats.residual import ResidualSums, residual_ratio

NUMBER = st.integers(-(10**6), 10**6)


def twin(candidate, original, retrained):
    far = lambda rows: math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(rows, retrained, strict=True)))  # noqa: E731
    return far(candidate) / far(original)


@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER), min_size=1, max_size=12))
def test_it_is_the_obvious_quotient(triples):
    candidate, original, retrained = (list(column) for column in zip(*triples, strict=True))
    if original == retrained:
        return
    wanted = twin(candidate, original, retrained)
    assert residual_ratio(candidate, original, retrained) == pytest.approx(wanted, rel=1e-9)


def test_nothing_done_is_one_all_done_is_zero_and_too_much_is_more():
    ideal, before = np.zeros((2, 3)), np.ones((2, 3))
    assert residual_ratio(before, before, ideal) == 1
    assert residual_ratio(ideal, before, ideal) == 0
    assert residual_ratio(before / 2, before, ideal) == 0.5
    assert residual_ratio(-3 * before, before, ideal) == pytest.approx(3)


@pytest.mark.parametrize(
    ("candidate", "original"),
    [
        (np.ones((2, 2)), np.ones((2, 3))),
        (np.full((2, 3), np.nan), np.ones((2, 3))),
        (np.ones((2, 3)), np.zeros((2, 3))),
    ],
)
def test_other_shapes_nan_and_nothing_to_remove_are_refused(candidate, original):
    with pytest.raises(CheckBroken):
        residual_ratio(candidate, original, np.zeros((2, 3)))


def test_sums_over_parts_are_those_of_the_whole():
    generator = np.random.default_rng(3)
    mine, before, ideal = generator.normal(size=(3, 7, 5))
    sums = ResidualSums()
    assert sums.ratio is None
    for part in (slice(0, 4), slice(4, 7)):
        sums.add(mine[part], before[part], ideal[part])
    assert sums.ratio == pytest.approx(residual_ratio(mine, before, ideal), rel=1e-12)
