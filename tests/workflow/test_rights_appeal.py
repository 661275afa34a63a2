"""Appeals: the claimant's probes test and never train, a second person decides, and the records have no words in them."""

import copy
import hashlib
import json
import pickle
from datetime import timedelta

import pytest

from expunge.core.codec import encode
from expunge.core.errors import InputError, InputProblems
from expunge.workflow.rights.appeal import (
    LONGEST_PROMPT,
    Decided,
    HeldOut,
    check_held_out,
    decide_appeal,
    file_appeal,
    held_out_of,
)
from expunge.workflow.rights.policy import default_rights_policy
from rights import NOW, RECORD

POLICY = default_rights_policy()
KEY = b"k" * 32
DECIDED = Decided(request="case-1", decision=RECORD, at=NOW, reviewer="reviewer-1")


def probes(prompts=("a harbour, as Mira paints it",), works=(b"pixels",), key=KEY):
    return held_out_of(prompts, works, key, POLICY)


def filed(**changes):
    return file_appeal(DECIDED, probes(), POLICY, NOW + timedelta(days=3), **changes)


def test_probes_are_held_to_their_limits():
    probes([f"prompt {n}" for n in range(50)], [bytes([n]) for n in range(20)])
    for prompts, works in (
        (["p"] * 51, []),
        ([], [b"w"] * 21),
        ([" "], []),
        (["x" * (LONGEST_PROMPT + 1)], []),
        ([], [b""]),
    ):
        with pytest.raises(InputProblems):
            probes(prompts, works)


def test_a_held_out_probe_shows_nobody_what_it_holds():
    """Not by printing, iterating, indexing, pickling or copying it, nor by its record; only a probe is asked."""
    found = probes()
    assert "Mira" not in repr(found) + str(found)
    for way in (list, len, json.dumps, encode):
        with pytest.raises((TypeError, InputError)):
            way(found)
    for way in (pickle.dumps, copy.deepcopy):
        with pytest.raises(InputError, match="not written"):
            way(found)
    assert not any("Mira" in str(getattr(found, name, "")) for name in ("prompts", "works", "__dict__"))
    assert found.ask(lambda prompts, works: (len(prompts), len(works))) == (1, 1)
    record = json.dumps(encode(filed()))
    assert "Mira" not in record
    assert found.digests[0] in record


def test_a_digest_of_a_probe_cannot_be_guessed_without_the_key():
    assert probes().digests == probes(["A HARBOUR,  as Mira paints it"]).digests
    assert probes().digests != probes(key=b"z" * 32).digests
    assert probes().digests != probes(["another"]).digests


def test_probes_that_come_back_as_training_prompts_or_works_are_refused():
    mine = probes()
    work = hashlib.sha256(b"pixels").hexdigest()
    for prompts, works in ((["A harbour,\u00a0as MIRA paints it"], []), ([], [work]), ([mine], [])):
        with pytest.raises(InputError):
            check_held_out(prompts, works, [mine])
    check_held_out(["a harbour"], ["0" * 64], [mine])


def test_a_claimant_cannot_keep_their_own_name_from_being_erased():
    """A probe of one common word would otherwise stand in the way of every edit."""
    check_held_out(["a ship by Mira", "a"], (), [HeldOut(prompts=("Mira", "ship"), works=(), key=KEY)])
    with pytest.raises(InputError):
        check_held_out(["mira"], (), [HeldOut(prompts=("Mira",), works=(), key=KEY)])


@pytest.mark.parametrize("reviewer", ["reviewer-1", " Reviewer-1 ", "REVIEWER-1", "", "  "])
def test_the_first_reviewer_cannot_decide_the_appeal(reviewer):
    with pytest.raises(InputError, match="second reviewer"):
        decide_appeal(filed(), "upheld", reviewer, NOW + timedelta(days=5))


def test_a_second_reviewer_decides_in_time_or_is_late_on_record():
    appeal = filed()
    assert appeal.due == NOW + timedelta(days=33)
    assert decide_appeal(appeal, "granted", "reviewer-2", appeal.due).late is False
    late = decide_appeal(appeal, "upheld", "reviewer-2", appeal.due + timedelta(seconds=1))
    assert late.late is True
    assert late.appeal == appeal.digest
    with pytest.raises(InputError, match="after it was filed"):
        decide_appeal(appeal, "upheld", "reviewer-2", NOW)


def test_an_appeal_that_is_late_or_filed_again_is_refused():
    last = NOW + timedelta(days=POLICY.appeals.file_within)
    file_appeal(DECIDED, probes(), POLICY, last)
    with pytest.raises(InputError, match="too late"):
        file_appeal(DECIDED, probes(), POLICY, last + timedelta(seconds=1))
    with pytest.raises(InputError, match="already"):
        filed(earlier=[filed()])
