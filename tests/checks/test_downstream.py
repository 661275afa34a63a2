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
    assert "2 more are rebuilt with the release" in found.reason
    assert found.details == {"stale": "0", "expiring": "2", "replays": "1"}


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
    ],
)
def test_what_cannot_be_breaks_the_check(change):
    with pytest.raises(CheckBroken):
        judged(**change)


def test_nothing_measured_is_inconclusive_with_the_reason_given():
    assert Downstream().run(job()).verdict is INCONCLUSIVE
    told = Downstream().run(replace(job(), ladder=Ladder(unable={"downstream": "no artefact is declared"})))
    assert (told.verdict, told.reason) == (INCONCLUSIVE, "no artefact is declared")
