import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.intervals import (
    clopper_pearson,
    paired_bootstrap,
    share_at_least,
    share_at_most,
    standardised_mean,
)
from oracle import naive


@settings(max_examples=25, deadline=None)
@given(trials=st.integers(1, 60), data=st.data())
def test_clopper_pearson_inverts_the_binomial_test(trials, data):
    hits = data.draw(st.integers(0, trials))
    found = clopper_pearson(hits, trials, 0.95)
    assert (found.low, found.high) == pytest.approx(naive.clopper_pearson(hits, trials, 0.95), abs=2e-5)


def test_the_run_counts_of_the_verdict_page():
    assert share_at_most(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert share_at_most(0, 20) < 0.15
    assert share_at_most(1, 32) < 0.15 < share_at_most(1, 29)
    assert share_at_most(0, 18) > 0.15
    assert share_at_least(0, 20) == 0.0
    assert share_at_least(20, 20) == pytest.approx(0.05 ** (1 / 20))


@pytest.mark.parametrize(("hits", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_an_impossible_count_is_refused(hits, trials):
    with pytest.raises(CheckBroken, match="hits"):
        clopper_pearson(hits, trials)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("kind", ["few values", "many values"])
def test_bootstrap_agrees_with_scipy(method, kind):
    rng = np.random.default_rng(3)
    values = (
        rng.choice([-1.0, 0.0, 1.0], size=200, p=[0.2, 0.7, 0.1]) if kind == "few values" else rng.exponential(size=80)
    )
    mine = paired_bootstrap(values, level=0.95, seed=1, method=method, resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=0.95, method=method.upper() if method == "bca" else method,
        n_resamples=20_000, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert (mine.low, mine.high) == pytest.approx(theirs, abs=0.03 * values.std())


def test_bca_leans_with_the_skew_where_the_percentile_does_not():
    values = np.random.default_rng(1).exponential(size=12) ** 2
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=0.95, method="BCa", n_resamples=40_000, rng=np.random.default_rng(2)
    ).confidence_interval
    bca, plain = (
        paired_bootstrap(values, level=0.95, seed=1, method=m, resamples=40_000) for m in ("bca", "percentile")
    )
    assert (bca.low, bca.high) == pytest.approx(theirs, rel=0.04)
    assert bca.high > 1.1 * plain.high


def test_bootstrap_is_the_same_for_the_same_seed_and_only_then():
    values = np.random.default_rng(0).normal(size=100)
    first, again, other = (paired_bootstrap(values, level=0.9, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_bootstrap_does_not_depend_on_chunking(monkeypatch):
    values = np.random.default_rng(0).normal(size=100)
    whole = paired_bootstrap(values, level=0.9, seed=1, resamples=500)
    monkeypatch.setattr("expunge.stats.intervals._CHUNK", 1000)
    assert paired_bootstrap(values, level=0.9, seed=1, resamples=500) == whole


def test_standardised_mean_covers_the_truth_with_correlated_pairs():
    rng, gap, runs = np.random.default_rng(4), 2.0, 600
    shared = np.array([[1.0, -0.4], [-0.4, 2.25]])
    hits = 0
    for _ in range(runs):
        out, into = (rng.multivariate_normal([0, gap], shared, size=14)).T
        found = standardised_mean(into - out, out, alpha=0.025)
        hits += found.low <= gap <= found.high
    assert naive.within(hits, runs, 0.95)


def test_standardised_mean_is_the_non_central_t_when_both_spreads_agree():
    values = np.array([1.0, 2.0, 4.0, 1.5, 0.2])
    found = standardised_mean(values, values, alpha=0.025)
    t = np.sqrt(5) * values.mean() / values.std(ddof=1)
    assert stats.nct.cdf(t, 4, found.low * np.sqrt(5)) == pytest.approx(0.975, abs=1e-6)
    assert stats.nct.cdf(t, 4, found.high * np.sqrt(5)) == pytest.approx(0.025, abs=1e-6)


def test_a_huge_standardised_mean_keeps_an_interval_in_order():
    rng = np.random.default_rng(0)
    found = standardised_mean(1e6 + rng.normal(size=20), rng.normal(size=20), alpha=0.025)
    assert 0.3e6 < found.low < found.estimate < found.high < 3e6


def test_a_unit_without_spread_gives_no_number_but_a_reason():
    found = standardised_mean(np.arange(5.0), np.ones(5), alpha=0.025)
    assert (found.estimate, found.low, found.high) == (None, None, None)
    assert "does not vary" in found.reason
    assert not found.inside(-9, 9)
    assert not found.outside(-9, 9)


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 0.0], [[1.0, 2.0]], ["x", "y"], [1.0]])
def test_nan_and_wrong_shapes_break_the_check(bad):
    with pytest.raises(CheckBroken):
        paired_bootstrap(bad, level=0.95, seed=0)
