import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.threearm import Outcome, PairArms, Rule, contrast_test, fieller, no_op, placebo, three_arm
from oracle import naive, verdicts
from oracle.banks import three_draws

RULE = Rule(margin=0.2, alpha=0.025, fail_alpha=0.025)


def outcomes(draw, runs, rule=RULE):
    return [three_arm(PairArms.of(*draw()), rule).outcome for _ in range(runs)]


def test_contrast_test_is_scipys_t_test_both_ways():
    values = np.random.default_rng(0).normal(0.3, 1, 12)
    found = contrast_test(values)
    assert found.below == pytest.approx(stats.ttest_1samp(values, 0, alternative="less").pvalue)
    assert found.above == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)


def test_decision_agrees_with_scipys_tests_on_random_arms():
    rng, passes = np.random.default_rng(1), 0
    for _ in range(150):
        arms = three_draws(rng, 20, gap=6.0, correlation=-0.3, unlearned=rng.choice([0.0, 0.1, 0.2]))
        mine = three_arm(PairArms.of(*arms), RULE).outcome is Outcome.EQUIVALENT
        assert mine == verdicts.equivalence(*arms, 0.2, 0.025)
        assert naive.equivalence(*arms, 0.2, 0.025) or not mine
        passes += mine
    assert 20 < passes < 130


def test_fieller_is_the_set_of_ratios_that_the_t_test_keeps():
    rng = np.random.default_rng(2)
    out, into, left = three_draws(rng, 16, gap=3.0, correlation=0.4, unlearned=0.3)
    found = fieller(left - out, into - out, 0.025)
    low, high = naive.fieller(left - out, into - out, 0.025, np.arange(-1, 2, 0.001))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.0011)
    assert found.estimate == pytest.approx((left - out).mean() / (into - out).mean())


def test_fieller_and_the_two_one_sided_tests_never_disagree():
    rng = np.random.default_rng(3)
    for _ in range(200):
        result = three_arm(PairArms.of(*three_draws(rng, 24, gap=5.0, unlearned=0.05)), RULE)
        student = max(result.minus.below, result.plus.above) <= RULE.alpha
        assert result.residual.inside(-0.2, 0.2) == student
        assert student or result.outcome is not Outcome.EQUIVALENT


def test_fieller_says_unbounded_when_the_gap_is_not_shown():
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(2, 12))
    for sign in (0.0, -3.0):
        found = fieller(noise[0], sign + noise[1], 0.025)
        assert (found.estimate, found.low, found.high) == (None, None, None)
        assert "unbounded" in found.reason or "no bounded" in found.reason


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize("residual", [0.2, -0.2])
def test_false_passes_at_the_margin_stay_at_alpha(correlation, residual):
    rng, runs = np.random.default_rng(5), 1500
    found = outcomes(lambda: three_draws(rng, 32, gap=4.0, correlation=correlation, unlearned=residual), runs)
    assert naive.at_most(found.count(Outcome.EQUIVALENT), runs, 0.025)
    alarms = found.count(Outcome.RESIDUE) + found.count(Outcome.OVER_UNLEARNED)
    assert naive.at_most(alarms, runs, 0.025)


def test_ignoring_the_negative_covariance_of_pairs_inflates_false_passes():
    """The attack: independent-arms formulas look like more data than there is. Ours keep alpha on the same draws."""
    rng, runs, paired, unpaired = np.random.default_rng(6), 2000, 0, 0
    covariance = [[1, -0.5, -0.5], [-0.5, 1, 0], [-0.5, 0, 1]]
    for _ in range(runs):
        arms = rng.multivariate_normal([0, 6.0, 1.2], covariance, size=40).T
        unpaired += naive.unpaired_equivalence(*arms, 0.2, 0.025)
        paired += three_arm(PairArms.of(*arms), RULE).outcome is Outcome.EQUIVALENT
    assert naive.at_most(paired, runs, 0.025)
    assert not naive.at_most(unpaired, runs, 0.025)


@pytest.mark.parametrize("shape", ["skewed", "heavy"])
def test_false_passes_stay_near_alpha_without_a_gaussian(shape):
    rng, runs = np.random.default_rng(7), 1200

    def noise():
        return rng.exponential(1, 32) - 1 if shape == "skewed" else rng.standard_t(3, 32) / np.sqrt(3)

    for residual in (0.2, -0.2):
        found = outcomes(lambda r=residual: (noise(), 4.0 + noise(), 4.0 * r + noise()), runs)
        assert naive.at_most(found.count(Outcome.EQUIVALENT), runs, 0.04)


@pytest.mark.parametrize("gap", [0.0, 0.2, 2.0, 6.0])
def test_a_no_op_never_passes_in_1000_runs(gap):
    rng = np.random.default_rng(8)
    for _ in range(1000):
        out, into, _ = three_draws(rng, 24, gap=gap)
        assert three_arm(PairArms.of(out, into, into), RULE).outcome is not Outcome.EQUIVALENT


def test_retraining_with_the_data_never_passes_in_1000_runs():
    """X is a fresh IN draw: no pair is equal to its I, and r = 1."""
    rng = np.random.default_rng(9)
    found = outcomes(lambda: three_draws(rng, 24, gap=3.0, correlation=-0.3, unlearned=1.0), 1000)
    assert found.count(Outcome.EQUIVALENT) == 0
    assert found.count(Outcome.RESIDUE) > 950


@settings(max_examples=150, deadline=None)
@given(
    st.integers(3, 12).flatmap(
        lambda n: st.tuples(*[st.lists(st.floats(-1e6, 1e6), min_size=n, max_size=n) for _ in range(2)])
    )
)
def test_a_no_op_never_passes_whatever_the_numbers(arms):
    out, into = arms
    result = no_op(PairArms.of(out, into, into), RULE)
    assert result.outcome is not Outcome.EQUIVALENT
    assert np.isfinite([result.equivalence_p, result.assay.above]).all()


def test_gradient_ascent_is_called_over_unlearned():
    rng = np.random.default_rng(10)
    found = outcomes(lambda: three_draws(rng, 24, gap=6.0, correlation=-0.3, unlearned=-0.6), 300)
    assert found.count(Outcome.OVER_UNLEARNED) > 280
    assert found.count(Outcome.EQUIVALENT) == 0


def test_a_blind_assay_is_blind_even_for_an_exact_retrain():
    rng = np.random.default_rng(11)
    found = outcomes(lambda: three_draws(rng, 32, gap=0.2), 400)
    assert found.count(Outcome.EQUIVALENT) <= 4
    assert found.count(Outcome.BLIND) > 300


def test_constant_arms_never_pass_and_never_divide_by_zero():
    flat = np.zeros(8)
    assert three_arm(PairArms.of(flat, flat, flat), RULE).outcome is Outcome.BLIND
    assert three_arm(PairArms.of(flat, flat + 1, flat + 1), RULE).outcome is Outcome.RESIDUE
    assert three_arm(PairArms.of(flat, flat + 1, flat), RULE).outcome is Outcome.OPEN
    assert three_arm(PairArms.of(flat, flat - 1, flat), RULE).outcome is Outcome.BLIND


def test_the_placebo_can_be_flagged_and_is_at_the_claimed_rate():
    """Its X come from pairs that are not judged, so its mean is not that of O by construction."""
    rng, runs, flagged = np.random.default_rng(12), 600, 0
    rule = Rule(margin=0.05, alpha=0.025, fail_alpha=0.025)
    for seed in range(runs):
        out, into, _ = three_draws(rng, 20, gap=4.0)
        sham = placebo(PairArms.of(out, into, into), rule, seed)
        assert sham.n == 10
        flagged += sham.outcome in (Outcome.RESIDUE, Outcome.OVER_UNLEARNED)
    assert flagged > 0
    assert naive.at_most(flagged, runs, 0.05)


def test_swapped_arms_never_pass():
    rng = np.random.default_rng(13)
    for _ in range(200):
        out, into, left = three_draws(rng, 30, gap=5.0)
        assert three_arm(PairArms.of(into, out, left), RULE).outcome is Outcome.BLIND


@pytest.mark.parametrize(
    "arms",
    [
        ([0, 1], [1, 2], [0, 1]),
        ([0, 1, 2], [1, 2], [0, 1, 2]),
        ([0, np.nan, 2], [1, 2, 3], [0, 1, 2]),
        ([0, 1, 2], [1, 2, 3], [0, 1, np.inf]),
    ],
)
def test_malformed_arms_break_the_check(arms):
    with pytest.raises(CheckBroken):
        PairArms.of(*arms)


@pytest.mark.parametrize("numbers", [(0.0, 0.025, 0.025), (1.0, 0.025, 0.025), (0.2, 0.0, 0.025), (0.2, 0.025, 0.7)])
def test_an_impossible_rule_is_refused(numbers):
    with pytest.raises(CheckBroken):
        Rule(margin=numbers[0], alpha=numbers[1], fail_alpha=numbers[2])


def test_an_alpha_spent_by_retries_hides_no_residue():
    """I > O and the residue are shown at fail_alpha and not at alpha: still a residue, and no pass."""
    rng = np.random.default_rng(5)
    arms = next(
        arms
        for arms in (PairArms.of(rng.normal(size=8), rng.normal(1.5, 1, 8), rng.normal(1.5, 1, 8)) for _ in range(200))
        if 0.002 < three_arm(arms, RULE).assay.above < 0.01 and three_arm(arms, RULE).outcome is Outcome.RESIDUE
    )
    assert three_arm(arms, Rule(margin=0.2, alpha=0.0016, fail_alpha=0.025)).outcome is Outcome.RESIDUE
    assert three_arm(arms, Rule(margin=0.2, alpha=0.0016, fail_alpha=0.0016)).outcome is Outcome.BLIND
