import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.stats.ranking import PerUser
from expunge.stats.ranking_difference import differences, noninferior, paired_difference, resolvable_margin
from oracle import naive

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def per_user(values, users=None):
    column = np.asarray(values, dtype=float)
    return PerUser(values=column, users=np.arange(column.size) if users is None else np.asarray(users), left_out=0)


def normal(rng, n):
    return rng.normal(0, 0.05, n)


def sparse(rng, n):
    """Seven users in ten are served as before."""
    return np.where(rng.random(n) < 0.7, 0.0, rng.normal(0, 0.05, n))


def losses(rng, n):
    """Nobody gains much, some lose: the skew that a plain t interval is fooled by. Mean 0."""
    return 0.015 - np.where(rng.random(n) < 0.7, 0.0, rng.exponential(0.05, n))


SHAPES = {normal: 0.05, sparse: 0.05 * np.sqrt(0.3), losses: np.sqrt(0.3 * 2 * 0.05**2 - 0.015**2)}


def test_identical_models_differ_by_exactly_nothing():
    value = per_user(np.random.default_rng(0).random(200))
    found = paired_difference(differences(value, value).values, seed=1)
    assert (found.mean, found.sd, found.changed, found.t_floor, found.bootstrap_floor) == (0, 0, 0, 0, 0)
    for bounds in (found.t, found.bootstrap):
        assert (bounds.low, bounds.high) == (0.0, 0.0)


def test_the_t_interval_and_its_floor_are_scipys():
    values = np.random.default_rng(1).normal(-0.01, 0.05, 80)
    found, theirs = paired_difference(values, seed=0), stats.ttest_1samp(values, 0)
    assert (found.t.low, found.t.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    above = stats.ttest_1samp(values, 0, alternative="greater").confidence_interval(0.95)
    assert found.t_floor == pytest.approx(above.low)
    assert (found.n, found.changed) == (80, 80)
    assert found.mean == pytest.approx(values.mean())


def test_the_bootstrap_is_scipys_bca_and_its_floor_one_sided():
    values = losses(np.random.default_rng(2), 120)
    found = paired_difference(values, seed=3, resamples=20_000)
    for level, mine in ((0.95, found.bootstrap.low), (0.9, found.bootstrap_floor)):
        theirs = stats.bootstrap(
            (values,), np.mean, confidence_level=level, method="BCa", n_resamples=20_000, rng=np.random.default_rng(4)
        ).confidence_interval.low
        assert mine == pytest.approx(theirs, abs=0.05 * values.std() / np.sqrt(120) * 2)
    assert found.bootstrap.low < found.bootstrap_floor < found.mean


def test_the_seed_alone_moves_the_bootstrap():
    values = normal(np.random.default_rng(3), 60)
    assert paired_difference(values, seed=1) == paired_difference(values, seed=1)
    assert paired_difference(values, seed=1).bootstrap != paired_difference(values, seed=2).bootstrap


def test_intervals_cover_the_truth():
    rng, runs, hits, floors = np.random.default_rng(4), 500, np.zeros(2, int), np.zeros(2, int)
    for _ in range(runs):
        found = paired_difference(normal(rng, 60) - 0.01, seed=0, resamples=300)
        hits += [b.low <= -0.01 <= b.high for b in (found.t, found.bootstrap)]
        floors += [found.t_floor <= -0.01, found.bootstrap_floor <= -0.01]
    assert naive.within(hits[0], runs, 0.95)
    assert naive.within(floors[0], runs, 0.95)
    # a bootstrap of a mean is short at 60 users: over 2,000 runs it misses .063 of the time
    assert naive.at_most(runs - hits[1], runs, 0.08)
    assert naive.at_most(runs - floors[1], runs, 0.08)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 5000), st.sampled_from([0.01, 0.025, 0.05, 0.1]), st.sampled_from([0.5, 0.8, 0.95]))
def test_the_resolvable_margin_inverts_the_power_of_the_t_test(n, alpha, power):
    margin = resolvable_margin(sd=0.07, n=n, alpha=alpha, power=power)
    shift = margin * np.sqrt(n) / 0.07
    assert stats.nct.sf(stats.t.ppf(1 - alpha, n - 1), n - 1, shift) == pytest.approx(power, abs=1e-4)


def test_the_resolvable_margin_is_a_known_multiple_of_the_standard_error():
    z = stats.norm.ppf(0.95) + stats.norm.ppf(0.8)
    assert resolvable_margin(sd=0.1, n=100_000) == pytest.approx(z * 0.1 / np.sqrt(100_000), rel=1e-3)
    assert resolvable_margin(sd=0.024, n=150) == pytest.approx(0.0049, abs=1e-4)  # 150 users of ml-latest-small
    assert resolvable_margin(sd=0.0, n=150) == 0.0


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [40, 150])
def test_a_loss_of_the_whole_margin_passes_at_most_alpha_of_the_time(shape, n, planned):
    rng, runs = np.random.default_rng(5), 1500
    margin = resolvable_margin(sd=SHAPES[shape], n=n)
    limit = margin if planned else None
    hits = sum(noninferior(shape(rng, n) - margin, margin, resolvable=limit).verdict is PASS for _ in range(runs))
    assert naive.at_most(hits, runs, 0.05)


def test_students_t_alone_would_pass_skewed_losses_too_often():
    """The attack on the reader: a few large losses, seldom sampled. 150 users, true loss = margin."""
    rng, runs, margin = np.random.default_rng(6), 1500, 0.01
    rare = [0.005 - np.where(rng.random(150) < 0.9, 0.0, rng.exponential(0.05, 150)) - margin for _ in range(runs)]
    plain = sum(stats.ttest_1samp(values, -margin, alternative="greater").pvalue <= 0.05 for values in rare)
    mine = sum(noninferior(values, margin, resolvable=margin).verdict is PASS for values in rare)
    assert plain / runs > 0.1
    assert naive.at_most(mine, runs, 0.05)


@pytest.mark.parametrize(("n", "power"), [(40, 0.8), (150, 0.8), (150, 0.9)])
def test_a_planned_margin_has_the_power_it_claims(n, power):
    rng, runs = np.random.default_rng(7), 1500
    margin = resolvable_margin(sd=0.05, n=n, power=power)
    hits = sum(noninferior(normal(rng, n), margin, power=power, resolvable=margin).verdict is PASS for _ in range(runs))
    assert naive.within(hits, runs, power)


def test_a_margin_twice_the_resolvable_one_is_passed_without_a_plan_and_no_loss_is_hardly_ever_failed():
    rng, runs = np.random.default_rng(8), 1000
    margin = 2 * resolvable_margin(sd=0.05, n=150)
    found = [noninferior(normal(rng, 150), margin).verdict for _ in range(runs)]
    assert found.count(PASS) / runs > 0.99
    assert FAIL not in found


def test_a_margin_below_the_resolvable_one_is_refused_even_when_lucky():
    values = normal(np.random.default_rng(9), 150)
    values += 0.003 - values.mean()  # a lucky sample: Student alone would show a loss below .004
    limit = resolvable_margin(sd=float(values.std(ddof=1)), n=150)
    found = noninferior(values, 0.004)
    assert found.floor > -0.004
    assert found.p <= 0.05
    assert found.resolvable == pytest.approx(limit)
    assert limit > 0.004
    assert found.verdict is INCONCLUSIVE
    assert "at best" in found.reason
    assert noninferior(values, 1.2 * limit).verdict is PASS


def test_a_shown_loss_fails_whatever_the_power_and_at_no_more_than_alpha():
    values = normal(np.random.default_rng(10), 150) - 0.05
    for margin in (0.0, 0.001, 0.02):
        found = noninferior(values, margin)
        assert found.verdict is FAIL
        assert "loss of more than" in found.reason
    rng, runs = np.random.default_rng(11), 1500
    hits = sum(noninferior(normal(rng, 60) - 0.02, 0.02).verdict is FAIL for _ in range(runs))
    assert naive.within(hits, runs, 0.05)


def test_a_no_op_comparison_passes_at_any_margin_and_says_that_it_is_a_fact():
    found = noninferior(np.zeros(150), 0.0)
    assert found.verdict is PASS
    assert "same for each" in found.reason
    assert (found.mean, found.floor, found.resolvable) == (0.0, 0.0, 0.0)


def test_one_difference_for_every_user_is_no_measurement():
    assert noninferior(np.full(150, 0.01), 0.0).verdict is INCONCLUSIVE
    assert noninferior(np.full(150, -0.01), 0.005).verdict is FAIL


def test_neither_shown_is_said_so():
    values = normal(np.random.default_rng(12), 40)
    found = noninferior(values - values.mean() - 0.01, 0.0201)
    assert found.verdict is INCONCLUSIVE
    assert "neither" in found.reason


def test_a_loss_too_rare_for_the_sample_is_not_seen_and_its_size_is_stated():
    """What the mean cannot do: 1 % of users lose everything, and a fifth of all samples of 150 hold none of them."""
    rng, runs = np.random.default_rng(13), 1000
    draws = [np.where(rng.random(150) < 0.01, -0.5, 0.0) for _ in range(runs)]
    found = [noninferior(values, 0.004) for values in draws]
    blind = sum(item.verdict is PASS for item in found)
    assert naive.within(blind, runs, 0.99**150)
    assert all(item.unseen_share > 0.01 for item in found)
    assert found[0].unseen_share == pytest.approx(stats.binomtest(0, 150).proportion_ci(0.9, method="exact").high)


def test_differences_are_of_the_same_users_only():
    found = differences(per_user([0.5, 0.2], [3, 7]), per_user([0.1, 0.4], [3, 7]))
    assert found.values == pytest.approx([0.4, -0.2])
    assert found.users.tolist() == [3, 7]
    with pytest.raises(CheckBroken, match="different users"):
        differences(per_user([0.5, 0.2], [3, 7]), per_user([0.5, 0.2], [3, 8]))


@pytest.mark.parametrize("call", [
    lambda: paired_difference([0.1, np.nan, 0.2], seed=0),
    lambda: paired_difference([0.1, 0.2], seed=0),
    lambda: paired_difference([0.1, 0.2, 0.3], seed=0, alpha=0.5),
    lambda: noninferior([0.1, 0.2, 0.3], -0.01),
    lambda: noninferior([0.1, 0.2, 0.3], float("nan")),
    lambda: noninferior([0.1, np.inf, 0.3], 0.01),
    lambda: noninferior([0.1, 0.2, 0.3], 0.01, power=0.01),
    lambda: noninferior([0.1, 0.2, 0.3], 0.01, resolvable=float("nan")),
    lambda: noninferior([0.1, 0.2, 0.3], 0.01, resolvable=-1.0),
    lambda: resolvable_margin(sd=-1.0, n=10),
    lambda: resolvable_margin(sd=float("nan"), n=10),
    lambda: resolvable_margin(sd=1.0, n=2),
])  # fmt: skip
def test_malformed_input_breaks_the_check(call):
    with pytest.raises(CheckBroken):
        call()
