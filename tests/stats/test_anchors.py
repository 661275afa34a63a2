import dataclasses

import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.stats.anchors import AnchorDesign, anchor_rates
from expunge.stats.rank import ranked
from oracle import naive

DESIGN = AnchorDesign(out=40, into=40, gap=8.0, fail=0.0125, still_in=0.0125, signals=2, correlation=0.0)


def test_rates_are_those_of_ranking_one_file_at_a_time():
    rng, runs, passed, failed = np.random.default_rng(0), 300, 0, 0
    for _ in range(runs):
        signals = []
        for _ in range(2):
            out, into, file, original = rng.normal(size=40), rng.normal(size=40) + 8, rng.normal(), rng.normal() + 8
            place = min(ranked(file, out).p / 0.8, ranked(file, out, "below").p / 0.2)
            caught = ranked(original, out).p / 0.8 <= 0.0125
            signals.append((place <= 0.0125, caught and ranked(file, into, "below").p <= 0.0125))
        failed += any(fail for fail, _ in signals)
        unseen = rng.uniform() > 2 / 41
        passed += unseen and all(not fail and good for fail, good in signals)
    found = anchor_rates(DESIGN, seed=1)
    assert naive.within(passed, runs, found.honest_passes)
    assert naive.within(failed, runs, found.honest_fails)


def test_a_file_that_still_holds_the_block_is_failed_and_never_passes():
    found = anchor_rates(DESIGN, seed=0)
    assert found.member_fails > 0.95
    assert found.member_passes < 0.01
    assert found.honest_fails < 0.03


def test_nothing_passes_below_nineteen_anchors_or_where_the_gap_cannot_be_seen():
    assert anchor_rates(dataclasses.replace(DESIGN, into=18), seed=0).honest_passes == 0
    assert anchor_rates(dataclasses.replace(DESIGN, gap=1.0), seed=0).honest_passes < 0.05
    assert anchor_rates(dataclasses.replace(DESIGN, signals=3, correlation=0.5), seed=0).honest_passes > 0.7


@pytest.mark.parametrize(
    "bad", [{"out": 1}, {"fail": 0.0}, {"gap": float("inf")}, {"correlation": 2.0}, {"signals": 0}]
)
def test_an_impossible_design_is_refused(bad):
    with pytest.raises(CheckBroken):
        dataclasses.replace(DESIGN, **bad)
