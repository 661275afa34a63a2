from dataclasses import replace

import numpy as np
import pytest

from expunge.checks.algebra import Algebra
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.ladder import Algebra as Evidence
from expunge.core.ladder import Ladder
from expunge.core.protocols import Check
from expunge.training.closed_form.inverse import REFRESH_RESIDUAL, inverse_of, residual
from oracle.banks import job

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE
GOOD = Evidence(
    what="Gram matrix", entries=900, wrong=0, original_wrong=25, derived=3e-13, derived_limit=1e-9,
    original_derived=0.02, probes=4, leverage=0.3,
)  # fmt: skip


def judged(**changes):
    return Algebra().run(replace(job(), ladder=Ladder(algebra=replace(GOOD, **changes))))


def test_equal_sums_and_a_small_residual_pass_with_both_controls():
    found = judged()
    assert isinstance(Algebra(), Check)
    assert found.verdict is PASS
    assert (found.estimate, found.limit, found.original, found.n) == (0.0, 0.0, 16.0, 900)
    assert "the original's differ in 16 or more" in found.reason
    assert "3e-13" in found.reason
    assert [condition.name for condition in found.conditions] == ["sums", "derived"]
    assert found.details == {"probes": "4", "leverage": "0.3", "residual": "3e-13", "residual_original": "0.02"}


def test_one_wrong_integer_is_enough_to_fail():
    assert judged(wrong=1).verdict is FAIL
    assert "1 of 900 sums differ" in judged(wrong=1).reason


def test_room_beside_the_sums_can_hold_more_than_there_are_sums():
    """The attack: a tensor that belongs to no sum; the caller counts its elements as wrong ones."""
    found = judged(wrong=5_000)
    assert (found.verdict, found.estimate) == (FAIL, 5000.0)


@pytest.mark.parametrize("derived", [1.0001e-9, 1.0, float("nan"), float("inf")])
def test_a_stale_inverse_beside_right_sums_fails(derived):
    """The attack: new sums for the record, the old inverse for serving."""
    found = judged(derived=derived)
    assert found.verdict is FAIL
    assert [condition.verdict for condition in found.conditions] == [PASS, FAIL]
    assert canonical(encode(found))


def test_nothing_kept_beside_the_sums_is_fine():
    found = judged(derived=None, original_derived=None, derived_limit=0.0)
    assert found.verdict is PASS
    assert [condition.name for condition in found.conditions] == ["sums"]
    assert "residual" not in found.details


def test_an_original_that_does_not_differ_shows_nothing():
    found = judged(original_wrong=0)
    assert found.verdict is UNVERIFIABLE
    assert "nothing is seen" in found.reason
    assert judged(original_wrong=0, wrong=1).verdict is FAIL
    assert judged(entries=0, original_wrong=0).verdict is UNVERIFIABLE
    assert judged(entries=0).verdict is UNVERIFIABLE


def test_sums_that_were_right_before_pass_where_the_comparison_sees_somebody_else():
    """A user who weighs nothing: equal is equal. The control is somebody who stays, without whom the sums must differ."""
    found = judged(original_wrong=0, control_wrong=25, derived=None, original_derived=None)
    assert (found.verdict, found.estimate, found.original) == (PASS, 0.0, 0.0)
    assert "did not have to change; without one user who stays, 16 or more differ (control)" in found.reason
    for control in (None, 0):
        blind = judged(original_wrong=0, control_wrong=control, derived=None, original_derived=None)
        assert blind.verdict is UNVERIFIABLE
    assert judged(original_wrong=0, control_wrong=25, entries=0).verdict is UNVERIFIABLE


def test_no_control_excuses_a_wrong_sum():
    """The attack: a no-op on a user who does weigh something."""
    assert judged(wrong=25, original_wrong=25, control_wrong=25).verdict is FAIL
    assert judged(wrong=1, original_wrong=0, control_wrong=25).verdict is FAIL
    stale = judged(original_wrong=0, control_wrong=25, derived=1e-12, original_derived=1e-12)
    assert stale.verdict is UNVERIFIABLE  # an inverse that random vectors do not tell from the original's


def test_an_inverse_that_did_not_have_to_change_passes_where_the_probe_sees_somebody_else():
    """A user without an event: the old inverse is the new one, and without somebody who stays it would not be."""
    right = {"original_wrong": 0, "control_wrong": 25, "derived": 1e-12, "original_derived": 1e-12}
    assert judged(**right, control_derived=0.3).verdict is PASS
    assert judged(**right, control_derived=1e-12).verdict is UNVERIFIABLE
    assert judged(**{**right, "derived": 0.3}, control_derived=0.3).verdict is FAIL
    assert judged(**{**right, "original_wrong": 25}, control_derived=0.3).verdict is UNVERIFIABLE


@pytest.mark.parametrize("control", [None, 0.0, 1e-9, float("nan")])
def test_random_vectors_that_do_not_see_the_originals_inverse_are_blind(control):
    found = judged(original_derived=control)
    assert found.verdict is UNVERIFIABLE
    assert "the probe is blind" in found.reason


def test_lists_that_equal_a_rebuild_are_a_fact_even_when_the_originals_do_too():
    assert judged(derived=0.0, derived_limit=0.0, original_derived=0.0, probes=0).verdict is PASS
    assert judged(derived=1.0, derived_limit=0.0, original_derived=0.0, probes=0).verdict is FAIL


def test_on_a_real_gram_matrix_honest_passes_and_every_half_deletion_fails():
    rng = np.random.default_rng(0)
    rows = (rng.random((40, 12)) < 0.4).astype(np.int32)
    before, after = rows.T @ rows, rows[1:].T @ rows[1:]
    old, new = inverse_of(before, 5.0), inverse_of(after, 5.0)

    def evidence(gram, inverse):
        return {
            "entries": after.size,
            "wrong": int((gram != after).sum()),
            "original_wrong": int((before != after).sum()),
            "derived": residual(inverse, after, 5.0, np.random.default_rng(1)),
            "derived_limit": REFRESH_RESIDUAL,
            "original_derived": residual(old, after, 5.0, np.random.default_rng(1)),
        }

    cases = {"honest": (after, new), "sums only": (after, old), "inverse only": (before, new), "nothing": (before, old)}
    verdicts = {name: judged(**evidence(*case)).verdict for name, case in cases.items()}
    assert verdicts == {"honest": PASS, "sums only": FAIL, "inverse only": FAIL, "nothing": FAIL}


@pytest.mark.parametrize(
    "change",
    [
        {"wrong": -1},
        {"wrong": 0.5},
        {"wrong": True},
        {"control_wrong": -1},
        {"entries": "900"},
        {"probes": -1},
        {"original_wrong": np.float64(3)},
        {"derived": -1e-12},
        {"original_derived": -1.0},
        {"derived_limit": float("nan")},
        {"derived_limit": float("inf")},
        {"derived_limit": -1.0},
        {"leverage": 1.1},
        {"leverage": -0.1},
        {"leverage": float("nan")},
    ],
)
def test_what_cannot_be_breaks_the_check(change):
    with pytest.raises(CheckBroken):
        judged(**change)


def test_nothing_measured_is_inconclusive_with_the_reason_given():
    assert Algebra().run(job()).verdict is INCONCLUSIVE
    assert Algebra().run(replace(job(), ladder=Ladder())).verdict is INCONCLUSIVE
    told = Algebra().run(replace(job(), ladder=Ladder(unable={"algebra": "no sums over users"})))
    assert (told.verdict, told.reason) == (INCONCLUSIVE, "no sums over users")
