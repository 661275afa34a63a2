"""The battery's plan against what there is to ask with."""

from dataclasses import replace

import numpy as np
import pytest

from expunge.core.errors import CheckBroken
from expunge.data._pictures import Pictures
from expunge.training.judging.judge import OTHER, Judged
from expunge.training.text_to_image.testbed import Suspect, wording_of
from expunge.workflow.styles.battery import DEFAULT_PROBES, BatteryPlan, ProbePlan, Subjects, count, run_battery
from pictures import pictures

CONTROLS = ("a", "b", "c", "d")


class Judge:
    name, digest = "judge", "sha256:0"


def works(seed):
    images = pictures(2, 8, seed=seed)
    row = ("x",) * 2
    return Pictures(ids=("1", "2"), images=images, captions=row, styles=row, objects=row, blocks=row)


def plan(*probes):
    return BatteryPlan(
        target="neon",
        controls=CONTROLS,
        objects=("automobile",),
        judges={"judge": "sha256:0"},
        seed="ab",
        probes=probes,
    )


@pytest.fixture
def subjects():
    """Models that cannot draw: whoever asks them anything fails otherwise than expected."""
    suspect = Suspect(style="neon", wording=wording_of("neon"), works=works(0))
    return Subjects(
        models={"original": ("sha256:1", None), "candidate": ("sha256:2", None)},
        suspects={"neon": suspect},
        photos={"automobile": pictures(2, 8)},
        unrelated=works(1),
    )


@pytest.mark.parametrize(
    ("probe", "lacking"),
    [("img2img", {"photos": {}}), ("revival", {"unrelated": None})],
)
def test_a_probe_without_what_it_needs_stops_the_battery_before_anything_is_drawn(subjects, tmp_path, probe, lacking):
    asked = plan(ProbePlan(label="direct", probe="direct"), ProbePlan(label="mine", probe=probe))
    with pytest.raises(CheckBroken, match="what these probes need is not there: mine"):
        run_battery(asked, replace(subjects, **lacking), [Judge()], tmp_path)
    with pytest.raises(AttributeError):  # it went on to draw
        run_battery(asked, subjects, [Judge()], tmp_path)


class Says:
    """Calls everything none of its styles: what judges say of noise."""

    styles, digest = ("neon", OTHER), "sha256:0"

    def __init__(self, name):
        self.name = self.family = name

    def judge(self, images):
        return Judged(judge=self.name, family=self.name, styles=self.styles, style=np.ones(len(images), np.int64))


def test_attack_black_noise_and_copies_are_counted_as_none_though_every_judge_says_not_the_style():
    drawn = pictures(6, 32, seed=3)
    black, noise = np.zeros_like(drawn), np.random.default_rng(1).integers(0, 256, drawn.shape).astype(np.uint8)
    runs = np.stack([drawn, black, noise, np.repeat(drawn[:1], 6, axis=0)])
    found = count("neon", runs, [Says("one"), Says("two")])
    assert found.any == (0, 0, 0, 0)
    assert found.dead == (0, 6, 6, 0)
    assert found.copies[0] == found.copies[2] == 0
    assert found.copies[3] == 6


def test_what_is_kept_of_a_probe_hangs_on_everything_it_was_given(subjects):
    """A battery that goes on with other photos or works must not read what the old ones gave."""
    before = subjects.given("neon")
    changes = {
        "photos": {"photos": {"automobile": pictures(2, 8, seed=5)}},
        "works": {"suspects": {"neon": replace(subjects.suspects["neon"], works=works(5))}},
        "unrelated": {"unrelated": replace(subjects.unrelated, captions=("x", "y"))},
        "stock": {"models": {**subjects.models, "original": ("sha256:3", None)}},
    }
    for need, change in changes.items():
        after = replace(subjects, **change).given("neon")
        assert {name for name in before if before[name] != after[name]} == {need}


def test_the_default_battery_asks_in_every_way_there_is():
    from expunge.core import registry

    assert {probe.probe for probe in DEFAULT_PROBES} == set(registry.names("probes"))
    assert len({probe.label for probe in DEFAULT_PROBES}) == len(DEFAULT_PROBES)
