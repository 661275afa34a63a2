"""What counts demonstrate about a share: slow obvious twins, and ties that a float would lose."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb

import pytest
from scipy import optimize, stats

from expunge.core.shares import MOST, exceeds, may_exceed, reaches
from expunge.stats.intervals import share_at_least, share_at_most

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.37, 0.95)
COUNTS = [(hits, trials) for trials in (1, 2, 3, 5, 8, 20, 64, 200) for hits in range(trials + 1)]


def lower(hits: int, trials: int) -> float:
    """The share at which `hits` or more have a chance of 1/20, by bisection over scipy's binomial."""
    if hits == 0:
        return 0.0
    return float(optimize.brentq(lambda p: stats.binom.sf(hits - 1, trials, p) - 0.05, 0, 1, xtol=1e-15))


def upper(hits: int, trials: int) -> float:
    """The share at which `hits` or fewer have a chance of 1/20."""
    if hits == trials:
        return 1.0
    return float(optimize.brentq(lambda p: stats.binom.cdf(hits, trials, p) - 0.05, 0, 1, xtol=1e-15))


@pytest.mark.parametrize("share", SHARES)
def test_limits_are_those_of_clopper_and_pearson_wherever_there_is_no_tie(share: float) -> None:
    for hits, trials in COUNTS:
        low, high = lower(hits, trials), upper(hits, trials)
        if abs(low - share) > 1e-9:
            assert exceeds(hits, trials, share) == reaches(hits, trials, share) == (low > share), (hits, trials)
        if abs(high - share) > 1e-9:
            assert may_exceed(hits, trials, share) == (high > share), (hits, trials)


def test_the_twins_agree_with_the_limits_that_reports_print() -> None:
    for hits, trials in COUNTS:
        assert lower(hits, trials) == pytest.approx(share_at_least(hits, trials), abs=1e-9)
        assert upper(hits, trials) == pytest.approx(share_at_most(hits, trials), abs=1e-9)


@pytest.mark.parametrize("trials", range(1, 12))
def test_all_of_n_have_the_lower_limit_that_is_the_nth_root_of_a_twentieth(trials: int) -> None:
    root = 0.05 ** (1 / trials)
    assert exceeds(trials, trials, round(root - 1e-6, 12))
    assert not exceeds(trials, trials, round(root + 1e-6, 12))


def test_one_of_one_lies_on_a_twentieth_and_not_above_it() -> None:
    assert share_at_least(1, 1) > 0.05, "the float that this module is there to replace"
    assert not exceeds(1, 1, 0.05)
    assert reaches(1, 1, 0.05)
    assert exceeds(1, 1, 0.0499)
    assert not reaches(1, 1, 0.0501)


def test_a_tie_at_the_upper_limit_is_not_above_it_either() -> None:
    """0 of 1 may be .95 and no more: (1 - .95) is exactly a twentieth."""
    assert not may_exceed(0, 1, 0.95)
    assert may_exceed(0, 1, 0.9499)


def test_slow_sum_of_fractions_gives_the_same_answers() -> None:
    for share, (hits, trials) in product(("1/20", "1/10", "1/3"), [(k, n) for n in range(1, 9) for k in range(n + 1)]):
        p = Fraction(share)
        above = sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(hits, trials + 1))
        written = float(p)
        if share != "1/3":  # a third cannot be written as a float
            assert exceeds(hits, trials, written) == (above < Fraction(1, 20))
            assert reaches(hits, trials, written) == (above <= Fraction(1, 20))


def test_nothing_seen_in_nothing_demonstrates_nothing_and_bounds_nothing() -> None:
    assert not exceeds(0, 0, 0.05)
    assert not reaches(0, 0, 0.05)
    assert may_exceed(0, 0, 0.999)


def test_more_hits_than_trials_exceed_everything_and_too_many_trials_are_answered_the_strict_way() -> None:
    assert exceeds(2, 1, 0.1)
    assert may_exceed(2, 1, 0.999)
    assert not exceeds(0, MOST, 0.05)
    for question in (exceeds, reaches, may_exceed):
        assert question(0, MOST + 1, 0.05)
