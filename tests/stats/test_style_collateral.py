"""Harm to others: by hand, and that what was not shown to stay counts as lost."""

import math

import numpy as np
import pytest
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.style_collateral import Kept, Limits, collateral_of, drop_of


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


def test_drop_is_a_paired_t_limit():
    before, after = answers(150), answers(130)
    found = drop_of(before, after)
    gaps = [float(b) - float(a) for b, a in zip(before, after, strict=True)]
    centre = sum(gaps) / 200
    deviation = math.sqrt(sum((gap - centre) ** 2 for gap in gaps) / 199)
    assert found.estimate == pytest.approx(0.1)
    assert found.at_most == pytest.approx(centre + stats.t.ppf(0.95, 199) * deviation / math.sqrt(200))


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
    assert len(found.reasons) == 4


@pytest.mark.parametrize("soft", [{"mean": 0.5}, {"worst": 0.5}, {"objects": 0.5}, {"mean": 0.0}])
def test_soft_limits_are_refused_in_code(soft):
    with pytest.raises(CheckBroken, match="beyond what any policy may set"):
        Limits(**soft)


def test_nothing_asked_is_no_answer():
    with pytest.raises(CheckBroken):
        collateral_of([], Limits())
    with pytest.raises(CheckBroken):
        drop_of(answers(3), answers(3, 100))
