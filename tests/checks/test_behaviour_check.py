from dataclasses import replace

import numpy as np
import pytest

from expunge.checks.behaviour import Behaviour
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.ladder import Behaviour as Evidence
from expunge.core.ladder import Ladder
from expunge.core.protocols import Check
from expunge.stats.ranking import ItemLists, top_k
from oracle.banks import job

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
ITEMS, PROFILES, LENGTH = 40, 30, 8


def lists_of(scores):
    return top_k(scores, ItemLists.of_lists([[]] * len(scores), ITEMS), LENGTH)


def evidence(noise=1e-14, moved=0.05, seed=0, **changes):
    """Scores of a retraining; the candidate is it up to `noise`, the original off by `moved` for every other profile."""
    rng = np.random.default_rng(seed)
    true = rng.random((PROFILES, ITEMS))
    mine = true + noise * rng.uniform(-1, 1, true.shape)
    old = true + moved * rng.uniform(-1, 1, true.shape) * (np.arange(PROFILES)[:, None] % 2)
    noun = Evidence(
        items=ITEMS,
        candidate=lists_of(mine),
        original=lists_of(old),
        reference=lists_of(true),
        largest=float(np.abs(mine - true).max()),
        original_largest=float(np.abs(old - true).max()),
        scale=float(true.max()),
    )
    return replace(noun, **changes)


def judged(noun):
    return Behaviour().run(replace(job(), ladder=Ladder(behaviour=noun)))


def test_a_candidate_that_is_the_retraining_up_to_rounding_passes():
    found = judged(evidence())
    assert isinstance(Behaviour(), Check)
    assert found.verdict is PASS
    assert found.estimate <= found.limit < found.original
    assert (found.reference, found.n) == (0.0, PROFILES)
    assert found.details["candidate_lists_equal"] == "1"
    assert "30 of 30 lists are equal" in found.reason


def test_the_shares_are_those_of_a_loop():
    """The obvious twin: sets and tuples, list by list."""
    noun = evidence(moved=0.2)
    found = judged(noun)

    def rows(lists):
        return [tuple(int(item) for item in row) for row in lists]

    pairs = list(zip(rows(noun.original), rows(noun.reference), strict=True))
    changed = list(zip(rows(noun.candidate), rows(noun.original), strict=True))
    expected = {
        "original_lists_equal": sum(a == b for a, b in pairs) / PROFILES,
        "original_items_shared": sum(len(set(a) & set(b)) / LENGTH for a, b in pairs) / PROFILES,
        "lists_reordered": sum(a != b for a, b in changed) / PROFILES,
        "lists_with_other_items": sum(set(a) != set(b) for a, b in changed) / PROFILES,
    }
    assert {name: float(found.details[name]) for name in expected} == pytest.approx(expected, abs=1e-4)
    assert 0 < expected["lists_with_other_items"] < expected["lists_reordered"]


@pytest.mark.parametrize(
    ("noise", "verdict"), [(5e-10, PASS), (5e-9, INCONCLUSIVE), (5e-7, INCONCLUSIVE), (5e-6, FAIL)]
)
def test_the_bands_of_the_largest_difference(noise, verdict):
    noun = evidence(noise=0.0)
    assert judged(replace(noun, largest=noise * noun.scale)).verdict is verdict


def test_the_original_itself_fails():
    noun = evidence()
    found = judged(replace(noun, candidate=noun.original, largest=noun.original_largest))
    assert found.verdict is FAIL
    assert "0 of 30 other people's lists" in found.reason


@pytest.mark.parametrize("largest", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_fail(largest):
    found = judged(evidence(largest=largest))
    assert found.verdict is FAIL
    assert found.estimate is None
    assert canonical(encode(found))


def test_a_deletion_that_shows_in_no_profile_is_unverifiable():
    noun = evidence(moved=0.0)
    assert judged(noun).verdict is UNVERIFIABLE
    assert judged(replace(noun, candidate=noun.original)).verdict is UNVERIFIABLE
    assert judged(evidence(original_largest=None)).verdict is UNVERIFIABLE
    assert judged(replace(noun, largest=0.5)).verdict is FAIL


def test_other_lists_of_equal_scores_are_ties():
    noun = evidence()
    swapped = noun.candidate.copy()
    swapped[3, [6, 7]] = swapped[3, [7, 6]]
    found = judged(replace(noun, candidate=swapped, largest=1e-12))
    assert found.verdict is PASS
    assert "29 of 30 lists are equal; 1 differ among equal scores" in found.reason


def test_lists_of_the_original_beside_scores_of_the_retraining_do_not_pass():
    """The attack: a cache of the old lists in front of the new model."""
    noun = evidence()
    found = judged(replace(noun, candidate=noun.original))
    assert found.verdict is INCONCLUSIVE
    assert "are not those of these scores" in found.reason


def test_equal_scores_with_unequal_lists_are_a_contradiction():
    noun = evidence()
    swapped = noun.candidate.copy()
    swapped[3] = swapped[3, ::-1]
    assert judged(replace(noun, candidate=swapped, largest=0.0)).verdict is INCONCLUSIVE


def test_without_a_retraining_it_is_inconclusive_and_other_peoples_lists_are_still_reported():
    noun = evidence(reference=None, largest=None, original_largest=None, why_not="9,000 users are too many")
    found = judged(noun)
    assert found.verdict is INCONCLUSIVE
    assert "9,000 users are too many" in found.reason
    assert float(found.details["lists_reordered"]) > 0
    assert found.reference is None
    assert judged(evidence(largest=None)).verdict is INCONCLUSIVE


def test_short_lists_are_filled_and_compared_like_any():
    noun = evidence()
    short = noun.reference.copy()
    short[:, 5:] = -1
    found = judged(replace(noun, candidate=short, reference=short))
    assert found.verdict is PASS
    assert float(found.details["lists_with_other_items"]) == 1.0


def test_nothing_to_compare_is_no_pass():
    empty = np.zeros((0, LENGTH), np.int64)
    assert judged(evidence(candidate=empty, original=empty, reference=empty)).verdict is UNVERIFIABLE
    assert Behaviour().run(job()).verdict is INCONCLUSIVE
    told = Behaviour().run(replace(job(), ladder=Ladder(unable={"behaviour": "no test users"})))
    assert (told.verdict, told.reason) == (INCONCLUSIVE, "no test users")


def test_a_finding_holds_no_list_and_does_not_grow():
    noun = evidence()
    many = {name: np.tile(getattr(noun, name), (200, 1)) for name in ("candidate", "original", "reference")}
    small, large = judged(noun), judged(replace(noun, **many))
    assert large.n == 200 * PROFILES
    assert small.details.keys() == large.details.keys()
    assert len(small.conditions) == len(large.conditions) == 4
    assert len(canonical(encode(large))) < len(canonical(encode(small))) + 100


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": np.zeros((PROFILES, LENGTH), np.int64)},
        {"candidate": np.full((PROFILES, LENGTH), 0.5)},
        {"candidate": evidence().candidate[:-1]},
        {"original": evidence().original[:, :-1]},
        {"reference": evidence().reference + ITEMS},
        {"items": -1},
        {"items": 4.5},
        {"scale": float("nan")},
        {"scale": float("inf")},
        {"scale": -1.0},
        {"largest": -1.0},
        {"original_largest": float("nan")},
        {"original_largest": float("inf")},
        {"original_largest": -0.1},
    ],
)
def test_what_cannot_be_breaks_the_check(change):
    with pytest.raises(CheckBroken):
        judged(evidence(**change))


def test_an_approximate_deletion_says_how_far_it_is_from_the_retraining():
    """0 is the retraining, 1 what doing nothing would have left; a warm start may well be worse than nothing."""
    found = judged(evidence(noise=0.01, residual=0.35))
    assert found.verdict is FAIL
    assert found.details["residual_ratio"] == "0.35"
    assert "residual ratio 0.35" in found.reason
    assert "residual_ratio" not in judged(evidence()).details


@pytest.mark.parametrize("ratio", [-0.1, float("nan"), float("inf")])
def test_a_residual_ratio_that_is_none_is_broken(ratio):
    with pytest.raises(CheckBroken, match="residual ratio"):
        judged(evidence(residual=ratio))
