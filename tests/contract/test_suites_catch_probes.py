"""Negative controls for probes: a probe that is broken in one way breaks one law, and the others hold."""

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from contract.catching import broken
from expunge.core import registry
from expunge.core.errors import IntegrityError
from expunge.testing.probes import PROBE_LAWS, examine_probe
from expunge.training.rng import derive_seed
from expunge.training.text_to_image.probing import Probed

pytestmark = pytest.mark.usefixtures("one_thread")

Direct = registry.load("probes", "direct")


def probe(doc=None, **members):
    kept = {"__doc__": Direct.__doc__ if doc is None else doc, "__module__": Direct.__module__}
    return type("Direct", (Direct,), {**kept, **members})


def changed(**change):
    def run(self, job):
        return replace(Direct.run(self, job), **{name: make(job) for name, make in change.items()})

    return {"run": run}


def as_floats(self, job):
    found = Direct.run(self, job)
    return replace(found, images=found.images.astype(np.float32))


def never_the_same():
    asked = []

    def run(self, job):
        found, same = Direct.run(self, job), (job.seed, job.seeds)
        asked.append(same)
        return replace(found, images=np.minimum(found.images, 150) + np.uint8(asked.count(same)))

    return {"run": run}


def knows_one_seed(self, job):
    return Direct.run(self, replace(job, seed="00"))


def minds_its_neighbours(self, job):
    return Direct.run(self, replace(job, seed=derive_seed(job.seed, job.seeds)))


def asks_somebody_else():
    kept = []

    def run(self, job):
        kept.append(job.model.unet)
        whole = bool(torch.isfinite(job.model.unet.conv_out.bias).all())
        return Direct.run(self, replace(job, model=job.model.with_unet(kept[0])) if whole else job)

    return {"run": run}


def leaves_gradients(self, job):
    job.model.text_encoder.requires_grad_(True)
    with torch.no_grad():
        return Direct.run(self, job)


def draws_globally(self, job):
    torch.rand(1)
    return Direct.run(self, job)


def black_where_there_are_no_numbers(self, job):
    try:
        return Direct.run(self, job)
    except IntegrityError:
        images = np.zeros((job.seeds, job.pictures, 8, 8, 3), np.uint8)
        return Probed(images=images, objects=tuple(job.asked()), figures={})


def takes_anything(self, *, strength=0.5):
    self.strength = strength


CASES = {
    "card_says_needs_settings_cost_and_failure": {"doc": "Draws."},
    "is_a_probe_of_its_name": {"group": "anyone"},
    "missing_needs_are_refused": {"needs": frozenset({"works"})},
    "settings_out_of_range_are_refused": {"__init__": takes_anything},
    "pictures_are_as_asked": {"run": as_floats},
    "same_job_gives_the_same_pictures": never_the_same(),
    "another_seed_gives_other_pictures": {"run": knows_one_seed},
    "a_seed_alone_gives_what_it_gives_among_others": {"run": minds_its_neighbours},
    "another_model_gives_other_pictures": asks_somebody_else(),
    "what_the_job_holds_stays": {"run": leaves_gradients},
    "figures_are_finite_numbers_a_seed": changed(figures=lambda job: {"loss": np.full(job.seeds, np.nan)}),
    "global_state_is_left_alone": {"run": draws_globally},
    "weights_that_are_no_numbers_are_refused": {"run": black_where_there_are_no_numbers},
}


@pytest.mark.parametrize("law", CASES)
def test_law_alone_catches(law):
    assert broken(examine_probe(probe(**CASES[law]), name="direct")) == {law}


@pytest.mark.parametrize(
    "line",
    [
        "from expunge.training.judging.judge import votes_of",
        "import expunge.judges.cnn",
        "from expunge.probes import reworded",
        "def late():\n    from expunge.workflow.styles import battery",
    ],
)
def test_a_probe_that_meets_a_judge_is_caught_by_its_imports(tmp_path, line, monkeypatch):
    file = tmp_path / "looks.py"
    file.write_text(f"{line}\nfrom expunge.core import registry\nclass Looks(registry.load('probes', 'direct')): ...\n")
    spec = importlib.util.spec_from_file_location("looks", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "looks", module)
    spec.loader.exec_module(module)
    module.Looks.__doc__ = Direct.__doc__
    assert broken(examine_probe(module.Looks, name="direct")) == {"never_meets_a_judge"}


def test_every_law_has_a_control():
    assert {*CASES, "never_meets_a_judge"} == {law.__name__ for law in PROBE_LAWS}
