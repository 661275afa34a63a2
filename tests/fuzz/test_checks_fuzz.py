"""Attacks and checks on banks that went wrong: FAIL, INCONCLUSIVE, UNVERIFIABLE or a typed error, never PASS."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.attacks.lira import Lira
from expunge.attacks.lira_own import LiraOwn
from expunge.attacks.rmia import Rmia
from expunge.checks.deployed import DeployedFile
from expunge.checks.membership import Membership
from expunge.core.finding import Verdict
from expunge.core.protocols import AttackJob
from fuzz.nasty import FEW, KINDS, survives
from oracle import banks

SLOW = settings(FEW, max_examples=10)
TWICE = settings(FEW, max_examples=6)


def arms(seed=0):
    return banks.bank(np.random.default_rng(seed), pairs=32, records=3, gap=8.0, unlearned=0.0, population=24)


def served(seed=0):
    return banks.served(np.random.default_rng(seed), anchors=19, members=19, records=4, gap=8.0, population=24)


def job(**world):
    return banks.job(signals=("lira",), wanted=1, margin=0.5, **world)


def run(check, change, field, world):
    """The verdict after one change of one world, or None after a typed error."""
    finding = survives(lambda: check.run(job(**{field: change(world)})))
    return None if finding is None else finding.verdict


def replaced(name, values):
    return lambda world: dataclasses.replace(world, **{name: values(np.array(getattr(world, name)))})


def both(*changes):
    def one_after_the_other(world):
        for change in changes:
            world = change(world)
        return world

    return one_after_the_other


def with_one(value):
    def put(array):
        array.flat[array.size // 2] = value
        return array

    return put


BAD_VALUES = {
    "NaN": with_one(np.nan),
    "plus infinity": with_one(np.inf),
    "minus infinity": with_one(-np.inf),
    "a probability above 1": with_one(3.0),
    "huge": lambda a: a * 1e200,
    "cut short": lambda a: a[:-1],
    "empty": lambda a: a[:0],
    "no records": lambda a: a[:, :0],
    "flat": lambda a: a.ravel(),
    "one axis more": lambda a: a[None],
    "text": lambda a: a.astype(str).astype(object) + "x",
    "complex": lambda a: a + 1j,
}
NO_INFORMATION = {
    "constant": lambda a: np.full_like(a, -1.0),
    "all certain": lambda a: np.zeros_like(a),
    "tiny": lambda a: a * 1e-300,
    "one model repeated": lambda a: np.repeat(a[:1], len(a), axis=0),
}
ARMS = ("out", "into", "unlearned", "out_population", "into_population", "unlearned_population")
WHOLE_ARMS = {
    "no-op": lambda w: dataclasses.replace(w, unlearned=w.into, unlearned_population=w.into_population),
    "IN and OUT swapped": lambda w: dataclasses.replace(
        w, out=w.into, into=w.out, out_population=w.into_population, into_population=w.out_population
    ),
    "X copied from O": lambda w: dataclasses.replace(w, unlearned=w.out, unlearned_population=w.out_population),
    "too few pairs": lambda w: dataclasses.replace(w, **{name: getattr(w, name)[:4] for name in ARMS}),
    "four pairs, eight times": lambda w: dataclasses.replace(
        w, **{n: np.tile(getattr(w, n)[:4], (8, 1)) for n in ARMS}
    ),
    "no X arm": lambda w: dataclasses.replace(w, unlearned=None, unlearned_population=None),
    "X without its population": lambda w: dataclasses.replace(w, unlearned_population=None),
    "all three the same": lambda w: dataclasses.replace(w, into=w.out, unlearned=w.out),
}


def test_the_bank_that_is_spoilt_below_passes_before():
    assert Membership().run(job(arms=arms())).verdict is Verdict.PASS


@pytest.mark.parametrize("name", sorted(WHOLE_ARMS))
def test_a_bank_with_its_arms_mixed_up_never_passes(name):
    assert run(Membership(), WHOLE_ARMS[name], "arms", arms()) is not Verdict.PASS


@pytest.mark.parametrize("bad", sorted(BAD_VALUES))
def test_a_bank_with_a_bad_value_is_a_typed_error(bad):
    for field in ARMS[:3]:
        assert run(Membership(), replaced(field, BAD_VALUES[bad]), "arms", arms()) is None, field


@pytest.mark.parametrize("blind", sorted(NO_INFORMATION))
@pytest.mark.parametrize("field", ["out", "into", "unlearned"])
def test_an_arm_that_says_nothing_never_passes(field, blind):
    """But for an IN arm at certainty: it says that the block was memorised as well as float32 can say it."""
    change = NO_INFORMATION[blind]
    verdict = run(Membership(), both(replaced(field, change), replaced(f"{field}_population", change)), "arms", arms())
    saturated = field == "into" and blind in ("all certain", "tiny")
    assert verdict is not Verdict.PASS or saturated


def test_a_clamp_of_the_block_alone_never_passes():
    """The population still answers as it should, only the block always gets the same confidence."""
    for field in ("out", "unlearned"):
        assert run(Membership(), replaced(field, NO_INFORMATION["constant"]), "arms", arms()) is not Verdict.PASS


@TWICE
@given(
    first=st.sampled_from(("out", "unlearned")),
    second=st.sampled_from(ARMS),
    how=st.sampled_from(sorted(BAD_VALUES | NO_INFORMATION)),
    seed=st.integers(0, 9),
)
def test_a_bank_with_two_things_wrong_never_passes(first, second, how, seed):
    change = (BAD_VALUES | NO_INFORMATION)[how]
    second = "into" if first == second or how in NO_INFORMATION else second
    world = both(replaced(first, change), replaced(second, change))(arms(seed))
    assert run(Membership(), lambda _: world, "arms", world) is not Verdict.PASS


FILES = ("candidate", "original", "out_anchors", "in_anchors")
WHOLE_FILES = {
    "the original itself": lambda w: dataclasses.replace(
        w, candidate=w.original, candidate_population=w.original_population
    ),
    "anchors swapped": lambda w: dataclasses.replace(
        w, out_anchors=w.in_anchors, in_anchors=w.out_anchors, out_population=w.in_population, in_population=w.out_population
    ),
    "18 anchors": lambda w: dataclasses.replace(w, out_anchors=w.out_anchors[:18], out_population=w.out_population[:18]),
    "no anchors": lambda w: dataclasses.replace(w, out_anchors=w.out_anchors[:0], out_population=w.out_population[:0]),
    "two candidates": lambda w: dataclasses.replace(
        w, candidate=np.tile(w.candidate, (2, 1)), candidate_population=np.tile(w.candidate_population, (2, 1))
    ),
    "one anchor nineteen times": lambda w: dataclasses.replace(
        w, out_anchors=np.repeat(w.out_anchors[:1], 19, 0), out_population=np.repeat(w.out_population[:1], 19, 0)
    ),
}  # fmt: skip


def test_the_file_that_is_spoilt_below_is_not_failed_before():
    assert DeployedFile().run(job(deployed=served())).verdict is not Verdict.FAIL


@pytest.mark.parametrize("name", sorted(WHOLE_FILES))
def test_a_served_file_among_the_wrong_anchors_never_passes(name):
    assert run(DeployedFile(), WHOLE_FILES[name], "deployed", served()) is not Verdict.PASS


@pytest.mark.parametrize("bad", sorted(BAD_VALUES))
def test_a_served_file_with_a_bad_value_never_passes(bad):
    for field in FILES:
        assert run(DeployedFile(), replaced(field, BAD_VALUES[bad]), "deployed", served()) is not Verdict.PASS, field


@pytest.mark.parametrize("blind", sorted(NO_INFORMATION))
def test_anchors_that_say_nothing_never_pass(blind):
    change = both(*(replaced(field, NO_INFORMATION[blind]) for field in FILES))
    assert run(DeployedFile(), change, "deployed", served()) is not Verdict.PASS


@pytest.mark.parametrize("attack", [Lira(), LiraOwn(), Rmia()])
def test_an_attack_on_arrays_that_went_wrong_scores_finitely_or_breaks(attack):
    @SLOW
    @given(
        st.sampled_from(("target", "reference", "member", "target_population", "reference_population")),
        st.sampled_from(sorted(KINDS)),
        st.sampled_from(((3, 4), (8, 4), (0, 4), (3, 0), (3,), (3, 25), (8, 25))),
        st.integers(0, 99),
    )
    def check(field, kind, shape, seed):
        rng = np.random.default_rng(seed)
        sound = {
            "target": -rng.exponential(size=(3, 4)), "reference": -rng.exponential(size=(8, 4)),
            "member": np.repeat([[True], [False]], 4, 0).repeat(4, 1),
            "target_population": -rng.exponential(size=(3, 25)), "reference_population": -rng.exponential(size=(8, 25)),
        }  # fmt: skip
        found = survives(lambda: attack.score(AttackJob(**{**sound, field: KINDS[kind](rng, shape)})))
        assert found is None or np.isfinite(np.asarray(found.values)).all()

    check()
