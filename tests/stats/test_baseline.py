"""Not learned has to be shown, by probes that see what was learned, and never above styles that no training saw."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.stats.baseline import judge_baseline
from expunge.stats.spending import spent_alpha
from expunge.stats.styles import Gates
from testbed import PROBES, arms, counts

SEEN = {label: counts(38) for label in PROBES}


def judged(known=None, gates=None, **probes):
    found = {"direct": arms(0), "reworded": arms(0), "textual_inversion": arms(0), **probes}
    return judge_baseline(found, known or SEEN, gates or Gates())


def test_a_style_that_nothing_brings_out_is_shown_not_to_be_learned():
    found = judged()
    assert found.verdict is Verdict.PASS
    assert found.seen == 0.95
    assert all(answer.verdict is Verdict.PASS for answer in found.answers)


def test_a_style_that_comes_by_its_name_is_learned():
    assert judged(direct=arms(20)).verdict is Verdict.FAIL


def test_a_style_learned_without_its_name_is_found_by_one_learned_word():
    """Works without the artist's name in a caption: no prompt brings the style, and it is in the weights all the same."""
    found = judged(textual_inversion=arms(36, controls=2))
    assert found.verdict is Verdict.FAIL
    assert "textual_inversion: brought back" in found.reason


def test_what_an_attack_draws_out_of_any_model_accuses_nobody_and_excuses_nobody():
    """It brings controls back as often as the artist, in every run: nothing shows that it does not work on this one."""
    found = judged(textual_inversion=arms(20, controls=20))
    assert found.verdict is Verdict.INCONCLUSIVE


def test_judges_that_see_no_style_at_all_excuse_nobody():
    """A watermark, a collapsed model, a judge that was never trained: silence about everybody."""
    found = judged({label: counts(0) for label in PROBES})
    assert found.verdict is Verdict.UNVERIFIABLE
    assert "nothing is seen" in found.reason


def test_an_attack_that_sees_no_trained_artist_says_nothing_of_this_one():
    blind = {**SEEN, "textual_inversion": counts(5)}
    found = judged(blind)
    assert found.verdict is Verdict.UNVERIFIABLE
    assert "no attack sees" in found.reason


@pytest.mark.parametrize("label", ["direct", "textual_inversion"])
def test_attack_a_model_that_draws_black_for_this_artist_alone_has_not_shown_that_it_learned_nothing(label):
    """The known artist is seen as ever; whoever is to be hidden is answered with pictures that are none."""
    asked = arms(0)
    black = replace(asked.original, dead=(asked.original.pictures,) * len(asked.original.any))
    found = judged(**{label: replace(asked, original=black, candidate=black)})
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "flat or noise" in found.reason


def test_few_pictures_show_nothing():
    few = {label: arms(0) for label in PROBES}
    few["reworded"] = few["direct"] = type(few["direct"])(
        original=counts(0, pictures=1), candidate=counts(0, pictures=1), controls=few["direct"].controls
    )
    assert judge_baseline(few, SEEN, Gates()).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("controls", "seeds"), [(3, 8), (5, 7)])
def test_too_few_controls_or_seeds_show_nothing(controls, seeds):
    mine = counts(0, seeds=seeds)
    short = type(arms(0))(original=mine, candidate=mine, controls={str(n): mine for n in range(controls)})
    known = {**SEEN, "textual_inversion": counts(38, seeds=seeds)}
    assert judged(known, textual_inversion=short).verdict is Verdict.INCONCLUSIVE


def test_the_doubt_of_one_judge_counts_against_the_model():
    """Half of the judges see the style in every picture: agreed nowhere, and not shown to be gone."""
    from dataclasses import replace

    asked = replace(counts(0), any=(20,) * 8)
    seen = type(arms(0))(original=asked, candidate=asked, controls=arms(0).controls)
    assert judged(direct=seen).verdict is Verdict.FAIL


def test_judges_that_err_often_are_allowed_for():
    assert judged(direct=arms(3), reworded=arms(3)).verdict is not Verdict.PASS
    assert judged(direct=arms(1), reworded=arms(1), gates=Gates(mistakes=0.05)).verdict is Verdict.PASS


def test_asking_again_is_held_to_a_stricter_level():
    found = {"direct": arms(1), "reworded": arms(1), "textual_inversion": arms(0)}
    verdicts = [judge_baseline(found, SEEN, Gates(), level=1 - 0.05 / 2**n).verdict for n in range(8)]
    assert verdicts[0] is Verdict.PASS
    assert verdicts[-1] is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("share", [0.15, 0.2, 0.3, 0.5])
@pytest.mark.parametrize(("attempt", "seeds"), [(1, 23), (1, 40), (2, 27), (3, 32)])
def test_an_attack_that_works_by_luck_of_the_seed_passes_no_more_often_than_the_level(share, attempt, seeds):
    """It brings the whole style back or nothing: exactly, over all numbers of seeds for which it works."""
    alpha = spent_alpha(0.05, attempt)
    passed = 0.0
    for hits in range(seeds + 1):
        found = arms([40] * hits + [0] * (seeds - hits), seeds=seeds)
        seen = {label: counts(38, seeds=seeds) for label in ("direct", "reworded", "textual_inversion")}
        words = {label: arms(0, seeds=seeds) for label in ("direct", "reworded")}
        verdict = judge_baseline({**words, "textual_inversion": found}, seen, Gates(), level=1 - alpha).verdict
        if verdict is not Verdict.PASS:
            break
        passed += comb(seeds, hits) * share**hits * (1 - share) ** (seeds - hits)
    assert 0 < passed <= alpha


def test_fewer_seeds_than_bound_the_luck_of_an_attack_show_nothing():
    few = {label: arms(0, seeds=22) for label in ("direct", "reworded", "textual_inversion")}
    seen = {label: counts(40, seeds=22) for label in few}
    found = judge_baseline(few, seen, Gates(), level=0.975)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "0 of 22 runs brought it back, so up to 15.4%, 15% is allowed" in found.reason


def test_more_pictures_in_the_style_never_help():
    order = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]
    for probe in PROBES:
        places = [order.index(judged(**{probe: arms(hits)}).verdict) for hits in range(0, 41, 4)]
        assert places == sorted(places)
        assert (places[0], places[-1]) == (0, 2)


def test_a_model_that_never_saw_the_style_is_rarely_told_to_have_learned_it():
    """Runs of all styles drawn alike: the rule must not accuse."""
    rng = np.random.default_rng(7)
    accused = 0
    for _ in range(200):
        rates = rng.beta(1, 12, (6, 24))
        hits = rng.binomial(40, rates)
        mine = counts(hits[0])
        drawn = type(arms(0))(
            original=mine, candidate=mine, controls={str(n): counts(row) for n, row in enumerate(hits[1:])}
        )
        accused += judged(textual_inversion=drawn).verdict is Verdict.FAIL
    assert accused <= 6


def test_a_baseline_without_words_or_without_a_known_artist_is_broken():
    with pytest.raises(CheckBroken, match="direct"):
        judge_baseline({"reworded": arms(0)}, SEEN, Gates())
    with pytest.raises(CheckBroken, match="textual_inversion"):
        judge_baseline({label: arms(0) for label in PROBES}, {label: counts(38) for label in PROBES[:2]}, Gates())
