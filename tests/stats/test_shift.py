"""Mann-Whitney against counting every assignment, its direction, and its size under the null."""

from itertools import combinations

import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.shift import shift_test


def by_counting(high, low):
    """Share of all relabellings with at least this many wins."""
    pooled = np.concatenate([high, low])

    def wins(chosen):
        rest = np.delete(pooled, chosen)
        return sum((x > rest).sum() for x in pooled[list(chosen)])

    every = [wins(chosen) for chosen in combinations(range(len(pooled)), len(high))]
    return float(np.mean(np.array(every) >= wins(tuple(range(len(high))))))


def test_exact_for_small_sets():
    rng = np.random.default_rng(0)
    for _ in range(5):
        high, low = rng.normal(0.5, 1, 5), rng.normal(0, 1, 6)
        assert shift_test(high, low).above == pytest.approx(by_counting(high, low))


def test_direction_and_constants():
    rng = np.random.default_rng(1)
    found = shift_test(rng.normal(-1, 1, 100), rng.normal(0, 1, 100))
    assert found.below < 1e-6
    assert found.above > 0.99
    assert shift_test(np.ones(5), np.ones(9)).above == 1.0
    with pytest.raises(CheckBroken):
        shift_test([], [1.0])


def test_size_under_the_null():
    rng = np.random.default_rng(2)
    hits = sum(shift_test(rng.exponential(1, 40), rng.exponential(1, 60)).above <= 0.05 for _ in range(400))
    assert 7 <= hits <= 36  # 99.9 % of Binomial(400, .05)
