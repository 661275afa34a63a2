"""The census: places read, controls found, nothing left. Anything less is no pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expunge.checks.census import Census
from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.ladder import Census as Evidence
from expunge.core.ladder import Ladder, Place
from expunge.core.protocols import Check
from oracle.banks import job

LOG = Place(kind="events", name="event log", before=40, after=0, planted=(6, 6), action="scrubbed")
CACHE = Place(kind="lists", name="cache", before=3, after=0, planted=(4, 4), action="scrubbed")
GOOD = Evidence(places=(LOG, CACHE), orphans=2, cascade=(3, 17), test_users=0)


def judged(*places, **changes):
    census = replace(GOOD, **({"places": places} if places else {}), **changes)
    return Census().run(replace(job(), ladder=Ladder(census=census)))


def test_all_read_all_controls_found_and_nothing_left_passes():
    found = judged()
    assert isinstance(Census(), Check)
    assert found.verdict is Verdict.PASS
    assert (found.estimate, found.original, found.limit, found.n) == (0.0, 32.0, 0.0, 2)
    assert [condition.name for condition in found.conditions[:2]] == ["event log", "cache"]
    assert found.conditions[0].note == "events; 32 before; scrubbed; control: 6 of 6 found"


def test_orphans_and_the_frozen_vocabulary_are_said_and_decide_nothing():
    found = judged()
    assert "items that lost their last owner stay in it, empty (2 or more)" in found.reason
    assert "only declared places were looked at" in found.reason
    assert found.details == {
        "orphans": "2", "cascade_items": "3", "cascade_events": "17", "places": "2", "unread": "0", "test_users": "0"
    }  # fmt: skip
    assert "no item lost its last owner" in judged(orphans=0).reason


@pytest.mark.parametrize("planted", [(6, 6), (5, 6), (0, 0)])
def test_one_trace_left_fails_whatever_the_control_says(planted):
    found = judged(replace(LOG, after=1, planted=planted), CACHE)
    assert found.verdict is Verdict.FAIL
    assert found.estimate == 1.0
    assert found.reason.startswith("1 trace left in 1 of 2 places: event log")


@pytest.mark.parametrize("planted", [(5, 6), (0, 6), (0, 0)])
def test_a_blind_probe_does_not_pass(planted):
    """The attack: a reader that sees nobody calls every file clean."""
    found = judged(LOG, replace(CACHE, planted=planted))
    assert found.verdict is Verdict.UNVERIFIABLE
    assert "under a probe that missed its planted users" in found.reason
    assert [c.verdict for c in found.conditions] == [Verdict.PASS, Verdict.UNVERIFIABLE, Verdict.PASS]


def test_a_place_that_cannot_be_read_does_not_pass_and_what_the_parser_said_is_not_published():
    """The attack: corrupt the file, and its rows are not counted."""
    found = judged(LOG, replace(CACHE, unread="/home/me/lists-of-user-17.json is not JSON"))
    assert found.verdict is Verdict.UNVERIFIABLE
    assert "1 of 2 places could not be read" in found.reason
    assert found.conditions[1].estimate is None
    assert b"17.json" not in canonical(encode(found))


def test_a_deleted_user_among_the_test_users_fails():
    found = judged(test_users=1)
    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith("1 deleted user, or copies, among the test users")


def test_no_place_declared_is_unverifiable_and_says_so():
    """The attack: declare nothing, so nothing can be found."""
    for test_users, verdict in ((0, Verdict.UNVERIFIABLE), (2, Verdict.FAIL)):
        found = Census().run(replace(job(), ladder=Ladder(census=replace(GOOD, places=(), test_users=test_users))))
        assert found.verdict is verdict
        assert "no place was declared" in found.reason
        assert found.estimate is None


def test_left_traces_outrank_unread_places():
    found = judged(replace(LOG, after=2), replace(CACHE, unread="gone"))
    assert found.verdict is Verdict.FAIL
    assert "2 traces left" in found.reason
    assert "could not be read" in found.reason


def test_no_census_is_inconclusive_with_its_reason():
    assert Census().run(job()).verdict is Verdict.INCONCLUSIVE
    found = Census().run(replace(job(), ladder=Ladder(unable={"census": "the workspace has no list of places"})))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == "the workspace has no list of places"


def test_findings_are_canonical():
    for found in (judged(), judged(replace(LOG, unread="x")), Census().run(job())):
        assert canonical(encode(found))


@pytest.mark.parametrize(
    "census",
    [
        replace(GOOD, orphans=-1),
        replace(GOOD, places=(replace(LOG, after=-1),)),
        replace(GOOD, places=(replace(LOG, planted=(-1, 0)),)),
        replace(GOOD, places=(LOG, LOG)),
    ],
)
def test_impossible_counts_break_the_check(census):
    with pytest.raises(CheckBroken):
        Census().run(replace(job(), ladder=Ladder(census=census)))


def test_the_length_of_a_history_is_not_published():
    """An export's traces are the user's events: only their order of magnitude is told, and so is that of orphans."""
    from expunge.stats.rungs import coarse

    found = [judged(replace(LOG, before=n), orphans=n) for n in (600, 1000)]
    assert found[0].original == found[1].original == 512
    assert found[0].reason == found[1].reason
    assert [coarse(n) for n in (0, 1, 2, 3, 4, 1023, 1024)] == [0, 1, 2, 2, 4, 512, 1024]
