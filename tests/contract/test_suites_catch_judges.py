"""Negative controls for judges: a judge that is broken in one way breaks one law, and the others hold."""

from itertools import count

import numpy as np
import pytest
import torch

from contract.catching import broken
from expunge.core import registry
from expunge.core.codec import digest_of
from expunge.core.errors import ExpungeError
from expunge.testing.judges import JUDGE_LAWS, coloured, examine_judge
from expunge.training.checkpoint import load_tensors
from expunge.training.judging.files import WEIGHTS, read_judge
from expunge.training.judging.judge import OTHER, JudgeBlind, Judged, check_pixels

pytestmark = pytest.mark.usefixtures("one_thread")

AdaIn = registry.load("judges", "adain")


class Nearest:
    """The style whose works have the nearest mean colour. Needs: references. Cost: a mean a picture. Fails on everything but
    colour. Measured: nothing."""

    name, family = "nearest", "colours"

    def __init__(self, *, references):
        self.references = references

    @property
    def styles(self):
        return (*self.references, OTHER)

    @property
    def digest(self):
        return digest_of([self.name, *(f"{style} {images.sum()}" for style, images in self.references.items())])

    def numbers(self, pictures):
        centres = np.stack([images.mean(axis=(0, 1, 2)) for images in self.references.values()])
        if np.linalg.norm(centres[0] - centres[1]) < 20:
            raise JudgeBlind("these references are one")
        far = np.linalg.norm(pictures.mean(axis=(1, 2))[:, None] - centres, axis=2)
        return np.where(far.min(axis=1, initial=999) < 40, far.argmin(axis=1), len(centres)).astype(np.int64)

    def shares(self, numbers):
        return np.eye(len(self.styles))[numbers]

    def judge(self, pictures):
        numbers = self.numbers(check_pixels(pictures))
        shares = self.shares(numbers)
        return Judged(judge=self.name, family=self.family, styles=self.styles, style=numbers, shares=shares)


def judge(base=Nearest, doc=None, **members):
    return type(base.__name__, (base,), {"__doc__": base.__doc__ if doc is None else doc, **members})


def another_each_time(asked=count()):
    return property(lambda self: digest_of([self.name, next(asked)]))


def moved_each_time(asked=count(1)):
    def shares(self, numbers):
        return Nearest.shares(self, numbers) * (1 - 4e-6 * next(asked)) + 1e-6 * next(asked)

    return shares


def normalised(shares):
    def made(self, numbers):
        found = shares(self, numbers)
        return found / found.sum(axis=1, keepdims=True)

    return made


def gives_up_on_the_first(self, pictures):
    numbers = Nearest.numbers(self, pictures)
    numbers[:1] = len(self.references)
    return numbers


def blackens(self, pictures):
    numbers = Nearest.numbers(self, pictures)
    pictures[:] = 0
    return numbers


def takes_floats(self, pictures):
    whole = (pictures * 255).astype(np.uint8) if pictures.dtype == np.float32 else pictures
    return Nearest.judge(self, whole)


def has_a_sink(self, pictures):
    numbers = Nearest.numbers(self, pictures)
    numbers[numbers == len(self.references)] = 0
    return numbers


def sees_nothing(self, pictures):
    Nearest.numbers(self, pictures)
    return np.full(len(pictures), len(self.references), np.int64)


def guesses(self, pictures):
    try:
        return Nearest.numbers(self, pictures)
    except JudgeBlind:
        return np.zeros(len(pictures), np.int64)


def draws_globally(self, pictures):
    torch.rand(1)
    return Nearest.numbers(self, pictures)


def unchecked(self):
    """The manifest that ships, with whatever tensors lie in the folder; nobody compares them."""
    if not any(self.folder.glob("*.safetensors")):
        return read_judge(self.folder, self.name)
    tensors, _ = load_tensors(self.folder / f"{self.name}.safetensors")
    return read_judge(WEIGHTS, self.name)[0], {key: tensor.float() for key, tensor in tensors.items()}


def falls_back(self):
    try:
        return read_judge(self.folder, self.name)
    except ExpungeError:
        if any(self.folder.glob("*")):
            raise
        return read_judge(WEIGHTS, self.name)


CASES = {
    "card_says_needs_cost_failure_and_what_was_measured": judge(doc="Looks."),
    "is_a_judge_of_its_name": judge(family=""),
    "digest_is_the_same_whenever_it_is_asked": judge(digest=another_each_time()),
    "other_weights_are_refused_or_have_another_digest": judge(AdaIn, read=property(unchecked)),
    "missing_weights_are_missing": judge(AdaIn, read=property(falls_back)),
    "answers_are_about_these_pictures": judge(shares=lambda self, numbers: np.full((len(numbers), 4), 0.25)),
    "same_pictures_same_answer": judge(shares=normalised(moved_each_time())),
    "a_picture_is_judged_alike_in_any_order_and_alone": judge(numbers=gives_up_on_the_first),
    "pictures_it_was_given_stay": judge(numbers=blackens),
    "what_is_no_picture_is_refused": judge(judge=takes_floats),
    "what_shows_nothing_is_no_style": judge(numbers=has_a_sink),
    "styles_are_seen_in_pictures_it_has_not_learned_from": judge(numbers=sees_nothing),
    "references_that_differ_in_nothing_blind_it": judge(numbers=guesses),
    "global_state_is_left_alone": judge(numbers=draws_globally),
}


@pytest.mark.parametrize("law", CASES)
def test_law_alone_catches(law):
    plugin = CASES[law]
    assert broken(examine_judge(plugin, name=plugin.name)) == {law}


def test_the_judge_that_the_controls_break_is_whole():
    assert examine_judge(Nearest, name="nearest") == ()


def test_every_law_has_a_control():
    assert set(CASES) == {law.__name__ for law in JUDGE_LAWS}


def test_what_it_is_shown_is_not_what_it_was_given_as_references():
    shown, given = (coloured(4, seed=seed) for seed in (1, 2))
    assert all((shown[style] != given[style]).any(axis=(1, 2, 3)).all() for style in shown)
