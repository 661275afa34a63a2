import math

import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.epsilon import epsilon_lower_bound, one_run_epsilon, one_run_p_value
from oracle import definitions, verdicts
from oracle.naive import at_most


@pytest.mark.parametrize("thresholds", [1, 8])
def test_under_an_exact_null_the_bound_is_positive_at_most_at_its_level(thresholds):
    rng, alarms = np.random.default_rng(0), 0
    for seed in range(300):
        found = epsilon_lower_bound(rng.normal(size=100), rng.normal(size=100), seed=seed, thresholds=thresholds)
        alarms += found.epsilon > 0
    assert at_most(alarms, 300, 0.05)


def test_picking_the_threshold_on_the_judged_labels_raises_alarms_that_a_preset_one_does_not():
    """The defect of other tools: the largest bound over all thresholds of the same data."""
    from expunge.stats.epsilon import _at

    rng, picked, preset = np.random.default_rng(1), 0, 0
    for _ in range(100):
        high, low = rng.normal(size=(2, 400))
        picked += max(_at(high, low, cut, 0.0, 0.9) for cut in np.sort(np.concatenate([high, low]))[::3]) > 0
        preset += _at(high, low, 0.0, 0.0, 0.9) > 0
    assert picked > 4 * max(preset, 3)


@pytest.mark.parametrize(("thresholds", "delta"), [(1, 0.0), (8, 0.0), (1, 0.01)])
def test_the_bound_stays_below_a_known_epsilon(thresholds, delta):
    """Randomised response with ε = 1: Pr[1 | member] = e/(1 + e)."""
    rng, above, values = np.random.default_rng(2), 0, []
    share = math.e / (1 + math.e)
    for seed in range(200):
        high, low = rng.uniform(size=400) < share, rng.uniform(size=400) < 1 - share
        found = epsilon_lower_bound(high * 1.0, low * 1.0, seed=seed, thresholds=thresholds, delta=delta).epsilon
        values.append(found)
        above += found > 1
    assert at_most(above, 200, 0.05)
    assert np.median(values) > 0.3


def test_one_threshold_is_the_two_inequalities_written_out():
    from expunge.stats.epsilon import _at

    rng = np.random.default_rng(3)
    for shift, delta in ((0.0, 0.0), (1.5, 0.01), (-2.0, 0.0)):
        high, low = rng.normal(shift, 1, 60), rng.normal(size=80)
        assert _at(high, low, 0.4, delta, 0.975) == pytest.approx(verdicts.epsilon_at(high, low, 0.4, delta, 0.025))


def test_tied_scores_in_the_order_of_the_coins_give_no_epsilon():
    """The attack: all scores equal and the trained canaries listed last; position would guess every coin."""
    found = [one_run_epsilon(np.zeros(400), np.arange(400) >= 200, guesses=200, seed=s).epsilon for s in range(20)]
    assert sum(e > 0 for e in found) <= 4


def test_separated_scores_give_what_the_counts_allow():
    found = epsilon_lower_bound(np.ones(1000), np.zeros(1000), seed=0)
    assert 4 < found.epsilon < 6
    assert found.n == 1000


def test_swapped_scores_are_found_by_neither_side_as_membership():
    found = epsilon_lower_bound(np.zeros(500), np.ones(500), seed=0)
    assert found.epsilon == 0


@pytest.mark.parametrize(
    ("correct", "epsilon", "delta"), [(80, 0.5, 0.0), (60, 0.2, 1e-3), (100, 2.0, 1e-4), (1, 0, 0.1)]
)
def test_one_run_p_value_is_the_theorem_written_out(correct, epsilon, delta):
    mine = one_run_p_value(correct, 100, 150, epsilon, delta)
    assert mine == pytest.approx(definitions.one_run_p_value(correct, 100, 150, epsilon, delta), abs=1e-9)


def test_a_thousand_right_guesses_of_a_thousand_give_5_81():
    scores = np.arange(1000.0)
    found = one_run_epsilon(scores, scores >= 500, guesses=1000)
    assert found.epsilon == pytest.approx(5.81, abs=0.01)


def test_coins_that_the_scores_know_nothing_of_give_nothing():
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(400):
        alarms += one_run_epsilon(rng.normal(size=100), rng.uniform(size=100) < 0.5, guesses=50).epsilon > 0
    assert at_most(alarms, 400, 0.05)


@pytest.mark.parametrize(
    "call",
    [
        lambda: epsilon_lower_bound(np.ones(5), np.ones(50), seed=0),
        lambda: epsilon_lower_bound([float("nan")] * 30, np.ones(50), seed=0),
        lambda: epsilon_lower_bound(np.ones(50), np.ones(50), seed=0, thresholds=0),
        lambda: epsilon_lower_bound(np.ones(50), np.ones(50), seed=0, delta=1.0),
        lambda: one_run_epsilon(np.ones(50), np.ones(50, bool), guesses=51),
        lambda: one_run_epsilon(np.ones(50), np.ones(49, bool), guesses=10),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(CheckBroken):
        call()
