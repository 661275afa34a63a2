import math

import numpy as np
import pytest
from scipy import integrate

from expunge.core.errors import CheckBroken
from expunge.stats.evalues import MIXED, calibrated, e_process, p_value_of, t_e_value
from oracle import definitions


@pytest.mark.parametrize("kappa", [0.2, 0.5, 0.9, MIXED])
def test_a_calibrator_integrates_to_one_over_uniform_p_values(kappa):
    area = integrate.quad(lambda u: calibrated(math.exp(-u), kappa) * math.exp(-u), 0, 700, limit=2000)[0]
    assert area == pytest.approx(1, abs=0.01)  # beyond u = 700, p is 0 in floating point


def test_the_mixture_is_the_mean_over_kappa():
    for p in (0.001, 0.03, 0.4, 0.9, 0.99995):
        mean = integrate.quad(lambda k, p=p: k * p ** (k - 1), 0, 1)[0]
        assert calibrated(p) == pytest.approx(mean, rel=1e-6)


def test_t_e_value_is_the_ratio_of_scipys_densities():
    rng = np.random.default_rng(0)
    for n, effect, mean in ((4, 0.3, 0.0), (8, 1.0, 0.5), (20, 0.5, -0.5), (60, 2.0, 1.0)):
        values = rng.normal(mean, 1, n)
        assert t_e_value(values, effect) == pytest.approx(definitions.t_e_value(values, effect), rel=1e-6)


@pytest.mark.parametrize("mean", [0.0, -0.4])
def test_the_mean_of_an_e_value_is_at_most_one_on_the_null(mean):
    rng = np.random.default_rng(1)
    values = np.array([t_e_value(rng.normal(mean, 1, 8), 0.4) for _ in range(4000)])
    error = values.std() / math.sqrt(values.size)
    assert values.mean() < 1 + 4 * error
    if mean == 0:
        assert values.mean() == pytest.approx(1, abs=max(0.15, 4 * error))


def test_scale_plays_no_part():
    values = np.random.default_rng(2).normal(0.3, 1, 9)
    assert t_e_value(values * 1000, 0.4) == pytest.approx(t_e_value(values, 0.4), rel=1e-9)


def test_peeking_after_every_chunk_stays_inside_alpha_and_a_t_test_does_not():
    rng, alarms, naive = np.random.default_rng(3), 0, 0
    for _ in range(600):
        chunks = rng.normal(size=(12, 6))
        alarms += e_process(list(chunks), 0.5).max() >= 20
        looks = [chunks[: k + 1].ravel() for k in range(12)]
        naive += any(x.mean() / (x.std(ddof=1) / math.sqrt(x.size)) > 1.7 for x in looks)
    assert alarms <= 43  # 5 % of 600 and three standard errors
    assert naive > 70


def test_evidence_grows_where_there_is_an_effect():
    chunks = list(np.random.default_rng(4).normal(0.8, 1, (10, 8)))
    path = e_process(chunks, 0.5)
    assert path[-1] > 1e6
    assert path.shape == (10,)


def test_an_overwhelming_effect_is_a_large_number_and_no_overflow():
    values = np.random.default_rng(5).normal(50, 1, 400)
    assert t_e_value(values, 10.0) > 1e300
    assert np.isfinite(e_process([values, values], 10.0)).all()


def test_a_p_value_from_an_e_value_is_its_inverse():
    assert [p_value_of(e) for e in (0.0, 0.5, 1.0, 20.0, math.inf)] == [1, 1, 1, 0.05, 0]
    for bad in (-1.0, math.nan):
        with pytest.raises(CheckBroken):
            p_value_of(bad)


def test_values_without_spread_say_nothing():
    assert t_e_value([1.0, 1.0, 1.0], 0.5) == 1


@pytest.mark.parametrize("bad", [[1.0], [1.0, float("nan")], [[1.0, 2.0]]])
def test_bad_values_are_refused(bad):
    with pytest.raises(CheckBroken):
        t_e_value(bad, 0.5)


@pytest.mark.parametrize("effect", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bet_without_an_effect_is_refused(effect):
    with pytest.raises(CheckBroken):
        t_e_value([1.0, 2.0], effect)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(p):
    with pytest.raises(CheckBroken):
        calibrated(p)


def test_p_zero_is_infinite_evidence_and_p_one_is_less_than_one():
    assert calibrated(0) == math.inf
    assert calibrated(1.0) == pytest.approx(0.5)
