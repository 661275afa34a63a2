import numpy as np
import pytest
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.margins import margin_units, sd_of_auc


@pytest.mark.parametrize(
    ("sd", "auc", "tpr", "tenth", "advantage", "epsilon"),
    [
        (1.0, 0.760, 0.092, 0.0183, 0.383, 4.38),
        (0.5, 0.638, 0.034, 0.0048, 0.197, 1.99),
        (0.25, 0.570, 0.019, 0.0023, 0.099, 0.93),
    ],
)
def test_the_published_equivalences(sd, auc, tpr, tenth, advantage, epsilon):
    found = margin_units(sd)
    assert found.auc == pytest.approx(auc, abs=6e-4)
    assert found.tpr_at_1_percent == pytest.approx(tpr, abs=6e-4)
    assert found.tpr_at_tenth_percent == pytest.approx(tenth, abs=6e-5)
    assert found.advantage == pytest.approx(advantage, abs=6e-4)
    assert found.epsilon == pytest.approx(epsilon, abs=6e-3)


def test_epsilon_is_where_the_hockey_stick_of_two_gaussians_is_delta():
    found, x = margin_units(0.7, delta=1e-3), np.linspace(-12, 12, 200_001)
    gap = stats.norm.pdf(x, 0.7) - np.exp(found.epsilon) * stats.norm.pdf(x)
    assert np.trapezoid(np.maximum(gap, 0), x) == pytest.approx(1e-3, rel=1e-3)


def test_no_distance_is_no_leak_in_any_unit():
    found = margin_units(0.0)
    assert (found.auc, found.advantage, found.epsilon) == (0.5, 0.0, 0.0)
    assert found.tpr_at_1_percent == pytest.approx(0.01)


def test_auc_and_sd_are_inverse():
    assert sd_of_auc(margin_units(0.66).auc) == pytest.approx(0.66)


def test_the_sentence_says_that_epsilon_is_no_guarantee():
    assert "not a privacy guarantee" in margin_units(1.0).sentence()


@pytest.mark.parametrize("sd", [-1.0, float("nan"), float("inf")])
def test_an_impossible_margin_is_refused(sd):
    with pytest.raises(CheckBroken):
        margin_units(sd)
