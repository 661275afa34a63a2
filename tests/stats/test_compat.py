import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.compat import klom, u_lira
from oracle import definitions, verdicts
from oracle.naive import at_most


@pytest.mark.parametrize("metric", [klom, u_lira])
def test_honest_retrains_are_inside_their_null_as_often_as_it_says(metric):
    rng = np.random.default_rng(0)
    p = [metric(rng.normal(size=(12, 3)), rng.normal(size=(12, 3)), seed=s, runs=39).p for s in range(100)]
    assert at_most(sum(v <= 0.05 for v in p), 100, 0.05)


@pytest.mark.parametrize("metric", [klom, u_lira])
def test_a_no_op_is_outside(metric):
    rng = np.random.default_rng(1)
    found = metric(rng.normal(2, 1, (16, 4)), rng.normal(size=(16, 4)), seed=0)
    assert found.p <= 0.01
    assert found.value > found.null_high > found.null_mean


def test_klom_of_honest_retrains_is_far_from_zero_at_small_n():
    """Why the number alone may not decide: its null at n = 12 lies well above 0."""
    rng = np.random.default_rng(2)
    found = klom(rng.normal(size=(12, 5)), rng.normal(size=(12, 5)), seed=0)
    assert found.null_mean > 0.2


def test_u_lira_is_the_leave_one_out_loop():
    rng = np.random.default_rng(3)
    x, o = rng.normal(0.5, 1, (9, 3)), rng.normal(size=(11, 3))
    assert u_lira(x, o, seed=0, runs=19).value == pytest.approx(definitions.u_lira_accuracy(x, o))


def test_klom_is_the_histogram_loop():
    rng = np.random.default_rng(4)
    x, o = rng.normal(0.5, 1, (9, 3)), rng.normal(size=(11, 3))
    assert klom(x, o, seed=0, runs=19).value == pytest.approx(verdicts.klom(x, o))


@pytest.mark.parametrize("metric", [klom, u_lira])
@pytest.mark.parametrize("bad", [np.zeros((7, 3)), np.zeros((9, 2)), np.full((9, 3), np.nan), np.zeros(9)])
def test_bad_arms_are_refused(metric, bad):
    with pytest.raises(CheckBroken):
        metric(bad, np.zeros((9, 3)), seed=0)
