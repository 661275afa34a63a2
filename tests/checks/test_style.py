"""The checks of a text-to-image model on counts made by hand: what each guarantee takes, and that silence grants nothing."""

from dataclasses import replace

import numpy as np
import pytest

from expunge.checks.collateral import Collateral
from expunge.checks.style import Style
from expunge.core.finding import Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob
from expunge.core.styles import StyleEvidence
from expunge.stats.style_collateral import Kept
from expunge.stats.styles import Arms, Counted

N, S = 40, 16
CONTROLS = ("a", "b", "c", "d", "e")
LEARNED, QUIET = [38] * S, [0] * S


def counted(hits):
    return Counted(pictures=N, agreed=tuple(hits), any=tuple(hits), nowhere=(0,) * S, by_judge={})


def arms(candidate, original=LEARNED):
    return Arms(
        original=counted(original),
        candidate=counted(candidate),
        controls={name: counted(QUIET) for name in CONTROLS},
    )


def kept(before, after, n=2000):
    return Kept(
        style="somebody else's",
        before=np.arange(n) < before,
        after=np.arange(n) < after,
        seen_before=np.arange(n) < 1500,
        seen_after=np.arange(n) < 1500,
    )


def evidence(**changes):
    attacks = {label: arms(QUIET) for label in ("textual_inversion", "soft_prompt/1", "soft_prompt/2")}
    plain = {
        "arms": {"direct": arms(QUIET), "reworded": arms(QUIET), **attacks},
        "kept": (kept(1800, 1800), kept(1900, 1899)),
        "plan": "sha256:" + "0" * 64,
        "scale": "made by hand",
    }
    return StyleEvidence(**{**plain, **changes})


def with_arms(**changes):
    found = evidence()
    return replace(found, arms={**found.arms, **changes})


def asked(check, found, guarantee=Guarantee.EMPIRICAL):
    return check().run(CheckJob(limits=Limits(), guarantee=guarantee, seed=1, styles=found))


def test_a_removal_that_no_attack_undoes_passes_and_says_where_it_was_measured():
    found = asked(Style, evidence())
    assert found.verdict is Verdict.PASS
    assert found.reason.startswith("INDISTINGUISHABLE-FROM-CONTROL")
    assert (found.estimate, found.original, found.reference) == (0.0, pytest.approx(0.95), 0.0)
    assert found.n == 5 * N * S
    assert found.details["scale"] == "made by hand"
    assert {condition.name for condition in found.conditions} >= {"direct", "textual_inversion"}


def test_an_untouched_model_fails_under_every_guarantee():
    untouched = replace(
        evidence(), arms={name: replace(a, candidate=a.original) for name, a in evidence().arms.items()}
    )
    for guarantee in (Guarantee.EMPIRICAL, Guarantee.EXACT):
        assert asked(Style, untouched, guarantee).verdict is Verdict.FAIL


def test_an_edit_that_one_learned_word_undoes_fails_as_an_erasure():
    found = asked(Style, with_arms(textual_inversion=arms([36] * S)))
    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith("SUPPRESSED")


def test_a_retraining_is_not_failed_by_an_attack_that_would_be_report_only():
    """Its proof is provenance: only the name itself, which somebody else's works in the style would answer to, fails it."""
    found = with_arms(textual_inversion=arms([36] * S))
    assert asked(Style, found, Guarantee.EXACT).verdict is not Verdict.FAIL
    assert asked(Style, with_arms(direct=arms([30] * S)), Guarantee.EXACT).verdict is Verdict.FAIL


def test_a_style_that_was_never_learned_grants_an_edit_nothing():
    never = replace(evidence(), arms={name: arms(QUIET, original=QUIET) for name in evidence().arms})
    edit, retraining = (asked(Style, never, guarantee) for guarantee in (Guarantee.EMPIRICAL, Guarantee.EXACT))
    assert edit.verdict is Verdict.INCONCLUSIVE
    assert retraining.verdict is Verdict.PASS
    assert edit.reason.startswith("NOT-LEARNED")


@pytest.mark.parametrize("found", [None, StyleEvidence(unread="nobody said how")])
@pytest.mark.parametrize("check", [Style, Collateral])
def test_where_nothing_was_drawn_nothing_passes(check, found):
    answer = asked(check, found)
    assert answer.verdict is Verdict.INCONCLUSIVE
    assert answer.n == 0


def test_neighbours_that_stay_pass_and_are_not_named():
    found = asked(Collateral, evidence())
    assert found.verdict is Verdict.PASS
    assert found.n == 4000
    assert "somebody" not in str(found)


def test_an_edit_that_ruins_one_neighbour_fails():
    found = asked(Collateral, evidence(kept=(replace(kept(1800, 1800), style="x"), kept(1900, 1500))))
    assert found.verdict is Verdict.FAIL
    assert "worst retained style" in found.reason


def test_noise_collapse_fails_though_the_style_is_gone():
    """Everything drawn became nothing: prompts and attacks are silent, and so are the neighbours and the objects."""
    nothing = replace(kept(1800, 0), seen_after=np.arange(2000) < 400)
    found = asked(Collateral, evidence(kept=(nothing,)))
    assert asked(Style, evidence()).verdict is Verdict.PASS
    assert found.verdict is Verdict.FAIL
    assert "objects" in found.reason


def test_too_few_pictures_of_neighbours_grant_nothing():
    few = Kept(
        style="x",
        before=np.ones(6, bool),
        after=np.ones(6, bool),
        seen_before=np.ones(6, bool),
        seen_after=np.ones(6, bool),
    )
    assert asked(Collateral, evidence(kept=(few,))).verdict is Verdict.INCONCLUSIVE
