import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.ratio import likelihood_ratio, typical_ratio
from oracle import definitions

RNG = np.random.default_rng(0)
INTO, OUT = RNG.normal(3, 1, 20), RNG.normal(0, 1, 24)


@pytest.mark.parametrize("value", [0.9, 1.5, 2.0])
def test_between_the_arms_it_is_the_ratio_of_predictive_densities(value):
    found = likelihood_ratio(value, INTO, OUT)
    wanted = definitions.student_predictive(value, INTO) / definitions.student_predictive(value, OUT)
    assert found.ratio == pytest.approx(wanted, rel=1e-9)
    assert not found.capped


def test_n_models_cannot_claim_more_than_n_to_one():
    assert likelihood_ratio(4.0, INTO, OUT).ratio == pytest.approx(20)
    assert likelihood_ratio(-4.0, INTO, OUT).ratio == pytest.approx(1 / 20)
    assert likelihood_ratio(-4.0, INTO, OUT).words() == "1:20, capped by n = 20"


def test_the_median_run_speaks_for_the_arm():
    runs = np.array([0.9, 1.5, 50.0])
    assert typical_ratio(runs, INTO, OUT) == likelihood_ratio(1.5, INTO, OUT)


@pytest.mark.parametrize(
    ("value", "into"), [(float("nan"), INTO), (1.0, INTO[:2]), (1.0, np.ones(9)), (1.0, [1, 2, np.inf])]
)
def test_bad_input_is_refused(value, into):
    with pytest.raises(CheckBroken):
        likelihood_ratio(value, into, OUT)
