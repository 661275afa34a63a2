import numpy as np
import pytest
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.coins import audit_coins, coin_power, needed_coins
from oracle.naive import at_most


def test_162_coins_give_60_percent_and_662_give_55():
    assert coin_power(162, 0.6) >= 0.8
    assert coin_power(662, 0.55) >= 0.8
    assert 140 < needed_coins(0.6) <= 175
    assert 600 < needed_coins(0.55) <= 690


def test_every_number_from_the_needed_one_on_is_enough():
    needed = needed_coins(0.6)
    assert min(coin_power(m, 0.6) for m in range(needed, needed + 100)) >= 0.8
    assert coin_power(needed - 1, 0.6) < 0.8


def test_power_is_the_share_of_fair_counts_whose_limit_is_below():
    limit = [stats.beta.ppf(0.95, k + 1, 100 - k) if k < 100 else 1.0 for k in range(101)]
    assert coin_power(100, 0.6) == pytest.approx(
        sum(stats.binom.pmf(k, 100, 0.5) for k in range(101) if limit[k] < 0.6)
    )


def test_fair_guesses_are_above_the_lower_limit_at_most_at_its_level():
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(500):
        alarms += audit_coins(rng.normal(size=101), rng.uniform(size=101) < 0.5).low > 0.5
    assert at_most(alarms, 500, 0.05)


def test_a_deletion_that_did_nothing_is_seen():
    rng = np.random.default_rng(1)
    coins = rng.uniform(size=162) < 0.5
    found = audit_coins(rng.normal(size=162) + 2 * coins, coins)
    assert found.low > 0.6
    assert found.accuracy > 0.7


def test_constant_scores_are_no_evidence_of_anything():
    """A blind score would "show" an accuracy near ½ on any deletion, a no-op included: it bounds nothing."""
    coins = np.random.default_rng(2).uniform(size=200) < 0.5
    found = audit_coins(np.zeros(200), coins)
    assert (found.low, found.high, found.worst) == (0, 1, 1)


def test_tied_scores_in_the_order_of_the_coins_do_not_steer_the_guess():
    """The attack: canaries listed trained first (or last) and scores that tie: position would know the coin."""
    coins, scores = np.arange(400) < 200, np.zeros(400)
    scores[0] = 1.0
    for trained in (coins, ~coins):
        found = [audit_coins(scores, trained, seed=s).accuracy for s in range(20)]
        assert 0.45 < np.mean(found) < 0.55


def test_guesses_that_are_always_wrong_leak_as_much_as_those_that_are_right():
    coins = np.random.default_rng(3).uniform(size=200) < 0.5
    assert audit_coins(-1.0 * coins, coins).worst > 0.9
    assert audit_coins(1.0 * coins, coins).worst > 0.9
    assert audit_coins(np.random.default_rng(4).normal(size=200), coins).worst < 0.62


def test_the_count_is_the_slow_one():
    rng = np.random.default_rng(5)
    scores, coins = rng.normal(size=31), rng.uniform(size=31) < 0.5
    cut = sorted(scores)[31 // 2]
    assert audit_coins(scores, coins).correct == sum((s >= cut) == c for s, c in zip(scores, coins, strict=True))


@pytest.mark.parametrize("accuracy", [0.5, 1.0, 0.50001, float("nan")])
def test_an_impossible_accuracy_is_refused(accuracy):
    with pytest.raises(CheckBroken):
        needed_coins(accuracy)


def test_nan_scores_are_refused():
    with pytest.raises(CheckBroken):
        audit_coins([float("nan"), 1.0], [True, False])
