from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from expunge.checks.ranking import Ranking
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.ladder import Ladder
from expunge.core.ladder import Ranking as Evidence
from expunge.core.policy import FLOORS, Limits
from expunge.core.protocols import Check
from oracle import naive
from oracle.banks import job

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
NAMES = ("NDCG@100", "Recall@20")


def evidence(users=400, sd=0.005, lost=0.0, rng=None, **changes):
    """The retraining loses `lost` of the original's quality, give or take `sd` a user; the candidate is the retraining."""
    rng = rng or np.random.default_rng(0)
    original = {name: rng.uniform(0.3, 0.7, users) for name in NAMES}
    retrained = {name: values - lost + sd * rng.standard_normal(users) for name, values in original.items()}
    third = np.arange(users) % 3
    noun = Evidence(
        candidate={name: values.copy() for name, values in retrained.items()},
        original=original,
        reference=retrained,
        segments={"activity low": third == 0, "activity middle": third == 1, "activity high": third == 2},
        lists={"candidate": np.arange(50), "original": np.ones(50, np.int64), "reference": np.arange(50)},
        split="strong generalisation",
    )
    return replace(noun, **changes)


def judged(noun, **limits):
    return Ranking().run(replace(job(**limits), ladder=Ladder(ranking=noun)))


def moved(metrics, by):
    return {name: values + by for name, values in metrics.items()}


def test_the_retraining_itself_passes_when_little_is_lost():
    found = judged(evidence())
    assert isinstance(Ranking(), Check)
    assert found.verdict is PASS
    assert [condition.verdict for condition in found.conditions] == [PASS] * 4
    assert "the metric is the same for each of the 400 users" in found.reason
    assert (found.original, found.limit, found.n) == (0.0, 0.005, 400)
    assert found.estimate == found.reference
    assert found.interval.low < found.estimate < found.interval.high
    assert 0 < found.mde < 0.005
    assert canonical(encode(found))


def test_the_numbers_are_scipys():
    """The obvious twin: a paired t interval by scipy, segment means by a loop."""
    noun = evidence()
    found = judged(noun)
    change = noun.candidate["NDCG@100"] - noun.original["NDCG@100"]
    interval = stats.ttest_rel(noun.candidate["NDCG@100"], noun.original["NDCG@100"]).confidence_interval(1 - 0.025)
    assert found.estimate == pytest.approx(change.mean(), rel=1e-4)
    assert (found.interval.low, found.interval.high) == pytest.approx((interval.low, interval.high), rel=1e-6)
    low = [change[k] for k in range(len(change)) if noun.segments["activity low"][k]]
    assert float(found.details["segment.activity low.difference"]) == pytest.approx(sum(low) / len(low), rel=1e-4)
    groups = {name: noun.original["NDCG@100"][noun.segments[f"activity {name}"]] for name in ("low", "high")}
    gap = groups["high"].mean() - groups["low"].mean()
    assert float(found.details["activity_gap.original"]) == pytest.approx(gap, rel=1e-4)
    assert found.details["original.gini"] == "0"
    assert float(found.details["candidate.coverage"]) == pytest.approx(49 / 50)


def test_any_difference_to_the_retraining_is_not_exact():
    noun = evidence()
    values = noun.candidate["Recall@20"].copy()
    values[5] += 1e-6
    found = judged(replace(noun, candidate={**noun.candidate, "Recall@20": values}))
    assert found.verdict is INCONCLUSIVE
    assert "differs for 1 users, and only equality" in found.reason
    values[5] -= 1e-6 - 1e-14
    assert judged(replace(noun, candidate={**noun.candidate, "Recall@20": values})).verdict is PASS


def test_worse_than_the_retraining_fails_however_little():
    noun = evidence()
    rng = np.random.default_rng(1)
    worse = {name: values - 0.001 + 0.001 * rng.standard_normal(400) for name, values in noun.reference.items()}
    found = judged(replace(noun, candidate=worse))
    assert found.verdict is FAIL
    assert found.reason.startswith("NDCG@100 against a retraining")
    assert judged(replace(noun, candidate=worse), guarantee="EMPIRICAL").verdict is PASS


def test_better_than_the_retraining_is_not_the_retraining():
    noun = evidence(sd=0.002)
    assert judged(replace(noun, candidate=moved(noun.reference, 0.01))).verdict is INCONCLUSIVE


def test_a_loss_beyond_the_margin_fails_although_the_retraining_lost_it_too():
    found = judged(evidence(lost=0.01))
    assert found.verdict is FAIL
    assert "a mean loss of more than 0.005 is shown" in found.reason
    assert found.reference == pytest.approx(-0.01, abs=0.001)
    assert judged(evidence(lost=0.01), ranking_margin=0.02).verdict is PASS


def test_harm_in_one_of_the_two_metrics_fails():
    """The attack: keep the headline, lose the other."""
    noun = evidence()
    lost = {"NDCG@100": noun.original["NDCG@100"], "Recall@20": noun.original["Recall@20"] - 0.02}
    found = judged(replace(noun, candidate=lost, reference=lost))
    assert found.verdict is FAIL
    assert "Recall@20 against before" in found.reason


def test_too_few_test_users_are_refused_and_it_is_said_how_many_would_do():
    found = judged(evidence(users=40, sd=0.02))
    assert found.verdict is INCONCLUSIVE
    assert "test users would resolve 0.005" in found.reason
    assert found.mde > 0.005


def test_the_named_number_of_users_resolves_the_margin():
    first = judged(evidence(users=100, sd=0.02))
    needed = int(first.details["NDCG@100 against before.needed_users"])
    assert 100 < needed < 400
    rng, runs, passed = np.random.default_rng(5), 60, 0
    for _ in range(runs):
        found = judged(
            evidence(users=int(1.3 * needed), sd=0.02, rng=rng)
        )  # above: a sample's own sd refuses half there
        passed += found.conditions[2].verdict is PASS
    assert passed / runs > 0.7


def test_a_loss_at_the_margin_is_passed_and_failed_at_no_more_than_alpha():
    rng, runs = np.random.default_rng(6), 150
    verdicts = [judged(evidence(users=300, sd=0.02, lost=0.005, rng=rng)).verdict for _ in range(runs)]
    assert naive.at_most(verdicts.count(PASS), runs, 0.025)
    assert naive.at_most(verdicts.count(FAIL), runs, 0.025)


def test_a_retry_makes_passing_harder_and_failing_no_easier_to_escape():
    """The attack: run the same model again until the alpha left to fail it is too small, or luck passes it."""

    def again(lost):
        noun = evidence(users=400, sd=0.01, lost=lost)
        return [judged(noun, attempt=attempt).verdict for attempt in (1, 2, 3, 4)]

    table = [again(lost) for lost in np.concatenate([[0.0], np.arange(0.003, 0.008, 0.0002), [0.012]])]
    assert all(row == [FAIL] * 4 for row in table if FAIL in row)
    assert all(row == sorted(row, key=lambda verdict: verdict is not PASS) for row in table)
    assert [PASS, INCONCLUSIVE] in [[row[0], row[3]] for row in table]
    assert table[0] == [PASS] * 4
    assert table[-1] == [FAIL] * 4


def test_an_original_that_ranks_nothing_has_nothing_to_lose():
    """The attack: a test set on which every model is useless, so that no margin can be missed."""
    noun = evidence(users=100)
    nothing = {name: np.full(100, 0.001) for name in NAMES}
    found = judged(replace(noun, candidate=nothing, original=nothing, reference=nothing))
    assert found.verdict is UNVERIFIABLE
    assert "(control)" in found.reason


def test_a_useless_candidate_fails():
    noun = evidence()
    found = judged(replace(noun, candidate={name: np.zeros(400) for name in NAMES}))
    assert found.verdict is FAIL


def test_users_without_held_out_items_are_left_out_of_every_mean():
    noun = evidence(users=60)
    holes = {
        side: {name: np.where(np.arange(60) < 20, np.nan, values) for name, values in getattr(noun, side).items()}
        for side in ("candidate", "original", "reference")
    }
    found = judged(replace(noun, **holes), ranking_margin=0.05)
    assert (found.verdict, found.n) == (PASS, 40)
    assert found.details["segment.activity low.users"] == "13"
    nobody = {side: {name: np.full(60, np.nan) for name in NAMES} for side in holes}
    assert judged(replace(noun, **nobody)).verdict is INCONCLUSIVE


def test_without_a_retraining_it_is_open_and_a_loss_is_still_seen():
    found = judged(evidence(reference=None))
    assert found.verdict is INCONCLUSIVE
    assert "no retraining was made" in found.reason
    assert found.reference is None
    assert [condition.verdict for condition in found.conditions] == [INCONCLUSIVE, INCONCLUSIVE, PASS, PASS]
    assert judged(evidence(reference=None, lost=0.02)).verdict is FAIL


def test_a_judged_metric_that_is_missing_is_not_passed_over():
    noun = evidence()
    one = {side: {"NDCG@100": getattr(noun, side)["NDCG@100"]} for side in ("candidate", "original", "reference")}
    found = judged(replace(noun, **one))
    assert found.verdict is INCONCLUSIVE
    assert "Recall@20" in found.reason
    other = {side: {"MRR": getattr(noun, side)["NDCG@100"]} for side in one}
    assert judged(replace(noun, **other)).verdict is INCONCLUSIVE


def test_nothing_measured_is_inconclusive_with_the_reason_given():
    empty = {name: np.zeros(0) for name in NAMES}
    noun = evidence(candidate=empty, original=empty, reference=empty, segments={})
    assert judged(noun).verdict is INCONCLUSIVE
    assert judged(replace(noun, candidate={}, original={}, reference={})).verdict is INCONCLUSIVE
    assert Ranking().run(job()).verdict is INCONCLUSIVE
    told = Ranking().run(replace(job(), ladder=Ladder(unable={"ranking": "no test users"})))
    assert (told.verdict, told.reason) == (INCONCLUSIVE, "no test users")


def test_a_mean_over_a_few_people_is_not_reported():
    noun = evidence(segments={"tiny": np.arange(400) < 9, "enough": np.arange(400) < 10})
    details = judged(noun).details
    assert (details["segment.tiny.users"], details["segment.enough.users"]) == ("9", "10")
    assert "segment.tiny.difference" not in details
    assert "segment.enough.difference" in details


def test_a_finding_holds_no_item_and_does_not_grow_with_items_or_users():
    small = judged(evidence(users=200))
    shown = np.arange(20_000)
    large = judged(evidence(users=3_000, lists={"candidate": shown, "original": shown, "reference": shown}))
    assert small.details.keys() == large.details.keys()
    assert len(small.conditions) == len(large.conditions) == 4
    assert len(canonical(encode(large))) < len(canonical(encode(small))) + 200
    assert judged(evidence(users=200)) == small


def test_the_margin_has_a_floor_in_code():
    assert Limits().ranking_margin == 0.005
    assert FLOORS["ranking_margin"] == (0.0, 0.05)


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": {name: np.full(399, 0.5) for name in NAMES}},
        {"candidate": {name: np.full(400, 1.5) for name in NAMES}},
        {"candidate": {name: np.full(400, -0.5) for name in NAMES}},
        {"candidate": {name: np.full(400, np.inf) for name in NAMES}},
        {"candidate": {name: np.full(400, np.nan) for name in NAMES}},
        {"candidate": {name: ["a"] * 400 for name in NAMES}},
        {"candidate": {name: np.full((400, 1), 0.5) for name in NAMES}},
        {"candidate": {"NDCG@100": np.full(400, 0.5)}},
        {"original": {name: np.r_[np.nan, np.full(399, 0.5)] for name in NAMES}},
        {"reference": {"NDCG@100": np.full(400, 0.5)}},
        {"segments": {"activity low": np.ones(399, bool)}},
        {"segments": {"activity low": np.full(400, 0.5)}},
        {"segments": {"activity low": np.ones(400, bool), "activity high": np.ones(400, bool)}},
        {"lists": {"candidate": np.array([np.nan, 1.0])}},
        {"lists": {"candidate": np.ones((5, 5))}},
    ],
)
def test_what_cannot_be_breaks_the_check(change):
    with pytest.raises(CheckBroken):
        judged(evidence(**change))


def test_what_counts_for_rare_and_for_popular_items_is_reported_over_those_who_hold_some_out():
    """An average may hide that only popular items are still found."""
    noun = evidence()
    mine, before = noun.candidate["NDCG@100"], noun.original["NDCG@100"]
    few = np.where(np.arange(400) < 5, mine, np.nan)
    rare = np.where(np.arange(400) % 2, mine - 0.1, np.nan)
    found = judged(
        replace(
            noun,
            by_items={
                "popularity low": {"candidate": rare, "original": np.where(np.isnan(rare), np.nan, before)},
                "popularity middle": {"candidate": few, "original": np.where(np.isnan(few), np.nan, before)},
            },
        )
    )
    assert found.details["segment.popularity low.users"] == "200"
    expected = np.mean([a - b for a, b in zip(rare, before, strict=True) if not np.isnan(a)])
    assert float(found.details["segment.popularity low.difference"]) == pytest.approx(expected, rel=1e-3)
    assert found.details["segment.popularity middle.users"] == "5"
    assert "segment.popularity middle.difference" not in found.details, "five people are too few to speak of"
    assert found.verdict is judged(noun).verdict, "reported, and no part of the verdict"


def test_how_little_known_the_shown_items_are_is_reported_for_all_models():
    found = judged(replace(evidence(), popularity=np.arange(50), users=100))
    shown = np.arange(50)
    bits = -np.log2((np.arange(50) + 1) / 101)
    assert float(found.details["candidate.novelty"]) == pytest.approx((shown * bits).sum() / shown.sum(), rel=1e-3)
    assert float(found.details["original.novelty"]) > float(found.details["candidate.novelty"])
    assert "candidate.novelty" not in judged(evidence()).details


@pytest.mark.parametrize("values", [np.ones(3), np.full(400, 1.5), ["none"] * 400])
def test_a_segment_of_items_that_is_no_metric_is_broken(values):
    noun = evidence()
    with pytest.raises(CheckBroken):
        judged(replace(noun, by_items={"popularity low": {"candidate": values, "original": np.ones(400)}}))
