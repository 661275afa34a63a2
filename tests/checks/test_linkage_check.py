from dataclasses import replace

import pytest

from expunge.checks.linkage import Linkage
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.protocols import Check
from expunge.core.protocols import Linkage as Evidence
from oracle import naive
from oracle.banks import job

GOOD = Evidence(inside=0, outside=0, recall=(60, 60), thresholds={"hash_agree": "8", "false_links": "0.02"})


def judged(**changes):
    return Linkage().run(replace(job(), linkage=replace(GOOD, **changes)))


def test_none_outside_and_a_search_that_finds_its_twins_passes():
    found = judged()
    assert isinstance(Linkage(), Check)
    assert found.verdict is Verdict.PASS
    assert (found.estimate, found.original, found.reference, found.n) == (0.0, 1.0, 0.02, 60)
    assert found.interval.low == pytest.approx(naive.clopper_pearson(60, 60, 0.95)[0], abs=1e-4)
    assert found.details["threshold.hash_agree"] == "8"


def test_somebody_elses_near_duplicate_is_inconclusive_counted_and_referred():
    found = judged(outside=3)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.startswith("3 near-duplicates belong to retained records: a person has to decide")


def test_a_search_that_misses_its_own_twins_does_not_pass():
    """The attack: thresholds so tight that nothing is ever found."""
    found = judged(recall=(50, 60))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "too few" in found.reason
    assert judged(recall=(0, 60)).verdict is Verdict.INCONCLUSIVE


def test_the_recall_that_counts_is_its_lower_limit():
    verdicts = [judged(recall=(hits, 60)).verdict for hits in range(61)]
    first = verdicts.index(Verdict.PASS)
    assert verdicts == [Verdict.INCONCLUSIVE] * first + [Verdict.PASS] * (61 - first)
    assert naive.clopper_pearson(first, 60, 0.9)[0] >= 0.8 > naive.clopper_pearson(first - 1, 60, 0.9)[0]


def test_few_twins_show_nothing():
    assert judged(recall=(5, 5)).verdict is Verdict.INCONCLUSIVE
    assert judged(recall=(0, 0)).verdict is Verdict.UNVERIFIABLE


def test_near_duplicates_inside_the_request_and_in_the_test_split_are_reported_and_decide_nothing():
    found = judged(inside=4, test=2)
    assert found.verdict is Verdict.PASS
    assert "2 more in the test split" in found.reason
    assert found.details["inside"] == "4"


def test_no_search_is_unverifiable():
    found = Linkage().run(job())
    assert found.verdict is Verdict.UNVERIFIABLE
    assert found.estimate is None


def test_it_never_fails_and_is_canonical():
    for outside in (0, 1, 50_000):
        for hits in (0, 30, 60):
            found = judged(outside=outside, recall=(hits, 60))
            assert found.verdict is not Verdict.FAIL
            assert canonical(encode(found))


@pytest.mark.parametrize(
    "change",
    [
        {"outside": -1},
        {"inside": 1.5},
        {"test": True},
        {"recall": (61, 60)},
        {"recall": (1, -1)},
        {"thresholds": {"false_links": "few"}},
    ],
)
def test_counts_that_cannot_be_break_the_check(change):
    with pytest.raises(CheckBroken):
        judged(**change)
