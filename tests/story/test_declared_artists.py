"""Artists whom a user declares, end to end: written down, trained, edited, judged by judges made of their works, certified.

The model draws red and blue, at 8x8 (selftest/colours.py). What would take minutes, the learned attacks, is stood in for by what
the name itself brings.
"""

from dataclasses import replace

import pytest

from declared_files import write_declared
from expunge.core.finding import Guarantee, Verdict
from expunge.core.protocols import FitResult
from expunge.training.checkpoint import load_tensors, save_tensors
from expunge.training.text_to_image.net import TextToImageNet
from expunge.workflow.styles import evidence
from expunge.workflow.styles.battery import run_battery
from expunge.workflow.styles.edits import MODEL, Edit
from recommending import failed_steps
from selftest.colours import make_scene, make_workspace, seen_apart, untouched
from testbed import answering

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene"), steps=100)


@pytest.fixture(scope="module")
def made(scene, tmp_path_factory):
    folder = tmp_path_factory.mktemp("declared")
    file = write_declared(folder / "declared")
    workspace = make_workspace(folder / "ws", scene, artists=str(file), pictures=40, steps=1)
    yield workspace
    workspace.close()


@pytest.fixture
def asked(monkeypatch):
    """The untouched model has answered that it learned red; probes by words are drawn, and attacks bring what the name does."""
    answering(monkeypatch, hits=40)

    def battery(plan, subjects, judges, folder, progress=None):
        words = tuple(probe for probe in plan.probes if probe.label in evidence.PROMPTS)
        found = run_battery(replace(plan, probes=words), subjects, judges, folder)
        return {probe.label: found.get(probe.label, found["direct"]) for probe in plan.probes}

    monkeypatch.setattr(evidence, "run_battery", battery)
    kept = evidence._kept
    monkeypatch.setattr(evidence, "_kept", lambda *about: (*map(seen_apart, kept(*about)), untouched()))


@pytest.fixture
def edited(made, asked, scene, monkeypatch):
    """Two erasers one after the other: the first hands over the untouched model with one tensor's last bits changed, so that it
    is another file; the second one that was never shown red."""

    def nearly(job):
        tensors = dict(load_tensors(job.source / MODEL)[0])
        name = next(one for one in tensors if one.startswith("unet.") and tensors[one].is_floating_point())
        return {**tensors, name: tensors[name] * 1.0001}

    def clean(job):
        return dict(TextToImageNet(scene.clean.unet, scene.clean.text_encoder).state_dict())

    def unlearn(self, job):
        tensors = {"uce": nearly, "rece": clean}[self.name](job)
        digest = save_tensors(job.target / MODEL, tensors)
        return FitResult(digest=digest, model=job.target / MODEL, transcript=None, seconds=0.0, steps=0)

    monkeypatch.setattr(Edit, "unlearn", unlearn)
    return made.run(made.request(block="red"), ["erasers/uce", "erasers/rece"])


def test_the_untouched_model_fails_and_an_edit_is_judged_and_certified_and_anybody_can_check_it(made, edited):
    """By judges who are made of the declared works, at the first attempt and at the second."""
    refused, accepted = edited.trials
    styles = [next(item for item in trial.findings if item.check == "style") for trial in edited.trials]
    assert [item.verdict for item in styles] == [Verdict.FAIL, Verdict.PASS], [item.reason for item in styles]
    assert styles[0].reason.startswith("NOT-ERASED")
    assert (refused.decision.accepted, accepted.decision.accepted, edited.guarantee) == (
        False,
        True,
        Guarantee.EMPIRICAL,
    )
    assert failed_steps(made, edited) == []
    style = styles[1]
    assert "2 artists and 4 control styles as the owner declared them, at 8x8" in style.details["scale"]
    for judge in ("reference_statistics", "reference_network"):
        assert float(style.details[f"judge.{judge}.accuracy"]) > 0.95
        assert int(style.details[f"judge.{judge}.accuracy.n"]) == 7 * 52
    for file in edited.certificate.path.parent.rglob("*"):
        assert not file.is_file() or b"rouge" not in file.read_bytes(), file.name
