import numpy as np
import pytest
from scipy import stats

from expunge.stats.bounds import SHARE_LIMIT, VARIANCE_BAND, absolute_distance, midpoint_share, variance_ratio
from expunge.stats.threearm import PairArms
from oracle import naive
from oracle.banks import three_draws


def test_a_relative_margin_is_met_where_the_absolute_bound_is_broken():
    """The most exposed record: r = .15 of a 20 SD gap is 3 SD away from never seen."""
    rng = np.random.default_rng(0)
    arms = PairArms.of(*three_draws(rng, 40, gap=20.0, unlearned=0.15))
    assert absolute_distance(arms, 0.0125).outside(-1.0, 1.0)
    arms = PairArms.of(*three_draws(rng, 200, gap=20.0, unlearned=0.0))
    assert absolute_distance(arms, 0.0125).inside(-1.0, 1.0)


def test_the_midpoint_share_counts_runs_against_the_other_pairs():
    rng = np.random.default_rng(1)
    out, into, left = three_draws(rng, 32, gap=8.0)
    left[:5] = into[:5]
    found = midpoint_share(PairArms.of(out, into, left))
    slow = [left[k] > np.mean([(out[j] + into[j]) / 2 for j in range(32) if j != k]) for k in range(32)]
    assert found.estimate == pytest.approx(np.mean(slow)) == 5 / 32
    assert found.high > SHARE_LIMIT


def test_doing_nothing_in_one_run_of_ten_is_not_shown_to_be_rare():
    rng = np.random.default_rng(2)
    out, into, left = three_draws(rng, 30, gap=8.0)
    left[::10] = into[::10]
    assert midpoint_share(PairArms.of(out, into, left)).high > SHARE_LIMIT
    assert midpoint_share(PairArms.of(out, into, out[::-1])).high < SHARE_LIMIT


def test_the_variance_ratio_covers_the_truth_in_correlated_pairs():
    rng, runs, hits = np.random.default_rng(3), 500, 0
    for _ in range(runs):
        out, left = rng.multivariate_normal([0, 0], [[1, -0.6], [-0.6, 2]], size=20).T
        found = variance_ratio(PairArms.of(out, out, left))
        hits += found.low <= 2 <= found.high
    assert naive.within(hits, runs, 0.95)


def test_pitman_morgan_is_the_test_that_sum_and_difference_do_not_correlate():
    rng = np.random.default_rng(4)
    out, left = rng.normal(size=(2, 15)) * np.array([[1.0], [2.0]])
    p = stats.pearsonr(out + left, left - out).pvalue
    edge = variance_ratio(PairArms.of(out, out, left), level=1 - p)
    assert min(abs(edge.low - 1), abs(edge.high - 1)) < 1e-6


def test_a_clamp_at_the_out_mean_violates_the_variance_band():
    rng = np.random.default_rng(5)
    out, into, _ = three_draws(rng, 20, gap=4.0)
    assert variance_ratio(PairArms.of(out, into, np.full(20, out.mean()))).outside(*VARIANCE_BAND)
    found = variance_ratio(PairArms.of(np.ones(20), into, out))
    assert found.estimate is None
    assert found.reason
