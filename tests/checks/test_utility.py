import dataclasses

import numpy as np
import pytest

from expunge.checks.utility import Utility
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.protocols import Check, Correctness
from oracle import naive
from oracle.banks import job

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def holdout(rng, *, records=10_000, classes=10, churn=0.02, loss=0.0, lost_class=None):
    """Original right on 90 %; the candidate differs on a share `churn` either way and loses `loss` more."""
    labels = np.arange(records) % classes
    original = rng.random(records) < 0.9
    flip = rng.random(records)
    candidate = np.where(flip < churn, rng.random(records) < 0.9, original)
    where = np.ones(records, bool) if lost_class is None else labels == lost_class
    candidate &= ~(where & (rng.random(records) < loss / 0.9))
    references = np.stack(
        [np.where(rng.random(records) < churn, rng.random(records) < 0.9, original) for _ in range(5)]
    )
    return Correctness(
        labels=labels, candidate=candidate, original=original, references=references,
        classes=tuple(f"c{k}" for k in range(classes)),
    )  # fmt: skip


def judged(correctness, **limits):
    return Utility().run(job(correctness=correctness, **limits))


def test_an_unharmed_model_passes_overall_and_per_class():
    found = judged(holdout(np.random.default_rng(0)))
    assert isinstance(Utility(), Check)
    assert found.verdict is PASS
    assert len([c for c in found.conditions if c.verdict is PASS]) >= 11
    assert found.original == 0.0
    assert abs(found.reference) < 1
    assert found.interval.low > -1.0
    assert 0 < found.mde < 1.0


def test_a_harmed_model_fails():
    found = judged(holdout(np.random.default_rng(1), loss=0.03))
    assert found.verdict is FAIL
    assert "overall lost" in found.reason


def test_harm_hidden_in_one_class_fails():
    """The attack: empty one class, and let the other nine keep the average up."""
    found = judged(holdout(np.random.default_rng(2), loss=0.3, lost_class=4), accuracy_margin=5.0)
    assert found.verdict is FAIL
    assert "class c4" in found.reason


def test_a_small_test_set_is_inconclusive_and_says_how_many_records_would_do():
    found = judged(holdout(np.random.default_rng(3), records=300))
    assert found.verdict is INCONCLUSIVE
    assert "records would resolve" in found.reason


def test_two_models_that_never_disagree_on_36_records_are_not_certain():
    """The attack on the interval: without spread a bootstrap collapses to a point."""
    n = 36
    same = Correctness(
        labels=np.zeros(n), candidate=np.ones(n, bool), original=np.ones(n, bool), references=np.ones((0, n), bool),
        classes=("only",),
    )  # fmt: skip
    found = judged(same)
    assert found.verdict is INCONCLUSIVE
    assert found.estimate == 0.0
    assert found.interval.low < -1
    assert found.reference is None


def test_the_named_number_of_records_resolves_the_margin():
    found = judged(holdout(np.random.default_rng(4), records=600, classes=1, churn=0.1), class_margin=15.0)
    needed = int(found.details["overall.needed_records"])
    rng, runs, passed = np.random.default_rng(5), 60, 0
    for _ in range(runs):
        passed += judged(holdout(rng, records=needed, classes=1, churn=0.1), class_margin=15.0).verdict is PASS
    assert passed / runs > 0.65


def test_a_loss_at_the_margin_is_passed_and_failed_at_no_more_than_alpha():
    rng, runs = np.random.default_rng(6), 200
    verdicts = [
        judged(holdout(rng, records=2000, classes=1, churn=0.0, loss=0.02), accuracy_margin=2.0).verdict
        for _ in range(runs)
    ]
    assert naive.at_most(verdicts.count(PASS), runs, 0.02)
    assert naive.at_most(verdicts.count(FAIL), runs, 0.02)


def test_ten_classes_do_not_raise_ten_alarms():
    """Failing is shared among overall and classes: what fails alone is not enough as one of ten."""

    def lost(classes, losses, per_class=1000):
        labels = np.repeat(np.arange(classes), per_class)
        candidate = ~((labels == 0) & (np.arange(labels.size) < losses))
        return Correctness(
            labels=labels, candidate=candidate, original=np.ones_like(candidate),
            references=np.ones((0, labels.size), bool), classes=tuple(map(str, range(classes))),
        )  # fmt: skip

    def verdict(classes, losses):
        found = judged(lost(classes, losses), accuracy_margin=5.0)
        return next(c.verdict for c in found.conditions if c.name == "class 0")

    assert [verdict(10, losses) for losses in (20, 35, 54, 65)] == [PASS, INCONCLUSIVE, INCONCLUSIVE, FAIL]
    assert verdict(1, 54) is FAIL


def test_a_retry_does_not_make_a_loss_disappear_and_does_not_make_passing_easier():
    """The attack: run the same harmed model again until the alpha left to fail it is too small."""

    def again(losses, n=4000):
        lost = Correctness(
            labels=np.zeros(n), candidate=np.arange(n) >= losses, original=np.ones(n, bool),
            references=np.ones((0, n), bool), classes=("only",),
        )  # fmt: skip
        return [judged(lost, attempt=a, accuracy_margin=1.0).verdict for a in (1, 2, 3, 4)]

    table = {losses: again(losses) for losses in range(16, 72, 2)}
    assert all(row == [FAIL] * 4 for row in table.values() if FAIL in row)
    assert all(row == sorted(row, key=lambda verdict: verdict is not PASS) for row in table.values())
    assert [PASS, INCONCLUSIVE] in [[row[0], row[3]] for row in table.values()]
    assert [table[losses][3] for losses in (16, 40, 58)] == [PASS, INCONCLUSIVE, FAIL]


def test_getting_better_is_no_harm():
    correctness = holdout(np.random.default_rng(7))
    better = dataclasses.replace(correctness, candidate=np.ones_like(correctness.candidate))
    assert judged(better).verdict is PASS


def test_a_class_without_holdout_records_is_not_passed_over():
    correctness = dataclasses.replace(holdout(np.random.default_rng(8)), classes=tuple("abcdefghijk"))
    found = judged(correctness)
    assert found.verdict is INCONCLUSIVE
    assert next(c for c in found.conditions if c.name == "class k").note == "no holdout record of this class"


def test_the_spread_of_honest_references_is_reported():
    condition = judged(holdout(np.random.default_rng(9))).conditions[-1]
    assert condition.name == "within the spread of honest references"
    assert "5 references" in condition.note


def test_missing_holdout_is_inconclusive():
    assert judged(None).verdict is INCONCLUSIVE
    empty = Correctness(labels=[], candidate=[], original=[], references=np.ones((0, 0), bool), classes=("a",))
    assert judged(empty).verdict is INCONCLUSIVE


def test_the_record_is_canonical_and_repeatable():
    correctness = holdout(np.random.default_rng(10), records=500)
    assert canonical(encode(judged(correctness)))
    assert judged(correctness) == judged(correctness)


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": np.ones(9, bool)},
        {"references": np.ones((2, 9), bool)},
        {"labels": np.full(500, 10)},
        {"labels": np.full(500, -1)},
        {"labels": np.full(500, 0.5)},
        {"labels": np.full(500, np.nan)},
        {"candidate": np.full(500, 0.7)},
    ],
)
def test_malformed_holdouts_break_the_check(change):
    correctness = holdout(np.random.default_rng(0), records=500)
    with pytest.raises(CheckBroken):
        judged(dataclasses.replace(correctness, **change))
