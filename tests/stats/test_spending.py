import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.spending import ERROR, levels_said, limit_level, spent_alpha


def test_refiled_requests_cannot_spend_more_than_alpha_together():
    shares = [spent_alpha(0.025, attempt) for attempt in range(1, 40)]
    assert shares[:3] == [0.0125, 0.00625, 0.003125]
    assert sum(shares) < 0.025


@pytest.mark.parametrize(("alpha", "attempt"), [(0.025, 0), (0.0, 1), (1.0, 1), (float("nan"), 1)])
def test_an_impossible_budget_is_refused(alpha, attempt):
    with pytest.raises(CheckBroken):
        spent_alpha(alpha, attempt)


def test_the_limits_of_all_attempts_together_are_wrong_in_one_of_twenty_cases_at_most():
    levels = [limit_level(attempt) for attempt in range(1, 40)]
    assert levels[:3] == [0.975, 0.9875, 0.99375]
    assert sum(1 - level for level in levels) <= ERROR
    assert levels_said(2) == "attempt 2: passing at 98.75 %, failing at 95 %"


@pytest.mark.parametrize("artists", [1, 2, 7])
def test_artists_who_are_judged_at_once_share_the_error_of_their_attempt(artists):
    spent = [1 - limit_level(attempt, artists) for attempt in range(1, 30)]
    assert artists * sum(spent) == pytest.approx(ERROR, rel=1e-6)
    assert artists * spent[0] == pytest.approx(spent_alpha(ERROR, 1))
    with pytest.raises(CheckBroken):
        limit_level(1, 0)
