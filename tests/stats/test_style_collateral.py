"""Harm to others: by hand, and that what was not shown to stay counts as lost."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.kid import apart, distance, frechet
from expunge.stats.style_collateral import Kept, Limits, Looks, asked_of, collateral_of, drop_of, moved_of


def answers(hits, n=200):
    return np.arange(n) < hits


def kept(style, before, after, seen=(180, 180), n=200):
    return Kept(
        style=style,
        before=answers(before, n),
        after=answers(after, n),
        seen_before=answers(seen[0], n),
        seen_after=answers(seen[1], n),
    )


def looking(style, centre, moved=0.0, n=60, space="mine"):
    """A style whose pictures lie around `centre` (every number of them), and after the edit around `moved` further."""
    rng = np.random.default_rng(int(100 * centre) + 1)
    before, noise = rng.normal(centre, 0.3, (n, 4)), rng.normal(centre, 0.3, (n, 4))
    looks = Looks(space=space, before=before, after=before + moved, again=noise)
    return replace(kept(style, n, n, (n, n), n), looks=looks)


def test_drop_is_a_paired_t_limit():
    before, after = answers(150), answers(130)
    found = drop_of(before, after)
    gaps = [float(b) - float(a) for b, a in zip(before, after, strict=True)]
    centre = sum(gaps) / 200
    deviation = math.sqrt(sum((gap - centre) ** 2 for gap in gaps) / 199)
    assert found.estimate == pytest.approx(0.1)
    reach = stats.t.ppf(0.95, 199) * deviation / math.sqrt(200)
    assert (found.at_least, found.at_most) == (pytest.approx(centre - reach), pytest.approx(centre + reach))


@pytest.mark.parametrize("level", [0.975, 0.996875])
def test_a_later_attempt_moves_what_passes_and_not_what_fails(level):
    plain, later = (drop_of(answers(150), answers(130), at) for at in (0.95, level))
    assert later.at_least == plain.at_least
    reach = (plain.at_most - plain.estimate) * stats.t.ppf(level, 199) / stats.t.ppf(0.95, 199)
    assert later.at_most == pytest.approx(later.estimate + reach)
    looks = [looking("a", 0.0, 0.5), looking("b", 1.5)]
    first, then = (moved_of(looks, at).edit for at in (0.95, level))
    assert then.at_least == first.at_least < first.at_most < then.at_most == first.most(level)


def test_equal_answers_are_not_certainty():
    assert 0 < drop_of(answers(150), answers(150)).at_most < 0.01
    assert drop_of(answers(10, 10), answers(10, 10)).at_most > 0.05


def test_an_edit_that_changed_nobody_does_no_harm():
    found = collateral_of([kept("a", 190, 190), kept("b", 180, 181), kept("c", 199, 198)], Limits())
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("after", "seen", "match"),
    [
        ((190, 130), (180, 180), "b fell by 25%"),
        ((170, 165), (180, 180), "retained styles may have fallen"),
        ((190, 180), (180, 160), "objects may be seen"),
    ],
)
def test_each_harm_has_its_reason(after, seen, match):
    found = collateral_of([kept("a", 190, after[0], seen), kept("b", 180, after[1], seen)], Limits())
    assert any(match in reason for reason in found.reasons)


def test_too_few_pictures_to_show_it_count_as_harm():
    small = [kept("a", 9, 9, (9, 9), 10), kept("b", 8, 8, (9, 9), 10)]
    assert collateral_of(small, Limits()).reasons
    assert not collateral_of([kept("a", 190, 190), kept("b", 180, 180)], Limits()).reasons


def test_noise_collapse_harms_everybody():
    found = collateral_of([kept("a", 190, 0, (180, 20)), kept("b", 180, 0, (180, 20))], Limits())
    assert len(found.reasons) == 5


def test_what_was_asked_counts_where_both_are_seen():
    rng = np.random.default_rng(0)
    rows = [{name: rng.random(50) < 0.7 for name in ("before", "after", "seen_before", "seen_after")} for _ in range(2)]
    found = asked_of([Kept(style=str(number), **row) for number, row in enumerate(rows)])
    pairs = [
        (row["before"][i] and row["seen_before"][i], row["after"][i] and row["seen_after"][i])
        for row in rows
        for i in range(50)
    ]
    assert found.before == pytest.approx(sum(before for before, _ in pairs) / 100)
    assert found.after == pytest.approx(sum(after for _, after in pairs) / 100)
    gaps = [float(before) - float(after) for before, after in pairs]
    assert found.drop.estimate == pytest.approx(sum(gaps) / 100)
    reach = stats.t.ppf(0.95, 99) * np.std(gaps, ddof=1) / 10
    assert found.drop.at_most == pytest.approx(sum(gaps) / 100 + reach)


def test_style_and_object_that_part_company_are_seen_by_nothing_else():
    """Half of the pictures have the style, half show the object, as before; but no longer the same half."""
    half = answers(100)
    one = Kept(style="a", before=half, after=half, seen_before=half, seen_after=~half)
    found = collateral_of([one], Limits())
    assert (found.mean.estimate, found.objects.estimate) == (0, 0)
    assert found.asked.drop.estimate == pytest.approx(0.5)
    assert any("what was asked" in reason for reason in found.reasons)


def test_how_far_pictures_moved_is_told_style_by_style_in_the_distance_between_artists():
    rows = [looking("a", 0.0, 0.5), looking("b", 1.5), looking("c", 3.0)]
    found, looks = moved_of(rows), [row.looks for row in rows]
    assert found.edit == distance([(one.before, one.after) for one in looks])
    assert found.seeds == distance([(one.before, one.again) for one in looks])
    assert found.unit == apart([one.before for one in looks])
    assert found.share(found.unit / 2) == pytest.approx(0.5)
    before, after = (np.concatenate([getattr(one, name) for one in looks]) for name in ("before", "after"))
    assert found.frechet == pytest.approx(frechet(before, after))
    assert found.space == "mine"


def test_pictures_that_moved_are_harm_and_those_drawn_again_are_not():
    still = [looking("a", 0.0), looking("b", 1.5), looking("c", 3.0)]
    drawn_again = [replace(one, looks=replace(one.looks, after=one.looks.again)) for one in still]
    gone = [replace(one, looks=replace(one.looks, after=np.zeros_like(one.looks.after))) for one in still]
    wide = Limits(mean=0.1, objects=0.1, asked=0.1)
    assert not collateral_of(still, wide).reasons
    assert not collateral_of(drawn_again, wide).reasons
    assert ["pictures may have moved" in reason for reason in collateral_of(gone, wide).reasons] == [True]


def test_features_that_do_not_tell_artists_apart_show_nothing():
    """A blind space would say of every edit that nothing moved."""
    blind = [replace(one, looks=replace(one.looks, before=b, after=b, again=b)) for one, b in same_for_all()]
    found = collateral_of(blind, Limits(mean=0.1, objects=0.1, asked=0.1))
    assert not found.moved.told
    assert any("do not tell artists apart" in reason for reason in found.reasons)


def same_for_all():
    return [(looking(style, 0.0), np.ones((60, 4))) for style in ("a", "b")]


def test_without_features_of_every_style_nothing_is_said_of_how_far_pictures_moved():
    assert collateral_of([kept("a", 190, 190)], Limits()).moved is None
    assert moved_of([looking("a", 0.0)]) is None
    assert moved_of([looking("a", 0.0), kept("b", 60, 60, (60, 60), 60)]) is None
    with pytest.raises(CheckBroken, match="two feature spaces"):
        moved_of([looking("a", 0.0), looking("b", 1.0, space="another's")])


@pytest.mark.parametrize(
    "soft",
    [{"mean": 0.5}, {"worst": 0.5}, {"objects": 0.5}, {"asked": 0.5}, {"moved": 0.5}, {"mean": 0.0}, {"moved": 0.0}],
)
def test_soft_limits_are_refused_in_code(soft):
    with pytest.raises(CheckBroken, match="beyond what any policy may set"):
        Limits(**soft)


def test_nothing_asked_is_no_answer():
    with pytest.raises(CheckBroken):
        collateral_of([], Limits())
    with pytest.raises(CheckBroken):
        drop_of(answers(3), answers(3, 100))
