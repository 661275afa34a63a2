"""The sequence of edits: who was erased earlier is attacked again after every later edit, and the cap ends in a retraining."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from expunge.data._styles import STYLES
from expunge.stats.recovery import MARGIN
from expunge.testing.erasers import fresh_model, works_of
from expunge.training.judging.judge import OTHER, Judged
from expunge.training.text_to_image.testbed import Suspect
from expunge.workflow.rights.policy import default_rights_policy
from selftest.colours import CONTROLS, CORNER, MEAN, wording

pytestmark = pytest.mark.usefixtures("one_thread")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    """The benchmark's modules by name; path and modules are as they were afterwards."""
    before, known = list(sys.path), set(sys.modules)
    sys.path[:0] = [str(BENCHMARKS / "artist_style"), str(BENCHMARKS)]
    yield SimpleNamespace(
        sequence=importlib.import_module("sequence"), reverified=importlib.import_module("reverified")
    )
    sys.path[:] = before
    for name in {"sequence", "reverified", "train", "checkpoints", "recorded", "hardware"} - known:
        sys.modules.pop(name, None)


# -------------------------------------------------------------------------------------------------- the order of events


class Model:
    """Draws the styles that it has, and pictures of nobody for those that it lost: style n is the brightness n."""

    def __init__(self, lost=()):
        self.lost = frozenset(lost)

    def sample(self, prompts, how, start=None):
        return np.stack([np.full((32, 32, 3), self._level(prompt), np.uint8) for prompt in prompts])

    def _level(self, prompt):
        said = [n for n, style in enumerate(NAMES) if STYLES[style].artist in prompt]
        return 10 * (1 + said[0]) if said and NAMES[said[0]] not in self.lost else 0


NAMES = ("neon", "mosaic", "halftone", "oil", "pop art", "duotone")


class Levels:
    """Reads the brightness."""

    styles = (*NAMES, OTHER)

    def __init__(self, name):
        self.name = self.family = name
        self.digest = "sha256:" + name

    def judge(self, images):
        said = images[:, 0, 0, 0].astype(np.int64) // 10 - 1
        things = np.ones((len(images), 1))
        style = np.where(said < 0, len(NAMES), said)
        return Judged(
            judge=self.name, family=self.family, styles=self.styles, style=style, objects=("ship",), things=things
        )


class Forgetful:
    """An eraser after whose second edit the first artist is back."""

    def __init__(self):
        self.asked = []

    def erase(self, job):
        self.asked.append(job)
        done = len(self.asked)
        return SimpleNamespace(model=Model(NAMES[:1] if done == 1 else NAMES[done - 1 : done]))


def played(scripts, monkeypatch, edits, **how):
    monkeypatch.setattr(scripts.sequence, "OBJECTS", ("ship",))
    monkeypatch.setattr(scripts.sequence, "TRAINED", NAMES)
    attacked = []

    def on(style, at):
        attacked.append((style, at[0]))
        return {"left": 0.0 if style in at[1].lost else 0.9}

    sequence = scripts.sequence.Sequence(
        Model(),
        Forgetful(),
        [Levels("a"), Levels("b")],
        "ab",
        order=NAMES[:2],
        attack=SimpleNamespace(on=on),
        **how,
    )
    policy = default_rights_policy()
    found = sequence.run(replace(policy, limits=replace(policy.limits, edits=edits, cumulative_loss=0.05)))
    return found["steps"], attacked


def test_after_every_edit_everybody_who_was_erased_is_attacked_again(scripts, monkeypatch):
    steps, attacked = played(scripts, monkeypatch, edits=100)
    assert [style for style, _ in attacked] == ["neon", "neon", "mosaic"]
    assert len({which for _, which in attacked}) == 2  # counts of one model are not taken for another's
    assert [step["attacked"]["neon"]["left"] for step in steps] == [0.0, 0.9]
    assert (steps[0]["erased"]["neon"]["hits"], steps[1]["erased"]["neon"]["hits"]) == (0, 80)
    assert "retrained" not in steps[1]


def test_where_the_cap_says_so_the_model_is_trained_again_without_all_who_were_erased(scripts, monkeypatch):
    asked = []

    def retrain(gone):
        asked.append(gone)
        return Model(gone)

    steps, attacked = played(scripts, monkeypatch, edits=1, retrain=retrain)
    assert asked == [NAMES[:2]]
    assert "retrained" not in steps[0]
    assert steps[1]["policy"].startswith("2 edits since the last training; 1 are allowed")
    assert {style: said["left"] for style, said in steps[1]["retrained"]["attacked"].items()} == dict.fromkeys(
        NAMES[:2], 0.0
    )
    assert {style: said["hits"] for style, said in steps[1]["retrained"]["erased"].items()} == dict.fromkeys(
        NAMES[:2], 0
    )
    assert [style for style, _ in attacked] == ["neon", "neon", "mosaic", "neon", "mosaic"]


# ------------------------------------------------------------------------------------------------------------ the attack


def test_the_attack_is_tried_on_a_tiny_model_against_four_controls(scripts, tmp_path):
    model = fresh_model(tmp_path / "model", seed=1)
    suspects = {
        style: Suspect(style=style, wording=wording(style), works=works_of("red")) for style in ("red", *CONTROLS)
    }
    attack = scripts.reverified.Attack(
        original=("sha256:1", model),
        suspects=suspects,
        controls=CONTROLS,
        objects=("automobile",),
        photos={},
        judges=[MEAN, CORNER],
        seed="ab",
        folder=tmp_path / "counts",
        pictures=2,
        steps=1,
        budget=1,
    )
    found = attack.on("red", ("sha256:2", model))
    assert set(found["shares"]) == {"original", "candidate", "controls"}
    assert all(0 <= share <= 1 for share in found["shares"].values())
    assert found["left_at_most"] > MARGIN  # 16 pictures show nothing
    assert found["verdict"] in ("UNVERIFIABLE", "INCONCLUSIVE")
    kept = sorted(file.name for file in (tmp_path / "counts").iterdir())
    assert len(kept) == 6
    assert attack.on("red", ("sha256:2", model)) == found
    assert sorted(file.name for file in (tmp_path / "counts").iterdir()) == kept
