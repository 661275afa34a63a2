from dataclasses import replace

import pytest

from expunge.checks.downstream import Downstream
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.ladder import Downstream as Evidence
from expunge.core.ladder import Ladder
from expunge.core.protocols import Check
from oracle.banks import job

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
GOOD = Evidence(stale=(), expiring=("lists", "index"), replayed=True)


def judged(**changes):
    return Downstream().run(replace(job(), ladder=Ladder(downstream=replace(GOOD, **changes))))


def test_a_replay_that_gives_the_candidate_and_nothing_stale_passes():
    found = judged()
    assert isinstance(Downstream(), Check)
    assert found.verdict is PASS
    assert (found.estimate, found.limit, found.original, found.n) == (0.0, 0.0, 2.0, 3)
    assert "2 more are rebuilt with the release or expire (lists, index)" in found.reason
    assert found.details == {"stale": "0", "expiring": "2", "unknown": "0", "gone": "0", "replays": "1"}


def test_one_stale_artefact_fails_and_is_named():
    found = judged(stale=("nightly mails",))
    assert (found.verdict, found.estimate, found.original) == (FAIL, 1.0, 3.0)
    assert "nightly mails" in found.reason


def test_a_restored_backup_that_brings_the_users_back_fails():
    """The attack: delete, then restore yesterday's model; the list of deletions was not replayed, or not all of it."""
    assert judged(replayed=False).verdict is FAIL


def test_no_replay_is_inconclusive_with_its_reason_and_never_hides_what_is_stale():
    found = judged(replayed=None, why_not="the backup is offline")
    assert found.verdict is INCONCLUSIVE
    assert "the backup is offline" in found.reason
    assert judged(replayed=None).verdict is INCONCLUSIVE
    assert judged(replayed=None, stale=("lists of May",)).verdict is FAIL


def test_nothing_declared_and_a_replay_passes_on_the_replay():
    found = judged(expiring=())
    assert (found.verdict, found.n, found.original) == (PASS, 1, 0.0)


def test_an_artefact_that_does_not_say_what_it_was_made_from_is_no_pass():
    found = judged(unknown=("an index",))
    assert found.verdict is INCONCLUSIVE
    assert "of 1 nothing says what they were made from (an index)" in found.reason
    assert judged(unknown=("an index",), stale=("a copy",)).verdict is FAIL


def test_an_old_backup_that_is_taken_for_the_new_model_fails():
    """The attack: the original's file in the candidate's place, and nothing refuses it."""
    assert judged(refused=False).verdict is FAIL
    assert judged(refused=False, replayed=None).verdict is FAIL


def test_a_backup_that_is_refused_is_no_replay():
    """Two digests that differ are always refused: that says nothing of the way back."""
    found = judged(refused=True, replayed=None)
    assert (found.verdict, found.details["refused"], found.details["replays"]) == (INCONCLUSIVE, "yes", "0")
    assert "as it is, it is refused" in judged(refused=True).reason


def test_what_was_declared_and_is_gone_is_said():
    found = judged(expiring=(), gone=2)
    assert found.verdict is PASS
    assert "2 that were declared are not there any more" in found.reason


def test_many_stale_names_do_not_make_a_long_reason():
    found = judged(stale=tuple(f"cache {k} {'x' * 500}" for k in range(1000)))
    assert found.estimate == 1000.0
    assert "and 997 more" in found.reason
    assert len(canonical(encode(found))) < 2_000


@pytest.mark.parametrize(
    "change",
    [
        {"stale": "lists"},
        {"stale": ["lists"]},
        {"expiring": (3,)},
        {"expiring": ("",)},
        {"stale": ("lists",)},
        {"expiring": ("lists", "lists")},
        {"replayed": "yes"},
        {"replayed": 1},
        {"replayed": float("nan")},
        {"refused": 1},
        {"unknown": ["lists"]},
        {"unknown": ("lists",)},
        {"gone": -1},
    ],
)
def test_what_cannot_be_breaks_the_check(change):
    with pytest.raises(CheckBroken):
        judged(**change)


def test_nothing_measured_is_inconclusive_with_the_reason_given():
    assert Downstream().run(job()).verdict is INCONCLUSIVE
    told = Downstream().run(replace(job(), ladder=Ladder(unable={"downstream": "no artefact is declared"})))
    assert (told.verdict, told.reason) == (INCONCLUSIVE, "no artefact is declared")
