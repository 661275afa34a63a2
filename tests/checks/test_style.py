"""The checks of a text-to-image model on counts made by hand: what each guarantee takes, and that silence grants nothing."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from expunge.checks.collateral import Collateral
from expunge.checks.style import Style
from expunge.core.codec import decimal
from expunge.core.finding import Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob
from expunge.core.styles import JudgeSight, StyleEvidence
from expunge.stats.spending import limit_level
from expunge.stats.style_collateral import Kept, Looks
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


def looks(centre, moved=0.0, n=200):
    """Features around a centre of the artist's own; after an edit that moved them, somewhere else."""
    rng = np.random.default_rng(int(centre) + 1)
    before, again = (rng.normal(centre, 0.2, (n, 4)) for _ in range(2))
    return Looks(space="by hand", before=before, after=before + moved, again=again)


def kept(before, after, n=2000, centre=0.0, moved=0.0):
    return Kept(
        looks=looks(centre, moved),
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
        "kept": (kept(1800, 1800), kept(1900, 1899, centre=2)),
        "plan": "sha256:" + "0" * 64,
        "scale": "made by hand",
    }
    return StyleEvidence(**{**plain, **changes})


def with_arms(**changes):
    found = evidence()
    return replace(found, arms={**found.arms, **changes})


def asked(check, found, guarantee=Guarantee.EMPIRICAL, attempt=1):
    return check().run(CheckJob(limits=Limits(), guarantee=guarantee, seed=1, styles=found, attempt=attempt))


def test_a_removal_that_no_attack_undoes_passes_and_says_where_it_was_measured():
    found = asked(Style, evidence())
    assert found.verdict is Verdict.PASS
    assert found.reason.startswith("INDISTINGUISHABLE-FROM-CONTROL")
    assert (found.estimate, found.original, found.reference) == (0.0, pytest.approx(0.95), 0.0)
    assert found.n == 5 * N * S
    assert found.details["scale"] == "made by hand"
    assert {condition.name for condition in found.conditions} >= {"direct", "textual_inversion"}


def test_how_well_each_judge_sees_is_in_the_finding_with_its_n():
    sights = (
        JudgeSight(judge="cnn", held_out=(5360, 5400), own=(19, 20), others=(3, 400)),
        JudgeSight(judge="mine", held_out=None, own=(60, 60), others=(0, 0)),
    )
    found = asked(Style, evidence(judges=sights)).details
    assert {name: text for name, text in found.items() if name.startswith("judge.")} == {
        "judge.cnn.accuracy": decimal(5360 / 5400),
        "judge.cnn.accuracy.n": "5400",
        "judge.cnn.recognises": "0.95",
        "judge.cnn.recognises.n": "20",
        "judge.cnn.taken_for_it": "0.0075",
        "judge.cnn.taken_for_it.n": "400",
        "judge.mine.accuracy": "not measured",
        "judge.mine.accuracy.n": "0",
        "judge.mine.recognises": "1",
        "judge.mine.recognises.n": "60",
        "judge.mine.taken_for_it": "not measured",
        "judge.mine.taken_for_it.n": "0",
    }


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
    found = asked(Collateral, evidence(kept=(replace(kept(1800, 1800), style="x"), kept(1900, 1500, centre=2))))
    assert found.verdict is Verdict.FAIL
    assert "worst retained style" in found.reason


def test_noise_collapse_fails_though_the_style_is_gone():
    """Everything drawn became nothing: prompts and attacks are silent, and so are the neighbours and the objects."""
    nothing = replace(kept(1800, 0), seen_after=np.arange(2000) < 400)
    found = asked(Collateral, evidence(kept=(nothing,)))
    assert asked(Style, evidence()).verdict is Verdict.PASS
    assert found.verdict is Verdict.FAIL
    assert "objects" in found.reason


@pytest.mark.parametrize("none", [{"dead": (N,) * S}, {"copies": (N,) * S}])
def test_noise_collapse_fails_by_the_artists_own_pictures_too(none):
    """Not only because neighbours fall: what came in the style's stead are no pictures."""
    collapsed = replace(arms(QUIET), candidate=replace(counted(QUIET), **none))
    found = asked(Style, with_arms(direct=collapsed))
    assert found.verdict is Verdict.FAIL
    assert "says nothing of the style" in found.reason
    assert conditions(found)["pictures of direct"].verdict is Verdict.FAIL
    assert asked(Style, with_arms(direct=collapsed), Guarantee.EXACT).verdict is Verdict.INCONCLUSIVE


def test_too_few_pictures_of_neighbours_grant_nothing():
    few = Kept(
        style="x",
        before=np.ones(6, bool),
        after=np.ones(6, bool),
        seen_before=np.ones(6, bool),
        seen_after=np.ones(6, bool),
    )
    assert asked(Collateral, evidence(kept=(few,))).verdict is Verdict.INCONCLUSIVE


def conditions(found):
    return {condition.name: condition for condition in found.conditions}


MOVED = "how far pictures moved, of the distance between two artists"


def test_the_figures_are_in_the_finding_with_whose_features_they_are():
    found = asked(Collateral, evidence())
    moved, both = conditions(found)[MOVED], conditions(found)["style and object as asked"]
    assert (moved.verdict, moved.estimate, moved.limit) == (Verdict.PASS, pytest.approx(0, abs=1e-9), 0.02)
    assert "seeds alone" in moved.note
    assert both.verdict is Verdict.PASS
    assert found.details["kid.space"] == "by hand; not Inception's, so not comparable with a published KID"
    assert found.details["kid.pictures"] == "400 a model, in 20 blocks"
    assert float(found.details["frechet.seeds"]) > 0
    assert float(found.details["asked.before"]) == pytest.approx(0.75)


@pytest.mark.parametrize("changes", [{}, {"kept": ()}, {"arms": {}, "kept": (), "unread": "nobody said how"}])
def test_what_an_eraser_predicted_is_in_the_finding_as_decimals_and_decides_nothing(changes):
    figures = {"condition": 12.5, "mean_shift": 0.03125, "largest_shift_of_the_preserved": float("inf")}
    found = asked(Collateral, evidence(**changes, figures=figures))
    assert {name: text for name, text in found.details.items() if name.startswith("before_sampling.")} == {
        "before_sampling.condition": "12.5",
        "before_sampling.mean_shift": "0.03125",
        "before_sampling.largest_shift_of_the_preserved": "not finite",
    }
    assert found.verdict is asked(Collateral, evidence(**changes)).verdict


def test_an_edit_that_moves_everybodys_pictures_fails_though_every_judge_still_sees_the_styles():
    found = asked(Collateral, evidence(kept=(kept(1800, 1800, moved=2), kept(1900, 1900, centre=2, moved=2))))
    assert found.verdict is Verdict.FAIL
    assert found.reason.endswith(f"beyond its limit: {MOVED}")


def test_pictures_that_show_the_style_or_the_object_and_no_longer_both_fail():
    half = np.arange(2000) < 1000
    parted = replace(kept(1000, 1000), seen_before=half, seen_after=~half)
    found = asked(Collateral, evidence(kept=(parted, kept(1900, 1900, centre=2))))
    assert found.verdict is Verdict.FAIL
    assert [c.name for c in found.conditions if c.verdict is not Verdict.PASS] == ["style and object as asked"]


@pytest.mark.parametrize(
    ("blind", "why"),
    [
        ((replace(kept(1800, 1800), looks=None), kept(1900, 1900, centre=2)), "not measured"),
        ((kept(1800, 1800),), "not measured"),
        ((kept(1800, 1800), kept(1900, 1900)), "no further apart"),
    ],
)
def test_where_nobody_measures_how_far_pictures_moved_an_edit_is_granted_nothing(blind, why):
    found = asked(Collateral, evidence(kept=blind))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert why in conditions(found)[MOVED].note


def test_a_loss_that_was_seen_and_not_shown_is_inconclusive():
    """Three of forty pictures fewer: more than is allowed, and no proof that it is."""
    few = Kept(
        style="x",
        before=np.ones(40, bool),
        after=np.arange(40) >= 3,
        seen_before=np.ones(40, bool),
        seen_after=np.ones(40, bool),
        looks=looks(0, n=40),
    )
    found = asked(Collateral, evidence(kept=(few, replace(few, style="y", after=few.before, looks=looks(2, n=40)))))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert conditions(found)["mean of retained styles"].verdict is Verdict.INCONCLUSIVE


# ----------------------------------------------------------------------------------------------- many edits of one subject

ATTEMPTS = range(1, 5)
"""As many as a policy allows."""


def most_that_pass(attempt):
    """Pictures in the style, of all that were asked for by name, up to which the prompt passes; 5 % are allowed."""
    for hits in range(N * S):
        asked_by_name = arms([hits // S + (run < hits % S) for run in range(S)])
        found = asked(Style, replace(with_arms(direct=asked_by_name), mistakes=0.05), attempt=attempt)
        if conditions(found)["direct"].verdict is not Verdict.PASS:
            return hits - 1
    raise AssertionError("everything passes")


def test_attack_trying_edits_until_one_passes_gets_one_error_for_all_of_them():
    """Each edit draws the style exactly as often as is allowed: together they pass in one of twenty cases at most. At a fixed
    95 %, whoever may try four times has four chances."""
    chances = [stats.binom.cdf(most_that_pass(attempt), N * S, 0.05) for attempt in ATTEMPTS]
    assert all(0 < chance <= 0.05 * 2.0**-attempt for attempt, chance in zip(ATTEMPTS, chances, strict=True))
    assert sum(chances) <= 0.05
    fixed = max(h for h in range(N * S) if stats.beta.ppf(0.95, h + 1, N * S - h) <= 0.05)
    assert len(ATTEMPTS) * stats.binom.cdf(fixed, N * S, 0.05) > 0.1


def test_attack_a_later_edit_is_not_passed_by_what_would_have_passed_the_first():
    one_hit = evidence(arms={**evidence().arms, "direct": arms([1, *QUIET[1:]])})
    found = {attempt: asked(Style, one_hit, attempt=attempt) for attempt in ATTEMPTS}
    assert [one.verdict for one in found.values()] == [Verdict.PASS] * 2 + [Verdict.INCONCLUSIVE] * 2
    assert (found[1].details["level_pass"], found[1].details["level_fail"]) == ("0.975", "0.95")
    assert "attempt 3: passing at 99.375 %, failing at 95 %" in found[3].reason


def test_attack_neighbours_are_not_judged_afresh_with_every_edit():
    """A loss of 4.25 % of 4,000 pictures: within 5 % at the first attempt, and no longer shown to be at the fourth."""
    lost = evidence(kept=(kept(1800, 1715), kept(1900, 1815, centre=2)))
    found = [asked(Collateral, lost, attempt=attempt) for attempt in ATTEMPTS]
    assert [found[0].verdict, found[3].verdict] == [Verdict.PASS, Verdict.INCONCLUSIVE]
    assert found[3].details["level_pass"] == "0.996875"
    assert "attempt 4: passing at 99.6875 %, failing at 95 %" in found[3].reason
    limits = [float(one.details["lost.at_most"]) for one in found]
    assert limits == sorted(limits)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_fails_fails_alike_at_every_attempt(attempt):
    """All three are beyond what is allowed at 95 % and not at 99.7 %: nobody gets out of a failure by having tried before."""
    drawn = with_arms(direct=arms([1] * 13 + [0] * (S - 13)))
    undone = with_arms(textual_inversion=arms([7] * S))
    harmed = evidence(kept=(kept(1800, 1684), kept(1900, 1784, centre=2)))
    assert asked(Style, drawn, attempt=attempt).verdict is Verdict.FAIL
    assert asked(Style, undone, attempt=attempt).verdict is Verdict.FAIL
    assert asked(Collateral, harmed, attempt=attempt).verdict is Verdict.FAIL


# --------------------------------------------------------------------------------------------------------- several artists


def judged_together(*others, attempt=1):
    found = replace(evidence(), further=tuple(evidence(arms=made) for made in others))
    return Style().run(CheckJob(limits=Limits(), guarantee=Guarantee.EMPIRICAL, seed=1, styles=found, attempt=attempt))


def hits(direct):
    """All of one artist's counts, with so many of 640 pictures in the style by name."""
    mine = dict(evidence().arms)
    return {**mine, "direct": arms([1] * direct + [0] * (S - direct))}


def test_of_several_artists_all_have_to_pass():
    assert judged_together(hits(0)).verdict is Verdict.PASS
    assert judged_together(hits(0), {**hits(0), "direct": arms(LEARNED)}).verdict is Verdict.FAIL
    assert judged_together({**hits(0), "soft_prompt/2": arms([10] * S)}).verdict is not Verdict.PASS


def test_attack_several_requests_at_once_do_not_buy_a_kinder_level():
    """1 of 640 pictures by name: at most .87 % at 97.5 % and 1.04 % at the level that each of three artists has."""
    one, three = limit_level(1), limit_level(1, artists=3)
    assert stats.beta.ppf(one, 2, 639) < 0.01 < stats.beta.ppf(three, 2, 639)
    assert asked_alone(hits(1)).verdict is Verdict.PASS
    together = judged_together(hits(1), hits(0))
    assert together.verdict is Verdict.INCONCLUSIVE
    assert together.reason.startswith("3 artists, each judged by a battery of their own; artist 2: ")
    assert float(together.details["level_pass"]) == three
    names = [row.name for row in together.conditions]
    assert len(set(names)) == len(names)
    assert {name.split(":")[0] for name in names} == {"artist 1", "artist 2", "artist 3"}


def asked_alone(made):
    found = evidence(arms=made)
    return Style().run(CheckJob(limits=Limits(), guarantee=Guarantee.EMPIRICAL, seed=1, styles=found))
