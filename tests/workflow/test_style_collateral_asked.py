"""Everybody else is asked for with the same prompts and noise, and the original once more with other noise."""

import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.training.judging.judge import OTHER, Judged
from expunge.training.text_to_image.sampler import Sampling
from expunge.training.text_to_image.testbed import wording_of
from expunge.workflow.styles.collateral import Asking, ask_for

ASKING = Asking(objects=("automobile", "bird"), pictures=6, how=Sampling(seed="ab", steps=3, guidance=2.0))


class Drawing:
    """Grey pictures whose level says how often it was asked; keeps what it was asked."""

    def __init__(self, level):
        self.level, self.asked = level, []

    def sample(self, prompts, how):
        self.asked.append((tuple(prompts), how))
        return np.full((len(prompts), 4, 4, 3), self.level + len(self.asked), np.uint8)


class Said:
    """Calls pictures below a level `mosaic`, and all of them a bird."""

    def __init__(self, name, things=True):
        self.name, self.family, self.things = name, name, things

    def judge(self, pictures):
        style = (pictures[:, 0, 0, 0] > 100).astype(np.int64)
        things = np.tile([0.0, 1.0], (len(pictures), 1)) if self.things else None
        return Judged(
            judge=self.name,
            family=self.name,
            styles=("mosaic", OTHER),
            style=style,
            objects=("automobile", "bird"),
            things=things,
        )


class Seeing(Said):
    space = "levels"

    def features(self, pictures):
        return pictures[:, 0, 0, :2].astype(np.float64)


def test_what_is_compared_has_the_same_words_and_noise_and_the_floor_other_noise():
    original, candidate = Drawing(10), Drawing(200)
    kept = ask_for("mosaic", wording_of("mosaic"), (original, candidate), [Seeing("a"), Said("b")], ASKING)
    (first, again), (after,) = original.asked, candidate.asked
    assert first == after
    assert again[0] == first[0]
    assert again[1].seed != first[1].seed
    assert (again[1].steps, again[1].guidance) == (3, 2.0)
    assert kept.before.all()
    assert not kept.after.any()
    assert kept.seen_before.tolist() == [False, True] * 3
    looks = kept.looks
    assert looks.space == "levels"
    assert [rows[0, 0] for rows in (looks.before, looks.after, looks.again)] == [11, 201, 12]


def test_without_a_judge_that_gives_features_nothing_is_drawn_for_them():
    original = Drawing(10)
    kept = ask_for("mosaic", wording_of("mosaic"), (original, Drawing(20)), [Said("a"), Said("b")], ASKING)
    assert kept.looks is None
    assert len(original.asked) == 1


def test_where_no_judge_knows_objects_nothing_is_answered():
    judges = [Said("a", things=False), Said("b", things=False)]
    with pytest.raises(CheckBroken, match="no judge knows objects"):
        ask_for("mosaic", wording_of("mosaic"), (Drawing(1), Drawing(2)), judges, ASKING)
