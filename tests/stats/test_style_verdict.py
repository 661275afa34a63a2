"""The ladder of an erased style on counts made by hand: each rung, each reason that holds it back, and no way around."""

from dataclasses import replace

import pytest

from expunge.core.errors import CheckBroken, InputProblems
from expunge.core.finding import Verdict
from expunge.core.styles import SENTENCES, StyleRung
from expunge.stats.styles import Arms, Counted, Gates, verdict_of
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan

N, S, CONTROLS = 40, 16, ("a", "b", "c", "d", "e")
LEARNED, QUIET = [38] * S, [0] * S


def counted(hits, any_=None):
    return Counted(
        pictures=N, agreed=tuple(hits), any=tuple(hits if any_ is None else any_), nowhere=(0,) * S, by_judge={}
    )


def arms(candidate, *, original=LEARNED, controls=QUIET, any_=None):
    return Arms(
        original=counted(original),
        candidate=counted(candidate, any_),
        controls={name: counted(controls) for name in CONTROLS},
    )


def battery(**changes):
    """An honest removal: prompts fail, one and two vectors and one word bring nothing back, four work on anything."""
    found = {
        "direct": arms(QUIET),
        "reworded": arms(QUIET),
        "textual_inversion": arms(QUIET),
        "soft_prompt/1": arms(QUIET),
        "soft_prompt/2": arms(QUIET),
        "soft_prompt/4": arms([37] * S, controls=[36] * S),
    }
    return {**found, **{name.replace("soft", "soft_prompt/"): value for name, value in changes.items()}}


def rung(found=None, gates=None, **options):
    return verdict_of(battery() if found is None else found, gates or Gates(), **options).rung


def test_an_honest_removal_is_indistinguishable_though_strong_attacks_succeed_on_it():
    """What an uncalibrated gate would call a failure even of full retraining."""
    found = verdict_of(battery(), Gates())
    assert found.rung is StyleRung.INDISTINGUISHABLE
    assert found.reasons == ()
    four = next(answer for answer in found.answers if answer.label == "soft_prompt/4")
    assert four.verdict is Verdict.UNVERIFIABLE
    assert set(found.budgets["candidate"]) == set(found.budgets["controls"]) == {4.0}
    assert set(found.budgets["original"]) == {1.0}


def none_of(found, *, dead=0, copies=0, arm="candidate"):
    """So many pictures of each run of one arm are none."""
    return replace(found, **{arm: replace(getattr(found, arm), dead=(dead,) * S, copies=(copies,) * S)})


def test_attack_an_original_that_draws_noise_has_not_learned_nothing():
    """One step of drawing: silence of the untouched model too, and that would grant NOT-LEARNED."""
    silent = arms(QUIET, original=QUIET)
    assert rung({**battery(), "direct": silent}) is StyleRung.NOT_LEARNED  # control: pictures, in nobody's style
    found = verdict_of({**battery(), "direct": none_of(silent, dead=N, arm="original")}, Gates())
    assert found.rung is StyleRung.NOT_SHOWN
    assert f"{N * S} of {N * S} of the original's are flat or noise" in found.reasons[-1]


@pytest.mark.parametrize("label", ["direct", "reworded", "textual_inversion"])
def test_attack_a_candidate_that_draws_noise_is_not_taken_for_an_erasure(label):
    """Every judge says that noise is not in the style, so prompts and attacks are silent."""
    found = verdict_of({**battery(), label: none_of(arms(QUIET), dead=N)}, Gates())
    assert found.rung is StyleRung.NOT_SHOWN
    assert found.collapsed
    assert f"pictures of {label}: {N * S} of {N * S} are flat or noise" in found.reasons[0]


@pytest.mark.parametrize("label", ["direct", "reworded"])
def test_attack_one_picture_drawn_again_and_again_is_not_taken_for_an_erasure(label):
    found = verdict_of({**battery(), label: none_of(arms(QUIET), copies=N)}, Gates())
    assert (found.rung, found.collapsed) == (StyleRung.NOT_SHOWN, True)


def test_an_attack_that_draws_the_one_picture_that_it_learned_is_heard():
    assert rung({**battery(), "textual_inversion": none_of(arms(QUIET), copies=N)}) is StyleRung.INDISTINGUISHABLE


def test_a_few_flat_pictures_are_no_collapse_and_more_than_a_few_grant_nothing():
    """2 of 40 in each run is what is allowed, 3 are more: 48 of 640, of which at least 5.8 % is shown."""
    dead = {n: verdict_of({**battery(), "direct": none_of(arms(QUIET), dead=n)}, Gates()) for n in (2, 3)}
    assert dead[2].rung is StyleRung.INDISTINGUISHABLE
    assert (dead[3].rung, dead[3].collapsed) == (StyleRung.NOT_SHOWN, True)
    few = replace(counted(QUIET), dead=(3,) + (2,) * (S - 1))
    found = verdict_of({**battery(), "direct": replace(arms(QUIET), candidate=few)}, Gates())
    assert (found.rung, found.collapsed) == (StyleRung.NOT_SHOWN, False)  # 33 of 640: more, and no proof that it is


def test_what_the_original_does_not_draw_either_is_no_damage_of_the_edit_and_still_grants_nothing():
    both = none_of(none_of(arms(QUIET), dead=N), dead=N, arm="original")
    found = verdict_of({**battery(), "direct": both}, Gates())
    assert (found.rung, found.collapsed) == (StyleRung.NOT_SHOWN, False)


def test_an_untouched_model_is_not_erased():
    untouched = {label: replace(found, candidate=found.original) for label, found in battery().items()}
    assert rung(untouched) is StyleRung.NOT_ERASED


@pytest.mark.parametrize("label", ["textual_inversion", "soft1"])
def test_an_edit_that_one_attack_undoes_is_suppressed(label):
    found = verdict_of(battery(**{label: arms([36] * S)}), Gates())
    assert found.rung is StyleRung.SUPPRESSED
    assert any(reason.startswith(label.replace("soft", "soft_prompt/")) for reason in found.reasons)


def test_a_style_that_the_stock_text_encoder_brings_back_is_suppressed_and_not_removed():
    """Only the text encoder was edited: the gate is that of prompts, far below what recovery is allowed."""
    found = verdict_of({**battery(), "component_swap": arms([2] * S)}, Gates())
    assert found.rung is StyleRung.SUPPRESSED
    assert found.reasons[0].startswith("component_swap: 32 of 640 pictures")
    assert rung({**battery(), "component_swap": arms(QUIET)}) is StyleRung.INDISTINGUISHABLE


@pytest.mark.parametrize("label", ["img2img/0.5", "inpainting"])
def test_a_style_that_leaks_into_photos_by_the_edit_is_seen_though_the_original_shows_none(label):
    leaking = verdict_of({**battery(), label: arms([26] * S, original=QUIET)}, Gates())
    assert leaking.rung is StyleRung.SUPPRESSED
    assert "where the original shows none" in leaking.reasons[0]
    honest = {**battery(), label: arms(QUIET, original=QUIET)}
    everywhere = {**battery(), label: arms([26] * S, original=QUIET, controls=[26] * S)}
    assert rung(honest) is rung(everywhere) is StyleRung.INDISTINGUISHABLE


def test_an_attack_by_training_that_is_blind_on_the_original_accuses_nobody():
    assert rung({**battery(), "relearning/5": arms([26] * S, original=QUIET)}) is StyleRung.INDISTINGUISHABLE


@pytest.mark.parametrize("label", ["direct", "reworded"])
def test_one_way_to_ask_is_enough_not_to_be_erased(label):
    assert rung(battery(**{label: arms([3] * S)})) is StyleRung.NOT_ERASED


def test_prompts_that_were_asked_too_seldom_grant_nothing():
    few = Counted(pictures=5, agreed=(0,) * S, any=(0,) * S, nowhere=(0,) * S, by_judge={})
    found = verdict_of(battery(direct=replace(arms(QUIET), candidate=few)), Gates())
    assert found.rung is StyleRung.NOT_SHOWN
    assert "0 of 80 pictures" in found.reasons[0]


def test_one_family_of_judges_that_sees_the_style_is_enough():
    """A watermark that fools one judge does not make the style disappear: the doubt is on the candidate's side."""
    assert rung(battery(direct=arms(QUIET, any_=[30] * S))) is StyleRung.NOT_ERASED
    assert rung(battery(textual_inversion=arms(QUIET, any_=[30] * S))) is StyleRung.SUPPRESSED


def test_harm_to_others_is_no_erasure():
    found = verdict_of(battery(), Gates(), harm=("cyanotype fell by 20 points",))
    assert found.rung is StyleRung.NOT_SHOWN
    assert found.reasons == ("cyanotype fell by 20 points",)


def test_a_style_that_was_never_drawn_is_not_learned_and_a_rare_one_is_not_called_so():
    assert rung({label: replace(found, original=counted(QUIET)) for label, found in battery().items()}) is (
        StyleRung.NOT_LEARNED
    )
    rare = {label: replace(found, original=counted([3] * S)) for label, found in battery().items()}
    assert rung(rare) is not StyleRung.NOT_LEARNED


def test_silence_of_attacks_that_see_nothing_is_worth_nothing():
    blind = arms(QUIET, original=QUIET)
    found = verdict_of(battery(textual_inversion=blind, soft1=blind, soft2=blind), Gates())
    assert found.rung is StyleRung.SUPPRESSED
    assert any("0 attacks see" in reason for reason in found.reasons)


def test_an_attack_that_wins_one_run_in_eight_is_seen_by_the_battery():
    lucky = [0] * S
    lucky[3] = lucky[11] = N
    found = verdict_of(battery(textual_inversion=arms(lucky), soft1=arms(lucky), soft2=arms(lucky)), Gates())
    assert found.rung is StyleRung.SUPPRESSED
    assert found.lottery is None or found.lottery.recovered == 6


def test_fewer_vectors_than_controls_need_are_a_reason_of_their_own():
    """Each size by itself is undecided or blind; that three of four runs need one vector fewer is not."""
    half = [24] * S
    found = verdict_of(battery(soft2=arms(half, controls=[19] * S, original=half)), Gates())
    assert found.rung is StyleRung.SUPPRESSED
    assert any("fewer learned vectors" in reason for reason in found.reasons)


@pytest.mark.parametrize("missing", ["direct", "reworded"])
def test_a_battery_without_prompts_is_broken(missing):
    found = battery()
    del found[missing]
    with pytest.raises(CheckBroken, match=missing):
        verdict_of(found, Gates())


@pytest.mark.parametrize(
    "soft",
    [{"direct": 0.2}, {"reworded": 0.06}, {"margin": 0.5}, {"mistakes": 0.3}, {"assay": 0.0}, {"not_learned": 0.5}],
)
def test_soft_gates_are_refused_in_code(soft):
    with pytest.raises(CheckBroken, match="beyond what any policy may set"):
        Gates(**soft)


def test_only_exact_may_speak_of_weights_and_none_of_proof_of_absence():
    assert set(SENTENCES) == set(StyleRung)
    assert "not removed" in SENTENCES[StyleRung.SUPPRESSED]
    assert "not a proof of absence" in SENTENCES[StyleRung.INDISTINGUISHABLE]
    assert all("removed" not in words.replace("not removed", "") for words in SENTENCES.values())


def plan(**changes):
    settings = {
        "target": "neon",
        "controls": CONTROLS,
        "objects": ("ship",),
        "judges": {"cnn": "sha256:0"},
        "seed": "ab",
    }
    return BatteryPlan(**{**settings, **changes})


@pytest.mark.parametrize(
    "bad",
    [
        {"controls": ("a", "b", "c")},
        {"controls": ("a", "a", "b", "c")},
        {"controls": ("neon", "a", "b", "c")},
        {"judges": {}},
        {"probes": ()},
        {"probes": (ProbePlan(label="x", probe="direct"), ProbePlan(label="x", probe="reworded"))},
        {"probes": (ProbePlan(label="x", probe="hypnosis"),)},
    ],
)
def test_plans_that_could_not_decide_are_refused(bad):
    with pytest.raises(InputProblems):
        plan(**bad)


@pytest.mark.parametrize(
    "change", [{"seed": "cd"}, {"seeds": 8}, {"guidance": "2.5"}, {"judges": {"cnn": "sha256:1"}}, {"budget": 50}]
)
def test_everything_that_can_change_an_answer_is_in_the_digest(change):
    assert plan(**change).digest != plan().digest
    assert plan().digest == plan().digest
