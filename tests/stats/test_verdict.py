import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.threearm import Outcome, PairArms, Rule, contrast_test, hall, three_arm
from expunge.stats.verdict import Further, all_pass, judge
from oracle import naive, verdicts
from oracle.banks import three_draws

RULE = Rule(margin=0.2, alpha=0.025, fail_alpha=0.025)
FURTHER = Further()


def signal(rng, pairs=48, gap=6.0, unlearned=0.0, **more):
    return PairArms.of(*three_draws(rng, pairs, gap=gap, unlearned=unlearned, correlation=-0.2, **more))


def test_the_whole_rule_is_its_slow_twin():
    rng, passed = np.random.default_rng(0), 0
    for k in range(24):
        arms = signal(rng, pairs=(24, 48)[k % 2], gap=(3.5, 6.0)[k % 3 == 0], unlearned=(0.0, 0.1)[k % 4 == 0])
        found = judge(arms, RULE, FURTHER)
        assert found.passed == verdicts.passes(arms.out, arms.into, arms.unlearned, RULE, FURTHER)
        passed += found.passed
    assert 3 < passed < 21


def test_the_guard_is_scipys_skewness_in_halls_transform():
    rng = np.random.default_rng(1)
    for values in (rng.normal(0.3, 1, 12), rng.exponential(size=16) - 1.4, -rng.exponential(size=40) + 0.7):
        found = contrast_test(values)
        assert found.guarded_below == pytest.approx(verdicts.guarded(values, "less"))
        assert found.guarded_above == pytest.approx(verdicts.guarded(values, "greater"))


def test_halls_transform_is_monotone_in_t():
    grid = np.linspace(-30, 30, 2001)
    for skewness in (-2.0, -0.3, 0.0, 0.3, 2.0):
        assert (np.diff([hall(t, skewness, 16) for t in grid]) >= 0).all()


def test_a_skewed_and_spread_out_x_passes_too_often_by_student_and_not_by_the_guard():
    """The attack: an unlearner that mostly under-shoots and now and then leaves a lot, at r = t exactly."""
    rng, runs, student, guard = np.random.default_rng(2), 2500, 0, 0
    for _ in range(runs):
        out, into, _ = three_draws(rng, 16, gap=6.0)
        left = 1.2 + 2 * (np.exp(rng.standard_normal(16)) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
        minus = contrast_test(left - 0.8 * out - 0.2 * into)
        student += minus.below <= 0.0125
        guard += minus.guarded_below <= 0.0125
    assert student / runs > 0.05
    assert naive.at_most(guard, runs, 0.05)


def test_each_condition_alone_withholds_the_pass():
    rng = np.random.default_rng(3)
    assert judge(signal(rng, pairs=60), RULE, FURTHER).passed
    far = PairArms.of(*three_draws(rng, 60, gap=20.0, unlearned=0.1))
    assert judge(far, RULE, FURTHER).missing == ("absolute",)
    out, into, left = three_draws(rng, 60, gap=6.0)
    assert judge(PairArms.of(out, into, 3.0 * (left - left.mean())), Rule(margin=0.4, alpha=0.025, fail_alpha=0.025),
                 Further(absolute=5.0, share=0.4)).missing == ("variance",)  # fmt: skip
    left[:10] = into[:10]
    few = judge(
        PairArms.of(out, into, left),
        Rule(margin=0.45, alpha=0.025, fail_alpha=0.025),
        Further(absolute=5.0, band=(0.01, 100.0)),
    )
    assert few.missing == ("share",)
    assert not few.per_run


def test_a_small_gap_passes_on_average_and_never_per_run():
    rng = np.random.default_rng(4)
    arms = PairArms.of(*three_draws(rng, 120, gap=2.5))
    found = judge(arms, Rule(margin=0.5, alpha=0.025, fail_alpha=0.025), FURTHER)
    assert found.passed
    assert not found.per_run


def test_the_absolute_bound_is_shown_at_the_alpha_that_may_be_spent():
    """Retries must not be judged at the level at which a breach fails."""
    rng, alpha = np.random.default_rng(5), 0.025 / 2**4
    for _ in range(300):
        arms = PairArms.of(*three_draws(rng, 24, gap=8.0))
        late = judge(arms, Rule(margin=0.3, alpha=alpha, fail_alpha=0.025), FURTHER)
        assert late.absolute.level == pytest.approx(1 - 2 * alpha)
        if "absolute" in late.missing and "absolute" not in judge(arms, RULE, FURTHER).missing:
            return
    raise AssertionError("no sample told the two levels apart")


def test_all_signals_must_pass_and_be_there():
    rng = np.random.default_rng(6)
    good, bad = judge(signal(rng, pairs=60), RULE, FURTHER), judge(signal(rng, unlearned=1.0), RULE, FURTHER)
    assert good.passed
    assert all_pass([good, good, good], 3)
    assert not all_pass([good, good], 3)
    assert not all_pass([good, good, bad], 3)
    assert not all_pass([], 1)
    with pytest.raises(CheckBroken):
        all_pass([], 0)


def test_an_x_arm_copied_from_the_o_arm_earns_no_pass():
    """The attack: the never-trained models themselves, in any order, presented as the unlearned ones."""
    rng = np.random.default_rng(7)
    out, into, fresh = three_draws(rng, 60, gap=6.0)
    assert three_arm(PairArms.of(out, into, fresh), RULE).outcome is Outcome.EQUIVALENT
    for copy in (out.copy(), out[::-1], rng.permutation(out)):
        assert three_arm(PairArms.of(out, into, copy), RULE).outcome is Outcome.OPEN


def test_pairs_counted_twice_earn_no_pass():
    """The attack: ten pairs reported five times look like fifty."""
    rng = np.random.default_rng(8)
    arms = [np.tile(column, 5) for column in three_draws(rng, 10, gap=6.0)]
    assert three_arm(PairArms.of(*arms), RULE).outcome is not Outcome.EQUIVALENT


@pytest.mark.parametrize("bad", [
    {"absolute": 0.0}, {"share": 0.0}, {"share": 1.0}, {"band": (1.5, 4.0)}, {"level": 1.0}, {"absolute": float("nan")},
    {"midpoint_gap": 0.0},
])  # fmt: skip
def test_impossible_bounds_are_refused(bad):
    with pytest.raises(CheckBroken):
        Further(**bad)
