"""What a policy asks of a self-test, reason by reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from evidence.story import NOW, digest, selftest
from expunge.core.errors import InputError, InputProblems
from expunge.core.finding import Guarantee
from expunge.core.selftest import (
    GENERATOR_EDITS,
    REQUIRED_PROCESSES,
    USER_METHODS,
    Alarms,
    EditTrial,
    SelftestRule,
    Subject,
    Tally,
    required,
)
from expunge.stats.intervals import share_at_least, share_at_most

MINE = Subject(policy=digest("policy"), bank=None, expunge="0.1.0")


def skipped(name: str, why: str = "not tried: the honest control was refused") -> Tally:
    counts: dict[str, Any] = {"tried": 0, "certified": 0, "undecided": 0, "caught": {}, "lower": None, "upper": None}
    return Tally(saboteur=name, kind="process", expected=(), skipped=why, **counts)


def tally(name: str, certified: int, tried: int) -> Tally:
    lower, upper = share_at_least(certified, tried), share_at_most(certified, tried)
    return Tally(
        saboteur=name,
        kind="method",
        expected=(),
        tried=tried,
        certified=certified,
        undecided=0,
        caught={},
        lower=lower,
        upper=upper,
    )


def alarm(hits: int, trials: int, models: int | None = None) -> Alarms:
    lower, upper = share_at_least(hits, trials), share_at_most(hits, trials)
    return Alarms(
        check="membership",
        source="placebos",
        signals=(),
        trials=trials,
        models=trials if models is None else models,
        alarms=hits,
        lower=lower,
        upper=upper,
    )


def with_tally(name: str, certified: int, tried: int) -> Any:
    report = selftest()
    others = tuple(item for item in report.tallies if item.saboteur != name)
    return replace(report, tallies=(*others, tally(name, certified, tried)))


def without(name: str, why: str = "not tried: the honest control was refused", **changes: Any) -> Any:
    """A good report but for one saboteur that was skipped."""
    report = selftest(**changes)
    others = tuple(item for item in report.tallies if item.saboteur != name)
    return replace(report, tallies=(*others, skipped(name, why)))


def problems(report: Any, rule: SelftestRule | None = None, **other: Any) -> str:
    return "; ".join((rule or SelftestRule()).problems(report, NOW, replace(MINE, **other)))


def test_a_good_report_vouches() -> None:
    assert problems(selftest()) == ""


@pytest.mark.parametrize(
    ("report", "other", "reason"),
    [
        (selftest(made_at=NOW - timedelta(days=91)), {}, "days old"),
        (selftest(made_at=NOW + timedelta(days=1)), {}, "days old"),
        (selftest(), {"policy": digest("softer")}, "another policy"),
        (selftest(), {"bank": digest("bank")}, "another bank"),
        (selftest(), {"expunge": "0.2.0"}, "another expunge"),
        (replace(selftest(), tallies=selftest().tallies[1:]), {}, "not tried: batchnorm_only"),
        (with_tally("defeat_device", 1, 40), {}, "certified: defeat_device"),
        (selftest(alarms=(alarm(5, 20),)), {}, "false alarms: 5 of 20"),
    ],
)
def test_a_report_that_vouches_for_nothing(report: Any, other: dict[str, Any], reason: str) -> None:
    assert reason in problems(report, **other)


def test_one_alarm_of_a_few_demonstrates_no_rate() -> None:
    assert problems(selftest(alarms=(alarm(1, 8),))) == ""


def test_one_of_one_is_exactly_a_twentieth_and_demonstrates_nothing_while_two_of_two_do() -> None:
    once = alarm(1, 1)
    assert once.lower is not None
    assert once.lower > 0.05, "the float says otherwise, and does not decide"
    assert problems(selftest(alarms=(once,))) == ""
    assert problems(selftest(alarms=(once,)), SelftestRule(alarm_rate=0.049)) != ""
    assert "false alarms: 2 of 2" in problems(selftest(alarms=(alarm(2, 2),)))


def test_the_counts_decide_and_not_the_limits_that_a_report_claims() -> None:
    many, none = alarm(5, 20), alarm(0, 59)
    assert "false alarms: 5 of 20" in problems(selftest(alarms=(replace(many, lower=0.0),)))
    assert "false alarms: 5 of 20" in problems(selftest(alarms=(replace(many, lower=None),)))
    assert problems(selftest(alarms=(replace(none, lower=0.9),))) == ""
    rule = SelftestRule(alarm_upper=0.05)
    assert "not bounded" in problems(selftest(alarms=(replace(alarm(0, 58), upper=0.01),)), rule)
    assert problems(selftest(alarms=(replace(none, upper=None),)), rule) == ""
    cheat = replace(tally("one_in_ten", 6, 20), lower=0.0)
    assert cheat.passed
    assert not replace(tally("one_in_ten", 1, 20), lower=0.9).passed


def test_trials_that_share_models_count_no_more_than_the_models() -> None:
    assert problems(selftest(alarms=(alarm(3, 20),))) == ""
    assert "3 of 20" in problems(selftest(alarms=(alarm(3, 20, models=6),)))
    assert "not bounded" in problems(selftest(alarms=(alarm(0, 64, models=30),)), SelftestRule(alarm_upper=0.05))
    assert problems(selftest(alarms=(alarm(0, 64, models=300),)), SelftestRule(alarm_upper=0.05)) == ""


def test_a_stricter_reader_asks_for_enough_placebos() -> None:
    rule = SelftestRule(alarm_upper=0.05)
    assert "not bounded by 0.05" in problems(selftest(alarms=(alarm(0, 58),)), rule)
    assert problems(selftest(alarms=(alarm(0, 59),)), rule) == ""


def test_one_in_ten_may_turn_out_honest_now_and_then_and_no_other_cheat_may() -> None:
    assert not with_tally("one_in_ten", 1, 20).passed
    assert with_tally("one_in_ten", 6, 20).passed == ("one_in_ten",)
    assert with_tally("one_in_ten", 1, 1).passed == ("one_in_ten",), (
        "on the line is over it, where a cheat is concerned"
    )
    assert with_tally("no_op", 1, 1000).passed == ("no_op",)


@pytest.mark.parametrize("kind", ["classifier", "recommender"])
@pytest.mark.parametrize("name", REQUIRED_PROCESSES)
@pytest.mark.parametrize(
    "why", ["not tried: the honest control was refused", "its turn has not come", "not applicable"]
)
def test_a_process_that_was_skipped_vouches_for_nothing_whatever_the_reason(kind: str, name: str, why: str) -> None:
    report = without(name, why, kind=kind)
    assert problems(report, kind=kind) == f"saboteurs that may not be skipped: {name} ({why})"
    assert report.passed == ()
    assert report.sentence == f"nothing is vouched for, these were not tried: {name} ({why})"


@pytest.mark.parametrize("name", ["hidden_copy", "one_item_kept", "stale_weights", "wrong_user"])
def test_a_cheat_that_every_family_of_recommenders_allows_may_not_be_skipped_either(name: str) -> None:
    assert "may not be skipped" in problems(without(name, kind="recommender"), kind="recommender")


def test_a_method_that_does_not_apply_may_be_skipped_with_its_reason() -> None:
    assert problems(without("batchnorm_only", "not applicable: no BatchNorm")) == ""
    assert problems(without("float32_inverse", "no inverse", kind="recommender"), kind="recommender") == ""


def test_a_rate_is_claimed_for_distinct_models_only() -> None:
    assert "too few" in alarm(0, 5).claim
    assert "too few" in alarm(0, 59, models=30).claim
    assert "at most 5" in alarm(0, 59).claim
    assert share_at_most(0, 5) == pytest.approx(0.4507, abs=1e-4)


def test_counts_are_per_saboteur_in_the_only_sentence_about_all() -> None:
    sentence = selftest().sentence
    assert sentence.startswith("no listed cheat passed, n = 19: ")
    assert "defeat_device 0/1" in sentence
    assert "passed: no_op" in with_tally("no_op", 2, 2).sentence


def test_counts_that_do_not_add_up_and_rules_below_the_floor_are_refused() -> None:
    once = tally("no_op", 0, 1)
    with pytest.raises(InputError, match="add up"):
        replace(once, undecided=2)
    with pytest.raises(InputError, match="skipped"):
        replace(once, skipped="why")
    for hits, trials, models in ((2, 1, 1), (-1, 1, 1), (0, 1, 0), (0, 0, 1)):
        with pytest.raises(InputError, match="add up"):
            replace(alarm(0, 1), alarms=hits, trials=trials, models=models)
    with pytest.raises(InputProblems, match="max_age_days"):
        SelftestRule(max_age_days=400)
    with pytest.raises(InputProblems, match="alarm_rate"):
        SelftestRule(alarm_rate=0.5)


# ------------------------------------------------------------------------------------------- edits of text-to-image models

WATERMARK = "style_saboteurs/watermark"
WORKS = selftest(kind="generator")


def on_works(report: Any, guarantee: Guarantee | None) -> str:
    return "; ".join(SelftestRule().problems(report, NOW, replace(MINE, kind="generator"), guarantee))


def with_edit(tally: Tally) -> Any:
    others = (item for item in WORKS.tallies if item.saboteur != tally.saboteur)
    return replace(WORKS, tallies=(*others, tally))


NO_EDIT = {
    "passed: style_saboteurs/watermark": with_edit(tally(WATERMARK, 1, 1)),
    "not tried: style_saboteurs/watermark (no other artist)": with_edit(skipped(WATERMARK, "no other artist")),
    "no style can be judged here: nobody said": replace(WORKS, edits=EditTrial(unread="nobody said")),
    "the honest control was not believed: style": replace(
        WORKS, edits=EditTrial(seeds=8, pictures=40, objection="style: NOT-LEARNED")
    ),
    "cheats against a style were tried on no picture": replace(WORKS, edits=EditTrial(seeds=8)),
    "no cheat against a style was tried": replace(WORKS, edits=None),
}


@pytest.mark.parametrize("reason", NO_EDIT)
def test_what_stops_a_certificate_of_an_edit_stops_none_that_rests_on_provenance(reason: str) -> None:
    report = NO_EDIT[reason]
    assert reason in on_works(report, Guarantee.EMPIRICAL)
    assert on_works(report, Guarantee.EXACT) == on_works(report, None) == ""
    assert reason.split(":")[0] in report.sentence


def test_with_all_cheats_against_styles_tried_and_the_control_believed_an_edit_can_be_certified() -> None:
    assert on_works(WORKS, Guarantee.EMPIRICAL) == ""
    assert WORKS.sentence.startswith(f"no listed cheat passed, n = {3 + 6 + 8}: ")
    assert "no edit is certified" not in WORKS.sentence


def test_attack_cheats_were_tried_against_a_stronger_battery_than_the_one_that_judges() -> None:
    here = replace(MINE, kind="generator", asked=digest("a battery at full budget"))
    tried = replace(WORKS, edits=replace(WORKS.edits, asked=here.asked))
    assert SelftestRule().problems(tried, NOW, here, Guarantee.EMPIRICAL) == []
    weaker = replace(here, asked=digest("a battery at a tenth of it"))
    problems = SelftestRule().problems(tried, NOW, weaker, Guarantee.EMPIRICAL)
    assert problems == ["cheats were tried with another battery than is asked now"]
    assert SelftestRule().problems(tried, NOW, weaker, Guarantee.EXACT) == []


def test_attack_anchors_are_set_to_0_while_cheats_are_tried_and_put_back_for_the_deletion() -> None:
    """A bank of users with too few full-size models skips the cheats that aim at EMPIRICAL; then nothing is certified so."""
    on_users, report = replace(MINE, kind="recommender"), selftest(kind="recommender")
    assert SelftestRule().problems(report, NOW, on_users, Guarantee.EMPIRICAL) == []
    for name in USER_METHODS:
        others = (item for item in report.tallies if item.saboteur != name)
        shy = replace(report, tallies=(*others, skipped(name, "too few anchors")))
        assert name in "; ".join(SelftestRule().problems(shy, NOW, on_users, Guarantee.EMPIRICAL))
        assert SelftestRule().problems(shy, NOW, on_users, Guarantee.EXACT) == []
        assert f"no approximate deletion is certified: cheats against a bank of users that were not tried: {name}" in (
            shy.sentence
        )


def test_a_classifier_has_no_styles_to_cheat_against() -> None:
    report = selftest()
    assert report.against_empirical == ()
    assert SelftestRule().problems(report, NOW, MINE, Guarantee.EMPIRICAL) == []


def test_a_report_on_works_names_every_cheat_against_a_style_whatever_is_certified() -> None:
    assert set(GENERATOR_EDITS) < required("generator")
    report = replace(WORKS, tallies=tuple(item for item in WORKS.tallies if item.saboteur != WATERMARK))
    assert f"not tried: {WATERMARK}" in on_works(report, Guarantee.EXACT)


def test_every_registered_cheat_against_a_style_is_required() -> None:
    from expunge.core import registry

    assert {f"style_saboteurs/{name}" for name in registry.names("style_saboteurs")} == set(GENERATOR_EDITS)
