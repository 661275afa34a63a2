import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.rank import (
    detectable_shift,
    distance,
    leave_one_out,
    population_p_value,
    prediction_p_value,
    rank_e_value,
    rank_p_value,
    rank_p_values,
    ranked,
    ranked_p_values,
    uniform_distance,
    uniformity,
)
from oracle import naive, verdicts


@settings(max_examples=80, deadline=None)
@given(st.integers(-3, 3), st.lists(st.integers(-3, 3), min_size=1, max_size=20))
def test_the_rank_counts_ties_against_rejecting(value, anchors):
    n = len(anchors)
    assert rank_p_value(value, anchors) == (1 + sum(a >= value for a in anchors)) / (n + 1)
    assert rank_p_value(value, anchors, "below") == (1 + sum(a <= value for a in anchors)) / (n + 1)


def test_the_rank_is_exact_for_skewed_anchors():
    rng = np.random.default_rng(0)
    p = rank_p_values(rng.exponential(size=4000), rng.exponential(size=(19, 4000)))
    for k in (1, 2, 10):
        assert naive.within((p <= k / 20 + 1e-12).sum(), 4000, k / 20)


def test_nineteen_anchors_cannot_go_below_five_percent_by_rank():
    assert rank_p_value(1e9, np.zeros(19)) == pytest.approx(0.05)


def test_the_prediction_p_value_is_calibrated_where_the_plug_in_gaussian_is_not():
    """The attack on the reader: 8 references and a plug-in Gaussian reject several times too often at nominal 1 %."""
    rng, runs = np.random.default_rng(1), 4000
    values, anchors = rng.normal(size=runs), rng.normal(size=(runs, 8))
    mine = np.array([prediction_p_value(v, a) for v, a in zip(values, anchors, strict=True)])
    naive_p = stats.norm.sf((values - anchors.mean(1)) / anchors.std(1, ddof=1))
    assert naive.within((mine <= 0.01).sum(), runs, 0.01)
    assert not naive.at_most((naive_p <= 0.01).sum(), runs, 0.025)


def test_prediction_is_students_t_with_the_anchors_own_spread():
    anchors = np.array([0.3, -1.0, 0.8, 2.0, 0.1])
    by_hand = (1.7 - anchors.mean()) / (anchors.std(ddof=1) * np.sqrt(1 + 1 / 5))
    assert distance(1.7, anchors) == pytest.approx(by_hand)
    assert prediction_p_value(1.7, anchors) == pytest.approx(stats.t.sf(by_hand, 4))
    assert prediction_p_value(1.7, anchors, "below") == pytest.approx(stats.t.cdf(by_hand, 4))


def test_a_heavy_tail_cannot_raise_more_alarms_than_the_rank_allows():
    rng, runs = np.random.default_rng(2), 1500
    found = [
        ranked(float(v), a) for v, a in zip(rng.standard_cauchy(runs), rng.standard_cauchy((runs, 19)), strict=True)
    ]
    assert naive.at_most(sum(f.p <= 0.0125 for f in found), runs, 0.05)
    assert all(f.p >= f.rank for f in found if f.rank > 0.051)


def test_an_honest_file_is_failed_at_the_claimed_rate_and_a_member_is_found():
    rng, runs = np.random.default_rng(3), 2000
    honest = [ranked(float(rng.normal()), rng.normal(size=40)).p for _ in range(runs)]
    assert naive.at_most(sum(p <= 0.0125 for p in honest), runs, 0.0125)
    shift = detectable_shift(40, alpha=0.0125, power=0.8, seed=0)
    moved = [ranked(float(rng.normal() + shift), rng.normal(size=40)).p for _ in range(runs)]
    assert naive.within(sum(p <= 0.0125 for p in moved), runs, 0.8)


def test_the_detectable_shift_falls_with_anchors_and_grows_as_alpha_shrinks():
    few, many = (detectable_shift(n, alpha=0.0125, power=0.8, seed=0) for n in (19, 200))
    assert 3.0 < many < few
    assert detectable_shift(19, alpha=0.001, power=0.8, seed=0) > few


@pytest.mark.parametrize("alpha", [0.0125, 0.05, 0.1])
def test_the_detectable_shift_has_its_power_at_any_alpha(alpha):
    rng, runs = np.random.default_rng(8), 2000
    shift = detectable_shift(39, alpha=alpha, power=0.8, seed=0)
    p = ranked_p_values(rng.normal(size=runs) + shift, rng.normal(size=(runs, 39)))
    assert naive.within((p <= alpha).sum(), runs, 0.8)


@pytest.mark.parametrize("side", ["above", "below"])
def test_the_deciding_p_value_is_its_slow_twin_and_the_table_is_the_single_one(side):
    rng = np.random.default_rng(9)
    values, anchors = rng.normal(0, 2, 60), rng.standard_t(3, (60, 12))
    found = ranked_p_values(values, anchors, side)
    for value, row, p in zip(values, anchors, found, strict=True):
        assert p == pytest.approx(verdicts.deciding_p_value(value, row, side))
        assert p == pytest.approx(ranked(float(value), row, side).p)
    assert ranked_p_values([1.0], [[0.0] * 19])[0] == pytest.approx(0.05)


def test_the_rank_e_value_is_a_share_of_weights_with_mean_one():
    rng, runs = np.random.default_rng(10), 4000
    anchors = rng.standard_t(3, 20)
    assert rank_e_value(1.3, anchors) == pytest.approx(verdicts.rank_e_value(1.3, anchors, 2.0))
    assert rank_e_value(-1.3, -anchors, "below") == pytest.approx(rank_e_value(1.3, anchors))
    found = np.array([rank_e_value(float(rng.standard_cauchy()), rng.standard_cauchy(12)) for _ in range(runs)])
    assert found.mean() == pytest.approx(1, abs=4 * found.std() / np.sqrt(runs))
    assert 15 < rank_e_value(100.0, anchors, tilt=20.0) <= 21
    assert rank_e_value(1.0, [1.0, 1.0]) == 1


def test_saturated_scores_that_all_tie_do_not_single_out_the_candidate():
    """Float32 confidences end at exactly 1: a tie broken by position would put the candidate last everywhere."""
    assert population_p_value(np.zeros(50), np.zeros((39, 50))) == 1.0


def test_constant_anchors_leave_only_the_rank():
    found = ranked(1.0, np.zeros(19))
    assert found.prediction is None
    assert found.p == pytest.approx(0.05)


def test_placebos_are_each_anchor_among_the_others():
    anchors = np.array([0.0, 1.0, 2.0, 5.0])
    assert [item.rank for item in leave_one_out(anchors)] == [1.0, 0.75, 0.5, 0.25]
    assert all(item.n == 3 for item in leave_one_out(anchors))


def test_a_calibrated_null_is_accepted_at_its_level():
    rng, runs, refused = np.random.default_rng(4), 200, 0
    for seed in range(runs):
        p = rank_p_values(rng.normal(size=200), rng.normal(size=(19, 200)))
        refused += not uniformity(p, anchors=19, seed=seed, runs=500).calibrated
    assert naive.at_most(refused, runs, 0.03)


def test_a_half_data_null_is_refused_for_a_full_data_model():
    """The attack: models on half the data are less confident everywhere, so a full-data file looks like a member."""
    rng = np.random.default_rng(5)
    full, half = rng.normal(0.5, 1, size=500), rng.normal(0, 1, size=(24, 500))
    found = uniformity(rank_p_values(full, half), anchors=24, seed=0)
    assert not found.calibrated
    assert found.share_below > 0.08


def test_uniform_distance_is_kolmogorov_smirnov_on_the_grid():
    p = np.array([0.1, 0.1, 0.5, 1.0])
    steps = [abs(np.mean(p <= k / 10 + 1e-12) - k / 10) for k in range(1, 11)]
    assert uniform_distance(p, 9) == pytest.approx(max(steps))


def test_records_that_share_a_model_do_not_fool_the_population_rank():
    """All records of one model move together, so the independent band is wrong and the placebos are right."""
    rng, runs, low = np.random.default_rng(6), 300, 0
    for _ in range(runs):
        models = rng.normal(size=(20, 1)) + rng.normal(size=(20, 60))
        low += population_p_value(models[0], models[1:]) <= 0.05
    assert naive.at_most(low, runs, 0.05)
    models[0] += 8
    assert population_p_value(models[0], models[1:]) == pytest.approx(0.05)


@pytest.mark.parametrize("call", [
    lambda: rank_p_value(0.0, []),
    lambda: ranked(float("nan"), [0.0, 1.0]),
    lambda: ranked(0.0, [0.0, float("inf")]),
    lambda: rank_p_values([0.0, 1.0], [[0.0]]),
    lambda: leave_one_out([1.0]),
    lambda: detectable_shift(1, alpha=0.05, power=0.8, seed=0),
    lambda: uniformity([0.5] * 5, anchors=9, seed=0),
])  # fmt: skip
def test_degenerate_input_breaks_the_check(call):
    with pytest.raises(CheckBroken):
        call()
