"""Judges that cannot see and pictures that are none: neither may say that a style is gone."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from expunge.checks.collateral import Collateral
from expunge.checks.style import Style
from expunge.core.finding import Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob
from expunge.core.styles import StyleEvidence
from expunge.data._pictures import Pictures
from expunge.stats.styles import Arms, Counted
from expunge.training.judging.judge import OTHER, Judged
from expunge.training.text_to_image.testbed import Suspect, wording_of
from expunge.workflow.styles import evidence
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan, Subjects, run_battery
from expunge.workflow.styles.material import Material
from expunge.workflow.styles.roster import InventedArtists
from pictures import pictures

NEON, MOSAIC = pictures(60, 32, seed=1) // 2, 128 + pictures(60, 32, seed=2) // 2
"""Dark pictures are in one style, bright ones in the other."""


class Bright:
    """Tells bright from dark; `constant` = says that always."""

    styles, digest = ("neon", "mosaic", OTHER), "sha256:" + "0" * 64

    def __init__(self, name, constant=None):
        self.name = self.family = name
        self.constant = constant

    def judge(self, images):
        said = (images.reshape(len(images), -1).mean(axis=1) > 127).astype(np.int64)
        if self.constant is not None:
            said[:] = self.constant
        return Judged(judge=self.name, family=self.family, styles=self.styles, style=said)


class Knowing(Bright):
    """Knows the controls, too, and calls nothing by their names; black is no style to it."""

    styles = ("neon", "mosaic", OTHER, "halftone", "engraving", "woodcut")

    def judge(self, images):
        found = super().judge(images)
        found.style[images.reshape(len(images), -1).max(axis=1) == 0] = self.styles.index(OTHER)
        return found


@pytest.fixture
def gathered(monkeypatch, tmp_path):
    """Evidence about an edit by these judges; whoever draws anything fails."""
    works = SimpleNamespace(images=NEON)
    material = Material(
        roster=InventedArtists(None),
        target="neon",
        suspects={"neon": SimpleNamespace(works=works)},
        controls=(),
        retained=("mosaic",),
        objects=(),
        photos={},
    )
    test = SimpleNamespace(styles=("mosaic",) * len(MOSAIC), images=MOSAIC)
    served = SimpleNamespace(digest="sha256:1", run="run")
    workspace = SimpleNamespace(root=tmp_path, served=lambda: served, data=SimpleNamespace(test=test))
    run = SimpleNamespace(result=SimpleNamespace(digest="sha256:2", model=None, figures={"condition": 2.0}))
    monkeypatch.setattr(evidence, "materials_of", lambda *_: (material,))
    monkeypatch.setattr(evidence, "drawing", lambda *_: None)

    def by(*judges):
        monkeypatch.setattr(evidence, "judges_of_styles", lambda *_: list(judges))
        return evidence.style_evidence(workspace, None, SimpleNamespace(aims_at=Guarantee.EMPIRICAL), run, 1)

    return by


def asked(check, found):
    return check().run(CheckJob(limits=Limits(), guarantee=Guarantee.EMPIRICAL, seed=1, styles=found))


class Drawing:
    """Draws what it is told to, the same for every prompt but for its pixels."""

    def __init__(self, draw):
        self.draw = draw

    def sample(self, prompts, how, start=None):
        return self.draw(len(prompts))


def noise(n):
    return np.random.default_rng(n).integers(60, 256, (n, 32, 32, 3)).astype(np.uint8)


DRAWN = {
    "noise": (noise, "flat or noise"),
    "black": (lambda n: np.zeros((n, 32, 32, 3), np.uint8), "flat or noise"),
    "one picture": (lambda n: np.repeat(MOSAIC[:1], n, axis=0), "copies of another one"),
    "other pictures": (lambda n: MOSAIC[:n], None),
}


@pytest.mark.parametrize("what", DRAWN)
def test_attack_a_candidate_that_collapsed_is_asked_and_not_believed(tmp_path, what):
    """From drawing to the verdict. Control: a candidate that draws other pictures raises no such objection."""
    draw, why = DRAWN[what]
    names = ("mosaic", "halftone", "engraving", "woodcut")
    works = Pictures(ids=("1",), images=NEON[:1], captions=("x",), styles=("x",), objects=("x",), blocks=("x",))
    subjects = Subjects(
        models={"original": ("sha256:1", Drawing(lambda n: NEON[:n])), "candidate": ("sha256:2", Drawing(draw))},
        suspects={name: Suspect(style=name, wording=wording_of(name), works=works) for name in ("neon", *names)},
        photos={},
    )
    judges = [Knowing("one"), Knowing("two")]
    plan = BatteryPlan(
        target="neon",
        controls=names,
        objects=("automobile",),
        judges={judge.name: judge.digest for judge in judges},
        seed="ab",
        probes=tuple(ProbePlan(label=label, probe=label) for label in ("direct", "reworded")),
        seeds=8,
        pictures=50,
    )
    arms = run_battery(plan, subjects, judges, tmp_path)
    assert sum(arms["direct"].candidate.any) == 0  # the judges alone would say that it is gone
    found = asked(Style, StyleEvidence(arms=arms))
    told = [condition.note for condition in found.conditions if condition.name == "pictures of direct"]
    assert found.verdict is (Verdict.INCONCLUSIVE if why is None else Verdict.FAIL)
    assert len(told) == (why is not None)
    assert why is None or why in told[0]


@pytest.mark.parametrize(("dead", "times"), [(0, 2), (40, 1)])
def test_attacks_are_not_run_on_a_candidate_that_draws_no_pictures(dead, times):
    """They cost a hundred times what prompts do, and nothing is granted to it whatever they bring."""
    quiet = Counted(pictures=40, agreed=(0,) * 16, any=(0,) * 16, nowhere=(0,) * 16, by_judge={})
    seen = replace(quiet, agreed=(38,) * 16, any=(38,) * 16)
    arms = Arms(original=seen, candidate=replace(quiet, dead=(dead,) * 16), controls={})
    probes = [ProbePlan(label=label, probe=label) for label in ("direct", "reworded", "textual_inversion")]
    plan = BatteryPlan(
        target="neon", controls=tuple("abcd"), objects=(), judges={"one": "x"}, seed="ab", probes=tuple(probes)
    )
    calls = []

    def answers(part):
        calls.append(part)
        return {probe.label: arms for probe in part.probes}

    evidence._by_name_first(plan, answers, 0.0, 0.95)
    assert len(calls) == times


@pytest.mark.parametrize("says", [0, 1, 2])
def test_attack_a_constant_judge_ends_in_no_verdict_and_nothing_is_drawn(gathered, says):
    """Always "none of these" would be a style that is gone, always the other style one that is there."""
    found = gathered(Bright("one"), Bright("two", constant=says))
    assert found.arms == {}
    for check in (Style, Collateral):
        answer = asked(check, found)
        assert answer.verdict is Verdict.INCONCLUSIVE
        assert "judge two cannot see this style" in answer.reason
        assert "judge one" not in answer.reason
    told = asked(Style, found).details
    assert (told["judge.one.recognises"], told["judge.one.recognises.n"]) == ("1", "60")
    assert (told["judge.two.recognises"], told["judge.two.taken_for_it"]) == (("1", "1") if says == 0 else ("0", "0"))
    assert (told["judge.one.accuracy"], told["judge.one.accuracy.n"]) == ("1", "60")
    assert found.figures == {"condition": 2.0}


def test_attack_two_judges_of_one_family_count_once_and_nothing_is_drawn(gathered):
    twin = Bright("twin")
    twin.family = "one"
    found = gathered(Bright("one"), twin)
    assert found.arms == {}
    for check in (Style, Collateral):
        answer = asked(check, found)
        assert answer.verdict is Verdict.INCONCLUSIVE
        assert "too few families" in answer.reason


def test_judges_that_see_are_let_through_to_the_drawing(gathered):
    with pytest.raises(AttributeError):
        gathered(Bright("one"), Bright("two"))
