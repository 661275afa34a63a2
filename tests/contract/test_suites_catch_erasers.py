"""Negative controls for erasers: each law is broken by an eraser that is caught by it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from contract.catching import broken, only
from expunge.core import registry
from expunge.core.errors import IntegrityError
from expunge.testing.erasers import ERASER_LAWS, colour_job, examine_eraser
from expunge.training.text_to_image.erasing import Erased, copy_of

Uce = registry.load("erasers", "uce")
Lora = registry.load("erasers", "lora")


def eraser(base=Uce, doc=None, **members):
    return type(base.__name__, (base,), {"__doc__": base.__doc__ if doc is None else doc, **members})


def with_bias(erased, value, name="conv_out.bias"):
    """The outcome with one more tensor changed."""
    unet = copy_of(erased.model).requires_grad_(False)
    unet.get_parameter(name).data.add_(value)
    return replace(erased, model=erased.model.with_unet(unet.eval()))


def changes_what_it_was_given(self, job):
    job.model.unet.conv_out.bias.data.add_(1)
    return Uce.erase(self, job)


def leaves_gradients(self, job):
    job.model.text_encoder.requires_grad_(True)
    return Uce.erase(self, job)


COUNT = itertools.count(1)


def never_the_same(self, job):
    return with_bias(Uce.erase(self, job), next(COUNT))


def ignores_the_job(self, job):
    return Uce.erase(self, colour_job(job.model))


def undeclared(self, job):
    return with_bias(Uce.erase(self, job), 1)


def hides_its_adapter(self, job):
    return replace(Lora.erase(self, job), removable="")


def does_nothing(self, job):
    return Erased(model=job.model)


def still_trains(self, job):
    erased = Uce.erase(self, job)
    erased.model.unet.train()
    return erased


def says_nan(self, job):
    return replace(Uce.erase(self, job), figures={"loss": float("nan")})


def draws_globally(self, job):
    torch.rand(1)
    return Uce.erase(self, job)


def draws_from_numpy(self, job):
    np.random.rand()  # noqa: NPY002
    return Uce.erase(self, job)


def passes_nan_on(self, job):
    try:
        return Uce.erase(self, job)
    except IntegrityError:
        return Erased(model=job.model)


@pytest.mark.parametrize(
    ("law", "base", "members"),
    [
        ("card_says_guarantee_needs_cost_and_failure", Uce, {"doc": "Erases."}),
        ("is_an_eraser_of_its_name", Uce, {"name": "other"}),
        ("is_an_eraser_of_its_name", Uce, {"needs": frozenset({"judge"})}),
        ("is_an_eraser_of_its_name", Uce, {"changes": "("}),
        ("missing_pictures_are_refused", Uce, {"needs": frozenset({"works"})}),
        ("given_model_stays", Uce, {"erase": changes_what_it_was_given}),
        ("given_model_stays", Uce, {"erase": leaves_gradients}),
        ("same_job_gives_the_same_model", Uce, {"erase": never_the_same}),
        ("another_job_gives_another_model", Uce, {"erase": ignores_the_job}),
        ("only_declared_tensors_change", Uce, {"erase": undeclared}),
        ("only_declared_tensors_change", Lora, {"erase": hides_its_adapter}),
        ("the_concept_is_answered_otherwise", Uce, {"erase": does_nothing}),
        ("what_comes_back_is_ready", Uce, {"erase": still_trains}),
        ("figures_are_finite_numbers", Uce, {"erase": says_nan}),
        ("global_state_is_left_alone", Uce, {"erase": draws_globally}),
        ("global_state_is_left_alone", Uce, {"erase": draws_from_numpy}),
        ("weights_that_are_no_numbers_are_refused", Uce, {"erase": passes_nan_on}),
    ],
)
def test_law_catches(law, base, members):
    plugin = eraser(base, **members)
    assert broken(examine_eraser(plugin, name=base.name, laws=only(ERASER_LAWS, law))) == {law}


def test_every_law_has_a_control():
    (mark,) = test_law_catches.pytestmark
    assert {case[0] for case in mark.args[1]} == {law.__name__ for law in ERASER_LAWS}
