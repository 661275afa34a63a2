import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.errors import CheckBroken
from expunge.stats.roc import auc, histogram, roc, tpr_at_fpr
from oracle import naive

scores = st.lists(st.integers(-4, 4), min_size=2, max_size=15)


@settings(max_examples=60, deadline=None)
@given(scores, scores)
def test_area_and_variance_by_definition_with_ties(members, nonmembers):
    found = auc(members, nonmembers)
    assert found.estimate == pytest.approx(naive.auc(members, nonmembers))
    variance = naive.delong_variance(members, nonmembers)
    if variance > 1e-12 and 0 < found.estimate < 1:
        a = found.estimate
        half = 1.959963984540054 * np.sqrt(variance) / (a * (1 - a))
        edge = 1 / (1 + np.exp(-(np.log(a / (1 - a)) + half)))
        assert found.high == pytest.approx(edge)
    else:
        assert found.low is None
        assert found.reason


@settings(max_examples=60, deadline=None)
@given(scores, scores)
def test_curve_area_is_the_pair_count(members, nonmembers):
    curve = roc(members, nonmembers)
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    area = np.sum(np.diff(curve.fpr) * (curve.tpr[1:] + curve.tpr[:-1]) / 2)
    assert area == pytest.approx(naive.auc(members, nonmembers))


def test_the_interval_of_the_area_covers_the_truth():
    rng, runs, hits = np.random.default_rng(0), 400, 0
    for _ in range(runs):
        found = auc(rng.normal(1, 1, 40), rng.normal(0, 1, 40))
        hits += found.low <= 0.7602499 <= found.high
    assert naive.within(hits, runs, 0.95)


@settings(max_examples=60, deadline=None)
@given(scores, scores, st.sampled_from([0.0, 0.1, 0.5, 0.9]))
def test_tpr_never_sits_above_the_asked_fpr(members, nonmembers, fpr):
    """The fault of reading the point nearest to the target: it may lie above it."""
    best = 0.0
    for cut in [*members, *nonmembers, 99]:
        if np.mean([n >= cut for n in nonmembers]) <= fpr + 1e-12:
            best = max(best, np.mean([m >= cut for m in members]))
    found = tpr_at_fpr(members, nonmembers, fpr)
    assert found.estimate <= best + 1e-12
    threshold_scores = sorted({*members, *nonmembers})
    if len({*members, *nonmembers}) == len(members) + len(nonmembers):
        assert found.estimate == pytest.approx(best), threshold_scores


def test_tpr_carries_the_exact_interval():
    found = tpr_at_fpr(np.arange(10, 20), np.arange(10), 0.1)
    assert (found.estimate, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 10))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=20, max_size=200))
def test_no_bin_of_a_figure_holds_fewer_than_twenty_records(values):
    found = histogram(values)
    assert found.counts.sum() == len(values)
    assert found.counts.min() >= 20
    assert (np.diff(found.edges) > 0).all()
    assert found.edges[0] <= min(values)
    assert found.edges[-1] >= max(values)


def test_a_single_score_cannot_be_read_from_the_axis():
    values = np.r_[np.random.default_rng(0).normal(size=300), 7.123456]
    found = histogram(values)
    assert not np.isclose(found.edges, 7.123456, atol=1e-3).any()
    assert found.counts[-1] >= 20
    assert histogram(values[:19]) is None
    assert histogram(np.full(25, 3.0)).counts.tolist() == [25]


@pytest.mark.parametrize("members", [[], [np.nan, 1.0], [[1.0]]])
def test_degenerate_scores_break_the_check(members):
    with pytest.raises(CheckBroken):
        auc(members, [0.0, 1.0])


def test_an_impossible_rate_is_refused():
    with pytest.raises(CheckBroken):
        tpr_at_fpr([1.0], [0.0], 1.0)


def test_the_band_covers_the_whole_true_curve_as_often_as_it_says():
    from scipy import stats

    from expunge.stats.roc import roc_band

    rng, missed = np.random.default_rng(11), 0
    for _ in range(200):
        band = roc_band(rng.normal(1, 1, 120), rng.normal(size=150), level=0.9)
        true = stats.norm.sf(stats.norm.isf(band.fpr) - 1)
        missed += bool(((true < band.low - 1e-12) | (true > band.high + 1e-12)).any())
    assert missed <= 33  # 10 % of 200 and three standard errors
