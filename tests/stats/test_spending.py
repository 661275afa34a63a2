import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.spending import spent_alpha


def test_refiled_requests_cannot_spend_more_than_alpha_together():
    shares = [spent_alpha(0.025, attempt) for attempt in range(1, 40)]
    assert shares[:3] == [0.0125, 0.00625, 0.003125]
    assert sum(shares) < 0.025


@pytest.mark.parametrize(("alpha", "attempt"), [(0.025, 0), (0.0, 1), (1.0, 1), (float("nan"), 1)])
def test_an_impossible_budget_is_refused(alpha, attempt):
    with pytest.raises(CheckBroken):
        spent_alpha(alpha, attempt)
