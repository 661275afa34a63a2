"""Negative controls for model families: every law of their suite is broken by a family that is caught by it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contract.catching import broken, only
from expunge.core import registry
from expunge.testing import (
    ADAPTER_LAWS,
    examine_adapter,
)
from expunge.training.checkpoint import load_tensors, save_tensors

Mlp = registry.load("models", "mlp")


def family(**members):
    return type("Mlp", (Mlp,), {"__doc__": "A family.", **members})


def global_noise(self, generator):
    net = Mlp.module(self, generator)
    with torch.no_grad():
        net[-1].bias.add_(torch.rand(4))
    return net


def ignores_the_seed(self, job):
    return Mlp.fit(self, replace(job, seed="0" * 32))


def frozen_at_another_runs_weights(self, job):
    """The second layer is taken over from whatever this process trained first."""
    result = Mlp.fit(self, job)
    tensors, metadata = load_tensors(result.model)
    kept = KEPT.setdefault("3.weight", tensors["3.weight"])
    return replace(result, digest=save_tensors(result.model, {**tensors, "3.weight": kept}, metadata))


KEPT: dict[str, torch.Tensor] = {}


def fit_again(self, job):
    (job.folder / "model.safetensors").unlink(missing_ok=True)
    (job.folder / "transcript.jsonl").unlink(missing_ok=True)
    return Mlp.fit(self, job)


class Wrapped(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


def keeps_threads(self, job):
    torch.set_num_threads(torch.get_num_threads() + 1)
    return Mlp.fit(self, job)


def draws_globally(self, job):
    torch.rand(1)
    return Mlp.fit(self, job)


def loads_anything(self, path):
    try:
        return Mlp.load(self, path)
    except Exception:  # noqa: BLE001
        return [self.module(torch.Generator().manual_seed(0)).eval()]


def shifted_schedule(self, job, slots):
    return Mlp.first_use(self, job, slots) + len(job.absent)


def refuses_small_batches(self, job):
    if len(job.absent) > 10:
        raise ValueError("Expected more than 1 value per channel when training")
    return Mlp.fit(self, job)


def probabilities(self, model, images):
    return np.exp(Mlp.outputs(self, model, images))


def centred_outputs(self, model, images):
    logs = Mlp.outputs(self, model, images)
    shifted = logs + np.arange(4, dtype=np.float32) * (len(images) > 1)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def unseeded_curvatures(self, model, images, labels, **options):
    found = Mlp.curvatures(self, model, images, labels, **options)
    return found + 1e-3 * np.random.default_rng().random(found.shape).astype(np.float32)


def biased_projection(self, model, images, labels, *, project=0, seed=0):
    found = Mlp.gradients(self, model, images, labels)
    return found[:, :project] if project else found


def looks_in_training_mode(self, model, images):
    found = Mlp.features(self, model, images)
    for module in model:
        module.train()
    return found


def leaves_gradients(self, model, images, labels):
    pixels = torch.zeros(1, self.shape[2], *self.shape[:2])
    model[0](pixels).sum().backward()
    return Mlp.gradient_norms(self, model, images, labels)


ADAPTERS = {
    "is_an_adapter_of_its_name": [family(family_name="x", __doc__=""), family(derived_state=None, outputs=None)],
    "same_job_gives_the_same_weights": [family(module=global_noise), family(fit=ignores_the_seed)],
    "every_learned_tensor_starts_afresh": [family(fit=frozen_at_another_runs_weights)],
    "finished_job_is_read_back": [family(fit=fit_again)],
    "same_classes_and_keys_come_back": [
        family(load=lambda self, path: [Wrapped(m).eval() for m in Mlp.load(self, path)]),
        family(load=lambda self, path: [m.train() for m in Mlp.load(self, path)]),
        family(load=lambda self, path: {"weights": 1}),
    ],
    "truncated_or_foreign_file_is_refused": [family(load=loads_anything)],
    "outputs_are_log_probabilities": [family(outputs=probabilities), family(outputs=centred_outputs)],
    "global_state_is_left_alone": [family(fit=keeps_threads), family(fit=draws_globally)],
    "one_present_row_or_none_trains": [family(fit=refuses_small_batches)],
    "absent_record_leaves_the_schedule": [family(first_use=shifted_schedule)],
    "gradients_are_the_slope_of_the_loss": [
        family(gradients=lambda self, m, x, y, **k: -Mlp.gradients(self, m, x, y, **k)),
        family(flat_weights=lambda self, m: Mlp.flat_weights(self, m)[::-1]),
    ],
    "readings_of_the_inside_agree": [
        family(gradient_norms=lambda self, m, x, y: Mlp.gradient_norms(self, m, x, y) ** 2),
        family(features=lambda self, m, x: Mlp.features(self, m, x) + len(x)),
        family(curvatures=lambda self, m, x, y, **k: Mlp.curvatures(self, m, x, y, **k)[:-1]),
        family(curvatures=unseeded_curvatures),
        family(gradients=biased_projection),
    ],
    "looking_inside_changes_nothing": [
        family(features=looks_in_training_mode),
        family(gradient_norms=leaves_gradients),
    ],
    "derived_state_is_named": [family(derived_state=lambda self: ()), family(derived_state=lambda self: "weights")],
}


def test_every_law_of_the_families_has_a_negative_control():
    assert set(ADAPTERS) == {law.__name__ for law in ADAPTER_LAWS}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("law", "plugin"), [(law, plugin) for law, plugins in ADAPTERS.items() for plugin in plugins])
def test_family_that_breaks_a_law_is_caught_by_it(threads, law, plugin):
    KEPT.clear()
    assert law in broken(examine_adapter(plugin, name="mlp", laws=only(ADAPTER_LAWS, law)))
