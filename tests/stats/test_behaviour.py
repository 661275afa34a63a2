import dataclasses

import numpy as np
import pytest

from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken
from expunge.core.finding import Verdict
from expunge.core.protocols import Measured, Spike
from expunge.stats.behaviour import FAMILY, fail_level, judge
from expunge.stats.trait import Inquiry, Role, Trait, label_margins, mean_of
from oracle.naive import at_most
from oracle.probes import condition, job, margin, measured, models

PASS, FAIL, INCONCLUSIVE, UNVERIFIABLE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE


def inquiry(*traits):
    return Inquiry(check="x", question="Gone?", traits=traits or (Trait(name="a", value=mean_of("a")),))


def arms(seed=0, *, pairs=48, gap=5.0, unlearned=0.0, **options):
    x = unlearned if unlearned in ("no-op", None) else {"a": unlearned}
    return measured(np.random.default_rng(seed), pairs, {"a": 0.0}, {"a": gap}, x, **options)


def judged(found, *, traits=(), **limits):
    return judge(inquiry(*traits), job("x", found, **limits))


def test_an_honest_retrain_passes_with_its_controls_shown():
    found = judged(arms())
    assert found.verdict is PASS, found.reason
    assert (found.original, found.n, found.limit) == (1.0, 48, 0.2)
    assert -0.2 < found.interval.low < found.estimate < found.interval.high < 0.2
    assert "on average over retrainings" in found.reason
    for name in ("assay sensitivity", "the control is caught", "placebo control", "variance ratio X/O"):
        assert condition(found, f"a: {name}").verdict is PASS


def test_a_no_op_and_half_a_removal_fail():
    assert judged(arms(unlearned="no-op")).verdict is FAIL
    assert judged(arms(unlearned=2.5)).verdict is FAIL


def test_over_unlearning_fails():
    found = judged(arms(unlearned=-3.0), traits=[Trait(name="a", value=mean_of("a"), less="pushed away")])
    assert found.verdict is FAIL
    assert "pushed away" in found.reason


def test_a_blind_probe_is_unverifiable_whatever_the_candidate_does():
    for unlearned in (0.0, "no-op", None):
        found = judged(arms(gap=0.05, pairs=40, unlearned=unlearned, seed=3))
        assert found.verdict is UNVERIFIABLE, found.reason
        assert "largest bank is 512" in found.reason
        kept = judged(arms(gap=0.05, pairs=40, unlearned=unlearned, seed=3), canary_power=0.5)
        assert kept.verdict is INCONCLUSIVE


def test_few_pairs_are_inconclusive():
    assert judged(arms(pairs=5)).verdict is INCONCLUSIVE
    assert "6 complement pairs" in judged(arms(pairs=5)).reason
    found = judged(arms(pairs=8, gap=2.0))
    assert found.verdict is INCONCLUSIVE
    assert "bank models" in found.reason


def test_without_an_x_arm_it_never_passes():
    found = judged(arms(unlearned=None))
    assert found.verdict is INCONCLUSIVE
    assert found.reason.startswith("a: no X arm was run")
    assert found.estimate is None


def test_swapped_arms_and_constants_never_pass():
    honest = arms()
    swapped = dataclasses.replace(honest, out=honest.into, into=honest.out)
    assert judged(swapped).verdict is not PASS
    flat = [{"a": np.zeros(6)}] * 20
    assert judged(Measured(out=flat, into=flat, unlearned=flat)).verdict is INCONCLUSIVE
    clamp = dataclasses.replace(honest, unlearned=flat[:1] * 48)
    found = judged(clamp)
    assert found.verdict is INCONCLUSIVE
    assert "variance ratio" in found.reason


def test_malformed_measurements_break_the_check():
    good = arms(pairs=8)
    bad = [dict(model) for model in good.into]
    bad[3] = {"a": bad[3]["a"] * np.nan}
    short = [dict(model) for model in good.into]
    short[2] = {"a": short[2]["a"][:-1]}
    other = [{"b": model["a"]} for model in good.into]
    twice = [*good.into[:-1], good.into[0]]
    for into in (bad, short, other, good.into[:-1], twice):
        with pytest.raises(CheckBroken):
            judged(dataclasses.replace(good, into=into))
    for unlearned in (bad, good.unlearned[:-1], other):
        with pytest.raises(CheckBroken):
            judged(dataclasses.replace(good, unlearned=unlearned))
    with pytest.raises(CheckBroken):
        judged(dataclasses.replace(good, candidate={"a": np.full(6, np.inf)}))
    with pytest.raises(CheckBroken, match="same model twice"):
        judged(dataclasses.replace(good, out_anchors=[good.out[0]] * 2 + list(good.out[1:])))


def test_nothing_measured_says_why():
    assert judged(None).verdict is INCONCLUSIVE
    assert "no IN and OUT" in judged(None).reason
    assert "lacks" in judged(None, unable={"checks/x": "the family lacks features"}).reason
    assert "halves" in judged(None, bank_refusal="its halves split the block").reason
    assert judged(Measured(out=(), into=(), unlearned=None)).verdict is INCONCLUSIVE


def served(value, *, anchors=24, seed=1, **options):
    rng = np.random.default_rng(seed)
    file = models(rng, 1, {"a": value})[0]
    return dataclasses.replace(
        arms(unlearned=None, **options), candidate=file, original=file, out_anchors=models(rng, anchors, {"a": 0.0})
    )


def test_a_served_file_beyond_every_anchor_fails_on_both_sides():
    for value in (8.0, -9.0):
        found = judged(served(value))
        assert found.verdict is FAIL
        assert "beyond every OUT anchor" in found.reason
        assert condition(found, "a: the file among OUT anchors").verdict is FAIL
    assert judged(dataclasses.replace(served(8.0), out=(), into=())).verdict is FAIL


def test_a_rank_passes_nothing_and_needs_19_anchors():
    assert judged(served(0.0)).verdict is INCONCLUSIVE
    found = judged(served(8.0, anchors=18))
    assert found.verdict is not FAIL
    assert "19 needed" in condition(found, "a: the file among OUT anchors").note


def test_an_honest_file_is_rarely_failed(monkeypatch):
    """The alpha of failing is shared among the behavioural checks: .025/7 a file here."""
    monkeypatch.setattr("expunge.stats.behaviour.detectable_shift", lambda *_, **__: 1.0)  # slow, and not in question
    rng = np.random.default_rng(5)
    fails = 0
    for _ in range(200):
        drawn = models(rng, 25, {"a": 0.0}, size=1)
        found = Measured(out=(), into=(), unlearned=None, candidate=drawn[0], out_anchors=drawn[1:])
        fails += judged(found).verdict is FAIL
    assert at_most(fails, 200, 0.025 / FAMILY)


def test_a_retry_cannot_hide_a_residue_and_asks_more_of_a_pass():
    residue, honest = arms(unlearned="no-op"), arms(pairs=24)
    assert [judged(residue, attempt=k).verdict for k in (1, 2, 4)] == [FAIL] * 3
    levels = [judged(honest, attempt=k).interval.level for k in (1, 4)]
    assert levels[0] < levels[1]
    two = inquiry(Trait(name="a", value=mean_of("a")), Trait(name="b", value=mean_of("a"), role=Role.REPORTED))
    assert fail_level(two, job("x", attempt=4)) == 0.025 / FAMILY


def test_roles():
    """A supporting trait can fail the check and cannot pass it; a reported one does nothing."""

    def traits(role):
        return [Trait(name="a", value=mean_of("a")), Trait(name="b", value=lambda m: float(m["b"][0]), role=role)]

    rng = np.random.default_rng(0)
    table = {
        role: measured(rng, 48, {"a": 0.0, "b": 0.0}, {"a": 5.0, "b": 5.0}, {"a": 0.0, "b": 5.0})
        for role in (Role.DECIDES, Role.CAN_FAIL, Role.REPORTED)
    }
    verdicts = {role: judged(found, traits=traits(role)).verdict for role, found in table.items()}
    assert verdicts == {Role.DECIDES: FAIL, Role.CAN_FAIL: FAIL, Role.REPORTED: PASS}
    assert condition(judged(table[Role.REPORTED], traits=traits(Role.REPORTED)), "b").verdict is INCONCLUSIVE
    blind = measured(rng, 48, {"a": 0.0, "b": 0.0}, {"a": 5.0, "b": 0.0}, {"a": 0.0, "b": 0.0})
    assert judged(blind, traits=traits(Role.CAN_FAIL)).verdict is PASS
    assert judged(blind, traits=traits(Role.DECIDES)).verdict is UNVERIFIABLE


def test_a_trait_that_may_be_low_asks_for_the_other_side_only():
    trait = Trait(name="a", value=mean_of("a"), harmless_below=True)
    assert judged(arms(unlearned=-2.0), traits=[trait]).verdict is PASS
    assert judged(arms(unlearned=0.0), traits=[trait]).verdict is PASS
    assert judged(arms(unlearned=3.0), traits=[trait]).verdict is FAIL
    assert judged(arms(unlearned=1.2), traits=[trait]).verdict is not PASS


def test_a_planted_control_takes_the_place_of_in():
    trait = Trait(
        name="a", value=mean_of("a"), control=lambda out, into: float(out["a"].mean() + into["a"].std()) + 6.0
    )
    blind = arms(gap=0.0)
    assert judged(blind, traits=[trait]).verdict is PASS
    assert judged(arms(gap=0.0, unlearned=6.0), traits=[trait]).verdict is FAIL
    assert judged(blind).verdict is UNVERIFIABLE


def spike(dose, models_):
    return Spike(dose=dose, unlearned=None, unlearned_population=None, measured={"checks/x": models_})


def test_a_method_that_blinds_the_probe_does_not_pass():
    rng = np.random.default_rng(4)
    found = arms()
    seen = [spike(1, models(rng, 48, {"a": 1.0})), spike(8, models(rng, 48, {"a": 4.0}))]
    unseen = [spike(8, models(rng, 48, {"a": 0.0}))]
    assert judged(found, guarantee="EMPIRICAL", spikes=tuple(seen)).verdict is PASS
    blinded = judged(found, guarantee="EMPIRICAL", spikes=tuple(unseen))
    assert blinded.verdict is UNVERIFIABLE
    assert "blinded" in blinded.reason
    assert "no spikes" in judged(found, guarantee="EMPIRICAL").reason
    with pytest.raises(CheckBroken):
        judged(found, spikes=(spike(8, models(rng, 47, {"a": 0.0})),))


def test_no_number_of_a_single_model_leaves_the_judgement():
    found = dataclasses.replace(served(0.3), unlearned=arms(pairs=48, seed=9).unlearned)
    finding = judged(found)
    text = canonical(encode(finding)).decode()
    assert {key.removeprefix("a.") for key in finding.details} <= {
        "alpha_fail", "alpha_spent", "served_p", "original_p", "gap", "gap_low", "gap_high", "needed_pairs", "distance",
        "detectable_gap", "p_assay", "placebo_r", "correlation_OC", "r", "r_low", "r_high", "p_residue_excluded",
        "p_over_excluded", "p_residue_shown", "p_over_shown",
    }  # fmt: skip
    for model in (*found.out, *found.into, *found.unlearned, found.candidate, *found.out_anchors):
        assert f"{model['a'].mean():.6g}" not in text
    assert judged(found) == finding


def test_realised_rates_of_the_whole_judgement():
    rng = np.random.default_rng(8)

    def verdicts(unlearned, runs):
        made = [
            measured(rng, 48, {"a": 0.0}, {"a": 5.0}, {"a": unlearned} if unlearned != "no-op" else "no-op", size=1)
            for _ in range(runs)
        ]
        return [judged(found).verdict for found in made]

    margin_, honest = verdicts(1.0, 25), verdicts(0.0, 25)
    assert at_most(margin_.count(PASS), 25, 0.0125)
    assert honest.count(FAIL) == 0
    assert honest.count(PASS) >= 16


def test_label_margins_equal_their_twin_on_logits():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (30, 5)), rng.integers(0, 5, 30)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = [margin(row, label) for row, label in zip(logits, labels, strict=True)]
    np.testing.assert_allclose(label_margins(log_p, labels), expected, atol=1e-12)
    for bad in (labels[:-1], labels + 5, -labels - 1):
        with pytest.raises(CheckBroken):
            label_margins(log_p, bad)
    with pytest.raises(CheckBroken):
        label_margins(log_p[:, :1], np.zeros(30, int))
