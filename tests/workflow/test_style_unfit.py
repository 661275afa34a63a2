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
from expunge.stats.styles import Arms, Counted
from expunge.training.judging.judge import OTHER, Judged
from expunge.workflow.styles import evidence
from expunge.workflow.styles.battery import BatteryPlan, ProbePlan
from expunge.workflow.styles.material import Material
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


@pytest.fixture
def gathered(monkeypatch, tmp_path):
    """Evidence about an edit by these judges; whoever draws anything fails."""
    works = SimpleNamespace(images=NEON)
    material = Material(
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
    monkeypatch.setattr(evidence, "material_of", lambda *_: material)
    monkeypatch.setattr(evidence, "drawing", lambda *_: None)

    def by(*judges):
        monkeypatch.setattr(evidence, "judges_of_styles", lambda: list(judges))
        return evidence.style_evidence(workspace, None, SimpleNamespace(aims_at=Guarantee.EMPIRICAL), run, 1)

    return by


def asked(check, found):
    return check().run(CheckJob(limits=Limits(), guarantee=Guarantee.EMPIRICAL, seed=1, styles=found))


@pytest.mark.parametrize(("dead", "asked"), [(0, 2), (40, 1)])
def test_attacks_are_not_run_on_a_candidate_that_draws_no_pictures(dead, asked):
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

    evidence._by_name_first(plan, answers, 0.0)
    assert len(calls) == asked


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
    assert told["judge.one.accuracy"] == "not measured"
    assert found.figures == {"condition": 2.0}


def test_judges_that_see_are_let_through_to_the_drawing(gathered):
    with pytest.raises(AttributeError):
        gathered(Bright("one"), Bright("two"))
