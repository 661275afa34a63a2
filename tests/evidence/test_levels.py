"""Several attempts share one error: a certificate whose limits are of a kinder level than its attempt may have is refused."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from expunge.core.errors import EvidenceError
from expunge.core.finding import Condition, Finding, Verdict
from expunge.evidence.verify_steps import LEVELLED, _check_levels
from expunge.stats.spending import limit_level


def predicate(attempts, verdict=Verdict.PASS, check="style", **details):
    found = Finding(check=check, question="q", statistic="s", verdict=verdict, reason="r", n=1, details=details)
    return SimpleNamespace(attempts=attempts, findings=(found,))


@pytest.mark.parametrize("check", sorted(LEVELLED))
@pytest.mark.parametrize("attempt", [1, 2, 5])
def test_the_level_of_the_attempt_is_enough_and_that_of_an_earlier_one_is_not(check, attempt):
    _check_levels({check}, predicate(attempt, check=check, level_pass=str(limit_level(attempt))))
    kinder = "0.95" if attempt == 1 else str(limit_level(attempt - 1))
    with pytest.raises(EvidenceError, match="kinder level"):
        _check_levels({check}, predicate(attempt, check=check, level_pass=kinder))


def test_attack_several_artists_judged_at_the_level_that_one_has_are_refused():
    """Counted by the conditions, which a reader sees, and not by what the finding says of their number."""
    rows = tuple(
        Condition(name=f"artist {number}: {label}", verdict=Verdict.PASS, estimate=0.0, limit=0.01)
        for number in (1, 2, 3)
        for label in ("direct", "reworded")
    )

    def judged(level):
        found = predicate(2, level_pass=str(level), artists="1")
        return SimpleNamespace(attempts=2, findings=(replace(found.findings[0], conditions=rows),))

    _check_levels({"style"}, judged(limit_level(2, artists=3)))
    for artists in (1, 2):
        with pytest.raises(EvidenceError, match="kinder level"):
            _check_levels({"style"}, judged(limit_level(2, artists=artists)))


@pytest.mark.parametrize("said", ["", "nan", "inf", "1.5", "-1", "ninety"])
def test_a_level_that_is_none_passes_nothing(said):
    with pytest.raises(EvidenceError, match="kinder level"):
        _check_levels({"style"}, predicate(1, level_pass=said))
    with pytest.raises(EvidenceError, match="kinder level"):
        _check_levels({"style"}, predicate(1))


def test_what_did_not_pass_or_is_only_reported_needs_no_level():
    _check_levels({"style"}, predicate(1, verdict=Verdict.INCONCLUSIVE))
    _check_levels(set(), predicate(1))
    _check_levels({"utility"}, predicate(1, check="utility"))
