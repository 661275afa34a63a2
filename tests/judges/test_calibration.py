"""A judge's confusion on held-out pictures, and the refusal of one that is blind."""

import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from expunge.core.codec import canonical, decode, encode
from expunge.core.errors import CheckBroken
from expunge.stats.intervals import clopper_pearson, share_at_most
from expunge.training.judging.calibration import (
    Calibration,
    blindness,
    calibrate,
    confusion_of,
    require_sighted,
    share_of,
)
from expunge.training.judging.judge import OTHER, JudgeBlind, JudgeMissing
from judges.judging_hands import STYLE_NAMES, ColourJudge, coloured

NEIGHBOURS = {"red": ("green",), "green": ("red",), "blue": ()}


def calibrated(**judge):
    return calibrate(ColourJudge(**judge), coloured(), NEIGHBOURS)


def test_confusion_equals_sklearns():
    draw = np.random.default_rng(0)
    truth, found = draw.integers(0, 5, 400), draw.integers(0, 5, 400)
    assert np.array_equal(confusion_of(truth, found, 5), confusion_matrix(truth, found, labels=range(5)))


def test_every_number_of_a_style_by_hand():
    found = calibrated(wrong=range(60, 66))  # six green pictures are called red
    red, green = found.of("red"), found.of("green")
    assert found.confusion[1] == (6, 54, 0, 0)
    assert (green.seen.hits, green.seen.n, red.taken_for.hits, red.taken_for.n) == (54, 60, 6, 120)
    bounds = clopper_pearson(54, 60)
    assert (green.seen.low, green.seen.high) == (bounds.low, bounds.high)
    assert red.neighbours["green"].at_most == share_at_most(6, 60)
    assert (found.all_styles.hits, found.all_styles.n) == (174, 180)
    assert (found.all_objects.hits, found.all_objects.n) == (90, 180)  # it says "car" every time


def test_what_was_not_measured_is_a_reason_and_never_a_number():
    part = calibrated().of("red")
    assert part.garbage.share is None
    assert part.garbage.reason == "no picture of no style"
    assert calibrated().of("blue").neighbours == {}
    empty = share_of(0, 0, "why")
    assert (empty.share, empty.low, empty.high, empty.at_most, empty.reason) == (None, None, None, None, "why")


def test_it_goes_into_evidence_and_comes_back():
    found = calibrated(wrong=[0], says=2)
    assert decode(Calibration, json.loads(canonical(encode(found)))) == found


def test_a_good_judge_may_speak_and_a_stranger_may_not():
    found = calibrated()
    for style in STYLE_NAMES[:3]:
        require_sighted(found, style)
    with pytest.raises(JudgeMissing):
        require_sighted(found, "cubism")
    with pytest.raises(JudgeMissing):
        require_sighted(found, OTHER)


def test_a_judge_that_misses_the_target_is_blind():
    found = calibrated(wrong=range(20), says=3)
    with pytest.raises(JudgeBlind, match="recognises 40 of 60"):
        require_sighted(found, "red")
    require_sighted(found, "blue")


def test_a_judge_that_takes_a_neighbour_for_the_target_is_blind():
    """It recognises every red picture, and sees red in green ones too: "not red" could be said, "red" means nothing."""
    found = calibrated(wrong=range(60, 75))
    assert found.of("red").seen.hits == 60
    with pytest.raises(JudgeBlind, match="takes 15 of 60 of green for it"):
        require_sighted(found, "red")
    assert "recognises" in str(blindness(found, "green"))


def test_too_few_pictures_or_no_neighbour_shown_is_blind():
    few = calibrate(ColourJudge(), coloured(each=20), NEIGHBOURS)
    assert "at least 50" in str(blindness(few, "red"))
    shown = coloured()
    keep = [n for n, style in enumerate(shown.styles) if style != "green"]
    part = type(shown)(
        images=shown.images[keep],
        **{
            name: tuple(getattr(shown, name)[n] for n in keep)
            for name in ("ids", "captions", "styles", "objects", "blocks")
        },
    )
    assert "shown no picture of the neighbour green" in str(
        blindness(calibrate(ColourJudge(), part, NEIGHBOURS), "red")
    )


def test_a_style_without_a_name_is_a_broken_calibration():
    shown = coloured(each=2)
    odd = type(shown)(
        ids=shown.ids,
        images=shown.images,
        captions=shown.captions,
        styles=("cubism",) * 6,
        objects=shown.objects,
        blocks=shown.blocks,
    )
    with pytest.raises(CheckBroken, match="no name for"):
        calibrate(ColourJudge(), odd, NEIGHBOURS)
