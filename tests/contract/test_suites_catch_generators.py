"""Negative controls for text-to-image families: each law of their own is broken by a family that is caught by it."""

from dataclasses import replace

import pytest
import torch

from contract.catching import broken, only
from expunge.core import registry
from expunge.testing.generators import GENERATOR_LAWS, examine_generator

TextUNet = registry.load("generators", "unet")


def family(**members):
    return type("TextUNet", (TextUNet,), {"__doc__": "A family.", **members})


def deaf(self, generator):
    net = TextUNet.module(self, generator)
    plain = net.forward
    net.forward = lambda noisy, times, tokens: plain(noisy, times, torch.ones_like(tokens))
    return net


def still_reads_the_work(self, job, source, forget):
    return TextUNet.fit(self, replace(job, absent=job.absent - forget))


def hands_the_original_back(self, job, source, forget):
    return TextUNet.fit(self, replace(job, folder=source, absent=job.absent - forget))


def backwards(self, model, pictures, rows=None):
    return -TextUNet.outputs(self, model, pictures, rows)


def by_position(self, model, pictures, rows=None):
    return TextUNet.outputs(self, model, pictures if rows is None else pictures.only(rows))


@pytest.mark.parametrize(
    ("law", "members"),
    [
        ("captions_steer", {"module": deaf}),
        ("replay_is_retraining", {"replay": still_reads_the_work}),
        ("replay_is_retraining", {"replay": hands_the_original_back}),
        ("works_are_better_known_when_trained_on", {"outputs": backwards}),
        ("a_work_answers_by_its_place", {"outputs": by_position}),
    ],
)
def test_law_catches(law, members):
    assert broken(examine_generator(family(**members), name="unet", laws=only(GENERATOR_LAWS, law))) == {law}
