"""Whether a judge sees the style that is asked for: its record, and the works at hand, which tell of one that never looks."""

from types import SimpleNamespace

import numpy as np
import pytest
from judging_hands import ColourJudge, answer, coloured, in_style_of

from expunge.core import registry
from expunge.core.codec import encode
from expunge.core.errors import IntegrityError
from expunge.training.judging.calibration import calibrate
from expunge.training.judging.files import Shipped
from expunge.training.judging.judge import JudgeBlind
from expunge.training.judging.sight import recorded, require_seeing, sight_of
from expunge.workflow.styles.evidence import sights_of
from expunge.workflow.styles.material import Material
from expunge.workflow.styles.roster import InventedArtists

PICTURES = coloured()
RED = np.array([style == "red" for style in PICTURES.styles])
OWN, OTHERS = PICTURES.images[RED], PICTURES.images[~RED]


class Constant(ColourJudge):
    """Says the same to everything."""

    def __init__(self, says):
        super().__init__()
        self.says = says

    def judge(self, pictures):
        return answer(self.name, self.family, [self.says] * len(pictures))


class Measured(Shipped):
    """A judge of colours with the record of another one."""

    name, family = "colour", "colours"

    def __init__(self, judge, record):
        self.inner = judge
        held_out = encode(calibrate(record, PICTURES, {"red": ("green",)}))
        self.__dict__["read"] = SimpleNamespace(held_out=held_out, digest=judge.digest, styles=judge.styles), {}

    def judge(self, pictures):
        return self.inner.judge(pictures)


def test_a_judge_that_sees_says_how_well():
    found = sight_of(Measured(ColourJudge(), ColourJudge()), "red", OWN, OTHERS)
    assert (found.held_out, found.own, found.others, found.blind) == ((180, 180), (60, 60), (0, 120), "")
    require_seeing([found])


@pytest.mark.parametrize(
    ("says", "why"), [(0, "takes 120 of 120"), (1, "recognises 0 of 60"), (3, "recognises 0 of 60")]
)
def test_attack_a_constant_judge_is_blind_whatever_its_record_says(says, why):
    good = sight_of(Measured(ColourJudge(), ColourJudge()), "red", OWN, OTHERS)
    found = sight_of(Measured(Constant(says), ColourJudge()), "red", OWN, OTHERS)
    assert why in found.blind
    with pytest.raises(JudgeBlind, match="colour cannot see this style"):
        require_seeing([good, found])


def test_a_record_that_does_not_show_the_style_is_blind_and_the_reason_names_nobody():
    poor = ColourJudge(wrong=np.flatnonzero(RED)[:20], says=1)
    found = sight_of(Measured(ColourJudge(), poor), "red", OWN, OTHERS)
    assert "record" in found.blind
    assert "red" not in found.blind.replace("record", "").replace("pictures", "")


def test_without_a_record_the_works_at_hand_have_to_show_it():
    assert sight_of(ColourJudge(), "red", OWN, OTHERS).blind == ""
    assert "no record" in sight_of(ColourJudge(), "red", OWN[:49], OTHERS).blind
    assert "no record" in sight_of(ColourJudge(), "red", OWN, OTHERS[:0]).blind
    assert "no record" in sight_of(Constant(0), "red", OWN, OTHERS).blind


def test_the_record_of_another_judge_is_none():
    judge = Measured(ColourJudge(), ColourJudge())
    judge.made.held_out["digest"] = "sha256:" + "1" * 64
    with pytest.raises(IntegrityError, match="another judge's"):
        sight_of(judge, "red", OWN, OTHERS)


def test_the_judges_that_ship_see_an_artist_of_the_testbed_by_their_own_records():
    judges = [registry.load("judges", name)() for name in ("adain", "cnn")]
    assert [recorded(judge).all_styles.n for judge in judges] == [5400, 5400]
    suspect = SimpleNamespace(works=SimpleNamespace(images=in_style_of("neon", 20)))
    about = {"controls": (), "retained": (), "objects": (), "photos": {}}
    material = Material(roster=InventedArtists(None), target="neon", suspects={"neon": suspect}, **about)
    others = np.concatenate([in_style_of("neon", 5, seed=1), in_style_of("mosaic", 40)])
    test = SimpleNamespace(styles=("neon",) * 5 + ("mosaic",) * 40, images=others)
    found = sights_of(SimpleNamespace(data=SimpleNamespace(test=test)), material, judges)
    assert [(sight.own[1], sight.others[1], sight.blind) for sight in found] == [(25, 40, "")] * 2
