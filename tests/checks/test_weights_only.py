from dataclasses import replace

import numpy as np
import pytest

from expunge.checks.weights_only import WeightsOnly
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.ladder import Ladder, ReadOut
from expunge.core.protocols import Check
from expunge.training.closed_form.readout import read_out, refutes
from oracle.banks import job

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
GOOD = ReadOut(
    candidate=("item", "pair", "pair"), original=("open",) * 3, read_before=1, read_after=0,
    reach={"item": 264, "pair": 300, "open": 46},
)  # fmt: skip


def judged(**changes):
    return WeightsOnly().run(replace(job(), ladder=Ladder(read_out=replace(GOOD, **changes))))


def of_counts(before, after, histories):
    """The noun, by the code that measures it."""

    def readable(gram, history):
        return any(np.array_equal(row, history) for item, row in read_out(gram) if item in history)

    return {
        "candidate": tuple(refutes(after, history).by for history in histories),
        "original": tuple(refutes(before, history).by for history in histories),
        "read_before": sum(readable(before, history) for history in histories),
        "read_after": sum(readable(after, history) for history in histories),
    }


def test_every_history_ruled_out_passes():
    found = judged()
    assert isinstance(WeightsOnly(), Check)
    assert found.verdict is PASS
    assert (found.estimate, found.limit, found.original, found.n) == (0.0, 0.0, 3.0, 3)
    assert found.details["reach.share"] == "0.9246"
    assert (found.details["item"], found.details["pair"], found.details["open"]) == ("1", "2", "0")
    assert "564 of all 610" in found.reason


def test_an_inverse_of_other_counts_than_those_beside_it_fails():
    """The attack: the sums are clean, and P is another model's."""
    found = judged(source="counts inverted from P", distance=1e-10, unlike=9, entries=180)
    assert found.verdict is FAIL
    assert "9 of 180 counts inverted from P are not those stored beside it" in found.reason
    assert (found.conditions[0].verdict, found.conditions[0].estimate) == (FAIL, 9.0)
    assert (found.details["read"], found.details["rounding"]) == ("counts inverted from P", "1e-10")


def test_a_history_that_can_still_be_read_fails():
    found = judged(candidate=("open", "pair", "pair"), read_after=1)
    assert found.verdict is FAIL
    assert "1 of 3 whole histories can be read out" in found.reason
    assert found.conditions[0].verdict is FAIL


def test_an_open_history_is_unverifiable_and_refers_to_the_algebra():
    found = judged(candidate=("item", "open", "open"))
    assert found.verdict is UNVERIFIABLE
    assert "cannot rule out 2 of 3 histories" in found.reason
    assert "check algebra" in found.reason
    assert (found.estimate, found.original) == (2.0, 3.0)


def test_counts_that_ruled_the_history_out_before_too_are_blind():
    found = judged(original=("open", "pair", "open"))
    assert found.verdict is UNVERIFIABLE
    assert "rule out 1 of 3 histories as well (control)" in found.reason


def test_an_attack_that_read_nothing_before_is_named_blind_and_the_proof_still_counts():
    found = judged(read_before=0)
    assert found.verdict is PASS
    assert found.conditions[0].verdict is UNVERIFIABLE


def test_nobody_deleted_with_a_history_is_no_pass():
    assert judged(candidate=(), original=(), read_before=0).verdict is UNVERIFIABLE


def test_on_real_counts_nothing_done_fails_and_a_deletion_passes():
    rows = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 0]], np.int32)
    before, after = rows.T @ rows, rows[1:].T @ rows[1:]
    history = np.flatnonzero(rows[0]).astype(np.int32)
    assert judged(**of_counts(before, before, [history])).verdict is FAIL
    assert judged(**of_counts(before, after, [history])).verdict is PASS


def test_a_twin_who_stays_is_no_residue():
    """Two users with the same items: after an honest deletion the row that can be read is the other one's."""
    rows = np.array([[0, 1, 0], [0, 1, 0], [1, 0, 1]], np.int32)
    before, after = rows.T @ rows, rows[1:].T @ rows[1:]
    evidence = of_counts(before, after, [np.array([1], np.int32)])
    assert (evidence["read_before"], evidence["read_after"]) == (0, 1)
    found = judged(**evidence)
    assert found.verdict is UNVERIFIABLE
    assert "somebody else's history" in found.reason


def test_reach_may_be_unknown():
    found = judged(reach={})
    assert found.verdict is PASS
    assert "reach.share" not in found.details
    assert "reach not measured" in found.reason


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": ("item", "pair")},
        {"candidate": ("item", "pair", "shut")},
        {"original": ("open", "open", None)},
        {"reach": {"items": 3}},
        {"reach": {"item": -3}},
        {"reach": {"item": 1.5}},
        {"read_after": -1},
        {"read_after": 4},
        {"read_before": float("nan")},
        {"unlike": 3, "entries": 2},
        {"distance": 0.3},
        {"distance": float("nan")},
    ],
)
def test_what_cannot_be_breaks_the_check(change):
    with pytest.raises(CheckBroken):
        judged(**change)


def test_a_finding_is_the_same_size_for_any_number_of_users():
    few, many = judged(), judged(candidate=("pair",) * 5000, original=("open",) * 5000, read_before=700)
    assert few.details.keys() == many.details.keys()
    assert len(few.conditions) == len(many.conditions)
    assert len(canonical(encode(many))) < len(canonical(encode(few))) + 60


def test_nothing_measured_is_inconclusive_with_the_reason_given():
    assert WeightsOnly().run(job()).verdict is INCONCLUSIVE
    told = WeightsOnly().run(replace(job(), ladder=Ladder(unable={"weights_only": "no counts in these weights"})))
    assert (told.verdict, told.reason) == (INCONCLUSIVE, "no counts in these weights")
