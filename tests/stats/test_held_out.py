"""A claimant's prompts against a slow twin: limits found by bisection, and the rules written out."""

from itertools import product

import pytest
from scipy.stats import binom

from expunge.core.finding import Verdict
from expunge.stats.held_out import judge_held_out
from expunge.stats.styles import Counted, Gates

RUNS, PICTURES = 8, 50
N = RUNS * PICTURES


def counted(hits, dead=0, nowhere=0):
    """Hits spread over the runs as evenly as they go."""
    each = tuple(hits // RUNS + (run < hits % RUNS) for run in range(RUNS))
    gone = tuple(dead // RUNS + (run < dead % RUNS) for run in range(RUNS))
    return Counted(
        pictures=PICTURES, agreed=each, any=each, nowhere=(nowhere,) * RUNS, by_judge={}, dead=gone, copies=(0,) * RUNS
    )


def at_most(hits, level):
    """The largest share under which so few hits have a chance of 1 - level."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if binom.cdf(hits, N, middle) > 1 - level else (low, middle)
    return high


def at_least(hits, level):
    return 1 - at_most(N - hits, level) if hits else 0.0


def slow(hits, without, seen, level):
    """The rules, one after the other."""
    allowed = 0.02
    if at_least(hits, 0.95) > allowed:
        return Verdict.FAIL if at_least(hits, 0.95) > at_most(without, 0.95) else Verdict.INCONCLUSIVE
    if at_most(hits, level) > allowed:
        return Verdict.INCONCLUSIVE
    if seen is None or at_least(seen, level) < 0.3:
        return Verdict.UNVERIFIABLE
    return Verdict.PASS


@pytest.mark.parametrize("level", [0.95, 0.9875])
def test_the_answer_is_the_slow_ones(level):
    for hits, without, seen in product((0, 1, 2, 3, 13, 14, 20, 60, 400), (0, 2, 30, 400), (None, 0, 130, 140, 400)):
        found = judge_held_out(
            counted(hits),
            counted(without),
            None if seen is None else counted(seen),
            Gates(mistakes=0.02),
            level=level,
        )
        assert found.verdict is slow(hits, without, seen, level), (hits, without, seen)
        assert found.at_most == pytest.approx(at_most(hits, level), abs=1e-9)
        assert (found.rate, found.nameless) == (hits / N, without / N)


def test_black_pictures_are_no_silence():
    found = judge_held_out(counted(0, dead=N), counted(0), counted(N), Gates(mistakes=0.02))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "flat or noise" in found.reason
