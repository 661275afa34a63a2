"""What judges answer, what two families agree on, and when a judge is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.codec import canonical, encode
from expunge.core.errors import CheckBroken, InputError
from expunge.training.judging.judge import (
    OTHER,
    Judge,
    Judged,
    JudgeMissing,
    check_pixels,
    in_style,
    votes_of,
)
from judges.judging_hands import STYLE_NAMES, ColourJudge, answer

FAMILIES = ("a", "a", "b", "c")


def twin(style, answers, needed):
    """Picture by picture, family by family."""
    agreed = disputed = nowhere = 0
    for row in range(len(answers[0])):
        families = set()
        for judged in answers:
            if judged.styles[judged.style[row]] == style:
                families.add(judged.family)
        agreed += len(families) >= needed
        disputed += 0 < len(families) < needed
        nowhere += all(judged.styles[judged.style[row]] == OTHER for judged in answers)
    return agreed, disputed, nowhere


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4), min_size=1, max_size=30), st.integers(1, 3))
def test_votes_equal_counting_by_hand(rows, needed):
    columns = np.array(rows).T
    answers = [answer(f"judge {n}", FAMILIES[n], column) for n, column in enumerate(columns)]
    found = votes_of("green", answers, needed)
    assert (found.agreed, found.disputed, found.nowhere) == twin("green", answers, needed)
    assert found.by_judge == {f"judge {n}": int((column == 1).sum()) for n, column in enumerate(columns)}
    assert found.unplaced == {f"judge {n}": int((column == 3).sum()) for n, column in enumerate(columns)}
    assert int(in_style("green", answers, needed).sum()) == found.agreed
    canonical(encode(found))


def test_two_judges_of_one_family_are_one_voice():
    twice = [answer("one", "a", [1, 1]), answer("two", "a", [1, 1])]
    with pytest.raises(JudgeMissing, match="too few families"):
        votes_of("green", twice)
    found = votes_of("green", [*twice, answer("three", "b", [1, 0])])
    assert (found.agreed, found.disputed, found.families) == (1, 1, ("a", "b"))


def test_no_judges_unknown_style_and_other_lengths_are_refused():
    with pytest.raises(JudgeMissing):
        votes_of("green", [])
    pair = [answer("one", "a", [1]), answer("two", "b", [1])]
    with pytest.raises(JudgeMissing, match="does not know"):
        votes_of("cubism", pair)
    with pytest.raises(InputError, match="no style"):
        votes_of(OTHER, pair)
    with pytest.raises(InputError, match="one answer a judge"):
        votes_of("green", [pair[0], answer("two", "b", [1, 1])])
    with pytest.raises(InputError, match="one answer a judge"):
        votes_of("green", [pair[0], answer("one", "b", [1])])


@pytest.mark.parametrize(
    "more",
    [
        {"shares": np.full((2, 4), 0.5)},
        {"shares": np.full((2, 4), np.nan)},
        {"shares": np.full((1, 4), 0.25)},
        {"things": np.full((2, 1), 1.0)},
        {"shares": np.array([[2, -1, 0, 0], [1, 0, 0, 0.0]])},
    ],
)
def test_answers_that_are_no_probabilities_are_a_broken_judge(more):
    with pytest.raises(CheckBroken):
        answer("one", "a", [0, 1], **more)


def test_a_style_out_of_range_is_a_broken_judge():
    with pytest.raises(CheckBroken, match="none of its own"):
        answer("one", "a", [4])
    assert len(Judged(judge="j", family="f", styles=STYLE_NAMES, style=np.zeros(0, np.int64))) == 0


@pytest.mark.parametrize("shape", [(32, 32, 3), (2, 32, 32), (2, 16, 16, 3), (2, 32, 31, 3), (2, 32, 32, 4)])
def test_other_shapes_are_not_judged(shape):
    with pytest.raises(InputError, match="not pictures"):
        check_pixels(np.zeros(shape, np.uint8))


def test_floats_are_not_judged_and_another_side_may_be():
    with pytest.raises(InputError):
        check_pixels(np.zeros((1, 32, 32, 3), np.float32))
    assert check_pixels(np.zeros((1, 64, 64, 3), np.uint8), None).shape == (1, 64, 64, 3)


def test_a_judge_by_hand_is_a_judge():
    assert isinstance(ColourJudge(), Judge)
