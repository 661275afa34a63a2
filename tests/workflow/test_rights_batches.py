"""Intake, interim filters and batches of accepted edits, by made-up requests."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from expunge.core.errors import InputError, InputProblems
from expunge.core.styles import StyleRung
from expunge.training.concepts.uce import edit_of
from expunge.workflow.rights.appeal import HeldOut
from expunge.workflow.rights.batching import Accepted, Answer, after, job_of, next_step, over
from expunge.workflow.rights.facts import Load
from expunge.workflow.rights.intake import Claim, Remedy, check_claim
from expunge.workflow.rights.mitigation import (
    Mitigation,
    active,
    check_mitigation,
    lapsed,
    mitigation_for,
)
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.rights.regression import Granted, to_verify
from expunge.workflow.rights.terms import AuthorityKind, Basis
from rights import NOW, RECORD

POLICY = default_rights_policy()
HANDLE = "hmac-sha256:" + "b" * 64
DAY = timedelta(days=1)


def claim(**changes):
    fields = {
        "id": "case-1",
        "received": NOW,
        "claimant": HANDLE,
        "authority": AuthorityKind.AUTHOR,
        "works": ("0" * 64, "1" * 64),
        "names": (HANDLE,),
        "jurisdiction": "DE",
        "basis": Basis.COPYRIGHT,
        "remedies": (Remedy.REMOVE_INFLUENCE,),
    }
    return Claim(**{**fields, **changes})


def test_a_claim_within_the_limits_is_taken():
    assert check_claim(claim(), POLICY) == claim()
    most = tuple(f"{n:064x}" for n in range(POLICY.intake.works))
    check_claim(claim(works=most), POLICY)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"works": ()}, "works"),
        ({"works": tuple(f"{n:064x}" for n in range(5001))}, "5001 are listed"),
        ({"works": ("0" * 64, "0" * 64)}, "each once"),
        ({"works": ("https://example.org/1",)}, "SHA-256"),
        ({"names": ("Jane Doe",)}, "commitments"),
        ({"claimant": "jane@example.org"}, "commitments"),
        ({"names": (HANDLE,) * 21}, "names: 21"),
        ({"received": datetime(2026, 1, 1)}, "zone"),
        ({"remedies": ()}, "nothing is asked"),
    ],
)
def test_a_flood_of_works_and_names_in_the_clear_are_refused(change, word):
    with pytest.raises(InputProblems, match=word):
        check_claim(claim(**change), POLICY)


# ----------------------------------------------------------------------------------------------------------- mitigation


def test_a_mitigation_that_has_expired_is_not_listed_as_active():
    one = mitigation_for("case-1", "name_block", RECORD, POLICY, NOW)
    last = NOW + timedelta(days=POLICY.limits.mitigation_days)
    assert active([one], NOW) == active([one], last - timedelta(microseconds=1)) == (one,)
    assert active([one], last) == ()
    assert active([one], NOW - timedelta(seconds=1)) == ()
    assert "not a removal" in one.label


def test_a_mitigation_that_lapses_while_its_request_is_open_is_reported():
    one = mitigation_for("case-1", "name_block", RECORD, POLICY, NOW)
    two = mitigation_for("case-1", "similarity_filter", RECORD, POLICY, NOW + 100 * DAY)
    still_open = frozenset({"case-1", "case-2"})
    assert lapsed([one], still_open, NOW + 179 * DAY) == ()
    assert lapsed([one], still_open, NOW + 180 * DAY) == ("case-1",)
    assert lapsed([one, two], still_open, NOW + 200 * DAY) == (), "another filter of it still holds"
    assert lapsed([one], frozenset(), NOW + 180 * DAY) == ()


def test_a_filter_for_good_is_no_interim_measure():
    for days, good in ((180, True), (181, False), (100_000, False)):
        found = Mitigation(request="c", filter="name_block", since=NOW, until=NOW + days * DAY, settings=RECORD)
        if good:
            check_mitigation(found, POLICY)
        else:
            with pytest.raises(InputError, match="too long"):
                check_mitigation(found, POLICY)


@pytest.mark.parametrize("change", [{"until": NOW}, {"settings": "blocks Jane Doe"}, {"since": datetime(2026, 1, 1)}])
def test_a_mitigation_without_an_end_or_with_a_name_in_it_is_refused(change):
    good = {"request": "c", "filter": "name_block", "since": NOW, "until": NOW + DAY, "settings": RECORD}
    Mitigation(**good)
    with pytest.raises(InputError):
        Mitigation(**{**good, **change})


# -------------------------------------------------------------------------------------------------------------- batches


def accepted(number, *, at=NOW, loss=0.001, **changes):
    fields = {"erase": (f"a ship by artist {number}",), "guide": ("a ship",), "loss": loss}
    return Accepted(request=f"case-{number:03d}", accepted=at, **{**fields, **changes})


def test_a_window_is_due_when_it_ends_or_is_full_and_not_before():
    few = [accepted(1), accepted(2, at=NOW + 3 * DAY)]
    assert next_step([], Load(), POLICY, NOW).answer is Answer.WAIT
    assert next_step(few, Load(), POLICY, NOW + 6 * DAY).answer is Answer.WAIT
    due = next_step(few, Load(), POLICY, NOW + 7 * DAY)
    assert (due.answer, [one.request for one in due.batch]) == (Answer.EDIT, ["case-001", "case-002"])
    full = [accepted(number) for number in range(30)]
    first = next_step(full, Load(), POLICY, NOW)
    assert (first.answer, len(first.batch), len(first.left)) == (Answer.EDIT, 25, 5)
    assert next_step(full[:24], Load(), POLICY, NOW).answer is Answer.WAIT


def test_a_cap_on_edits_or_losses_answers_retrain_and_nobody_is_dropped():
    late = NOW + 8 * DAY
    two = [accepted(1), accepted(2)]
    for load in (Load(edits=99), Load(lost=0.0495), Load(edits=100), Load(lost=0.9)):
        step = next_step(two, load, POLICY, late)
        assert step.answer is Answer.RETRAIN
        assert set(step.left) == set(two)
        assert step.batch == ()
        assert step.reason
    assert next_step(two, Load(edits=98, lost=0.047), POLICY, late).answer is Answer.EDIT


def test_edits_that_seem_to_help_others_do_not_pay_for_those_that_harm():
    helpful = [accepted(number, loss=-0.5) for number in range(3)]
    assert after(Load(lost=0.04), helpful).lost == pytest.approx(0.04)
    assert over(Load(lost=0.04), [*helpful, accepted(9, loss=0.02)], POLICY)
    assert not over(Load(lost=0.04), [*helpful, accepted(9, loss=0.009)], POLICY)


def test_a_request_filed_twice_into_one_window_is_refused():
    with pytest.raises(InputError, match="twice"):
        next_step([accepted(1), accepted(1)], Load(), POLICY, NOW)


@pytest.mark.parametrize("change", [{"loss": float("nan")}, {"loss": 2}, {"guide": ()}, {"erase": (), "guide": ()}])
def test_accepted_edits_that_could_not_be_added_up_are_refused(change):
    with pytest.raises(InputError):
        accepted(1, **change)


def test_several_artists_are_one_job_and_one_solve():
    batch = [accepted(number) for number in range(5)]
    job = job_of(batch, None, ("a ship by somebody else",), seed="00", held_out=())
    assert len(job.erase) == len(job.guide) == 5
    rng = np.random.default_rng(0)
    artists, guides, kept = (rng.standard_normal((count, 24)) for count in (5, 5, 8))
    together = edit_of(artists, guides, kept)
    assert together.factor.shape == (24, 24)
    led = np.linalg.norm(artists @ together.factor.T - guides, axis=1) / np.linalg.norm(artists - guides, axis=1)
    assert (led < 0.5).all(), "every one of the five is led towards its guide by the same matrix"
    alone = edit_of(artists[:1], guides[:1], kept)
    assert np.linalg.norm(artists[1:] @ alone.factor.T - guides[1:]) > 2 * np.linalg.norm(
        artists[1:] @ together.factor.T - guides[1:]
    )


@pytest.mark.parametrize(
    ("batch", "preserve", "word"),
    [
        ([accepted(1), accepted(2, erase=("a ship by artist 1",), guide=("a boat",))], (), "two guides"),
        ([accepted(1)], ("a ship by artist 1",), "erased and kept"),
    ],
)
def test_a_batch_that_contradicts_itself_is_refused(batch, preserve, word):
    with pytest.raises(InputError, match=word):
        job_of(batch, None, preserve, seed="00", held_out=())


def test_a_held_out_probe_cannot_become_an_edit():
    probes = HeldOut(prompts=("A  Ship by ARTIST 1",), works=(), key=b"k" * 32)
    with pytest.raises(InputError, match="optimised"):
        job_of([accepted(1)], None, (), seed="00", held_out=[probes])
    with pytest.raises(InputError, match="optimised"):
        job_of([accepted(2)], None, ("a ship by artist 1",), seed="00", held_out=[probes])
    job_of([accepted(2)], None, (), seed="00", held_out=[probes])
    with pytest.raises(TypeError):
        accepted(3, erase=probes)


def test_five_artists_one_after_another_are_verified_again_each_time_until_the_cap_forces_a_retraining():
    """Losses are made up (1.5 points each, of 5); the solves, and what they move, are real."""
    rng = np.random.default_rng(1)
    artists, guides, neighbours = (rng.standard_normal((count, 64)) for count in (5, 5, 12))
    factor, load, granted, rechecked, moved = np.eye(64), Load(), [], [], []
    for number in range(5):
        step = next_step([accepted(number, loss=0.015)], load, POLICY, NOW + 8 * DAY)
        if step.answer is Answer.RETRAIN:
            break
        factor = edit_of(artists[number : number + 1], guides[number : number + 1], neighbours).factor @ factor
        moved.append(float(np.linalg.norm(neighbours @ factor.T - neighbours)))
        load = after(load, step.batch)
        release = Release({"unet/w.safetensors": f"{number:064x}"})
        rechecked.append([found.request for found in to_verify(granted, release)])
        granted = [replace(found, files=release.files) for found in granted]
        request = step.batch[0].request
        granted.append(Granted(request=request, rung=StyleRung.SUPPRESSED, plan=RECORD, files=release.files))
    assert rechecked == [[], ["case-000"], ["case-000", "case-001"]]
    assert (step.answer, load.edits) == (Answer.RETRAIN, 3), "the fourth would have cost others more than 5 points"
    assert moved == sorted(moved), "neighbours move further with every edit"
    assert [found.request for found in to_verify(granted, Release({}))] == ["case-000", "case-001", "case-002"]


class Release:
    """Files to be released."""

    digest = "sha256:" + "0" * 64

    def __init__(self, files):
        self.files = files
