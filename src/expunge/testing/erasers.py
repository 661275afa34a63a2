"""What every eraser of concepts must obey: it changes a copy, where it says, for this job, and the same way each time."""

from __future__ import annotations

import copy
import inspect
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from expunge.core import registry
from expunge.core.errors import InputError, IntegrityError
from expunge.data._pictures import Pictures
from expunge.testing.generators import make_picture_world, random_pictures
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.training.text_to_image.adapter import without_adapter
from expunge.training.text_to_image.erasing import Erased, EraseJob
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.sampler import TextToImage

CARD = ("EMPIRICAL", "Needs", "Cost:", "Fails")
PROMPTS: Mapping[str, str] = {artist: f"a car image in {artist} style" for artist in ("red", "blue")}
_FEW = {"steps": 3, "search_steps": 2, "saliency_steps": 2, "pictures": 4, "walks": 2, "moves": 3, "rounds": 1}
"""What is asked of an eraser that has settings of these names, so that the laws take seconds."""
_PICTURES = frozenset({"works", "retained"})


def fresh_model(folder: Path, family: str = "unet", seed: int = 0) -> TextToImage:
    """A tiny model for pictures of 8x8 that was never trained, as it comes out of a directory."""
    world = make_picture_world(folder, family=family)
    net: Any = world.adapter.module(torch.Generator().manual_seed(seed))
    export(net, folder / "model")
    return TextToImage.from_dir(folder / "model")


def works_of(artist: str) -> Pictures:
    """The training pictures of `red` or of `blue`."""
    return random_pictures().train.in_style(artist)


def colour_job(model: TextToImage, erase: str = "red", guide: str = "blue", seed: str = "ab" * 16) -> EraseJob:
    """Erase one of the two artists towards the other."""
    return EraseJob(
        model=model,
        erase=(PROMPTS[erase],),
        guide=(PROMPTS[guide],),
        preserve=(PROMPTS[guide],),
        seed=seed,
        works=works_of(erase),
        retained=works_of(guide),
    )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An eraser and a model that it may not change. Runs are made on first use."""

    name: str
    plugin: Any
    model: TextToImage

    @cached_property
    def before(self) -> dict[str, Tensor]:
        """All tensors of the given model, before anything ran."""
        return _tensors(self.model)

    @cached_property
    def first(self) -> Erased:
        """The first job's outcome."""
        assert self.before
        return self.run(colour_job(self.model))

    def run(self, job: EraseJob) -> Erased:
        """A fresh instance on a job, with few steps where it has steps."""
        known = inspect.signature(self.plugin).parameters
        found: Erased = self.plugin(**{key: value for key, value in _FEW.items() if key in known}).erase(job)
        return found


def _tensors(model: TextToImage) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": tensor.detach().clone()
        for part, network in model.networks.items()
        for name, tensor in network.state_dict().items()
    }


def _same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def card_says_guarantee_needs_cost_and_failure(subject: Subject) -> str | None:
    """A reader of the evidence must find out what the method is and when it fails."""
    missing = [word for word in CARD if word not in (subject.plugin.__doc__ or "")]
    return f"the card lacks {', '.join(missing)}" if missing else has_card(subject.plugin)


def is_an_eraser_of_its_name(subject: Subject) -> str | None:
    """name is the registered one; needs are of the pictures that a job may bring; changes is a regular expression."""
    if getattr(subject.plugin, "name", None) != subject.name:
        return f"name is {getattr(subject.plugin, 'name', None)!r}"
    if not (isinstance(subject.plugin.needs, frozenset) and subject.plugin.needs <= _PICTURES):
        return f"needs is {subject.plugin.needs!r}"
    re.compile(subject.plugin.changes)
    return None


def missing_pictures_are_refused(subject: Subject) -> str | None:
    """Without the pictures it needs it raises InputError; without the others it works."""
    without: dict[str, Any] = dict.fromkeys(_PICTURES - subject.plugin.needs)
    subject.run(replace(colour_job(subject.model), **without))
    for name in sorted(subject.plugin.needs):
        lacking: dict[str, Any] = {name: None}
        try:
            subject.run(replace(colour_job(subject.model), **lacking))
        except InputError:
            continue
        return f"it did without {name}, which it says it needs"
    return None


def given_model_stays(subject: Subject) -> str | None:
    """Tensors, mode and gradients of the job's networks are what they were."""
    _ = subject.first
    if not _same(_tensors(subject.model), subject.before):
        return "the model it was given has changed"
    networks = list(subject.model.networks.values())
    if any(network.training for network in networks):
        return "a network it was given is in training mode"
    touched = [weight for network in networks for weight in network.parameters()]
    return "gradients are left behind" if any(item.grad is not None or item.requires_grad for item in touched) else None


def same_job_gives_the_same_model(subject: Subject) -> str | None:
    """To the last bit."""
    again = subject.run(colour_job(subject.model))
    return None if _same(_tensors(again.model), _tensors(subject.first.model)) else "two runs of one job differ"


def another_job_gives_another_model(subject: Subject) -> str | None:
    """Erasing blue is not erasing red: prompts and pictures of the job decide."""
    other = subject.run(colour_job(subject.model, "blue", "red"))
    return "the job plays no part" if _same(_tensors(other.model), _tensors(subject.first.model)) else None


def only_declared_tensors_change(subject: Subject) -> str | None:
    """What `changes` does not name is equal to the last bit, under an adapter too; an addition is named as removable."""
    erased = subject.first
    found = erased.model
    if erased.removable == "adapter":
        found = found.with_unet(without_adapter(found.unet))
    after = _tensors(found)
    if after.keys() != subject.before.keys():
        return "tensors came or went, and nothing is named as removable"
    for name, old in subject.before.items():
        network, _, own = name.partition(".")
        allowed = network == "unet" and re.search(subject.plugin.changes, own)
        if not allowed and not torch.equal(after[name], old):
            return f"{name} has changed, which is not declared"
    return None


def the_concept_is_answered_otherwise(subject: Subject) -> str | None:
    """The denoiser's answer to the erased prompt is another than it was."""
    noisy, times = torch.zeros(1, 12, 4, 4), torch.tensor([500])
    with torch.no_grad():
        words = subject.model.encode([PROMPTS["red"]])
        old, new = (model.predict(noisy, times, words) for model in (subject.model, subject.first.model))
    return "nothing has changed" if torch.equal(old, new) else None


def what_comes_back_is_ready(subject: Subject) -> str | None:
    """The same classes, finite, in evaluation mode and without gradients."""
    unet = subject.first.model.unet
    if type(unet) is not type(subject.model.unet) or unet.training:
        return f"the denoiser is a {type(unet).__name__}, training: {unet.training}"
    if any(weight.requires_grad for weight in unet.parameters()):
        return "weights still ask for gradients"
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in _tensors(subject.first.model).values())
    return None if finite else "weights are not finite"


def figures_are_finite_numbers(subject: Subject) -> str | None:
    """Evidence holds no NaN."""
    bad = [name for name, value in subject.first.figures.items() if not np.isfinite(value)]
    return f"not finite: {', '.join(bad)}" if bad else None


def global_state_is_left_alone(subject: Subject) -> str | None:
    """Neither the random numbers of the process nor its threads are touched, nor is gradient mode."""

    def state() -> tuple[Any, ...]:
        kept = str(np.random.get_state(legacy=False))  # noqa: NPY002
        return torch.get_rng_state().tolist(), kept, torch.get_num_threads(), torch.is_grad_enabled()

    before = state()
    subject.run(colour_job(subject.model))
    return None if state() == before else "global random numbers, threads or gradient mode have changed"


def weights_that_are_no_numbers_are_refused(subject: Subject) -> str | None:
    """A damaged model raises, and is not passed on as erased."""
    unet = copy.deepcopy(subject.model.unet)
    damaged = next(weight for name, weight in unet.named_parameters() if name.endswith("attn2.to_v.weight"))
    damaged.data[0, 0] = float("nan")
    try:
        subject.run(colour_job(subject.model.with_unet(unet)))
    except (InputError, IntegrityError):
        return None
    return "a model with weights that are not finite was edited and handed back"


ERASER_LAWS: tuple[Law[Subject], ...] = (
    card_says_guarantee_needs_cost_and_failure,
    is_an_eraser_of_its_name,
    missing_pictures_are_refused,
    given_model_stays,
    same_job_gives_the_same_model,
    another_job_gives_another_model,
    only_declared_tensors_change,
    the_concept_is_answered_otherwise,
    what_comes_back_is_ready,
    figures_are_finite_numbers,
    global_state_is_left_alone,
    weights_that_are_no_numbers_are_refused,
)


def check_eraser(name: str) -> None:
    """Hold the registered eraser `name` to every law."""
    require("erasers", name, examine_eraser(registry.load("erasers", name), name=name))


def examine_eraser(plugin: Any, *, name: str, laws: Sequence[Law[Subject]] = ERASER_LAWS) -> tuple[Broken, ...]:
    """The broken laws of an eraser's class."""
    with tempfile.TemporaryDirectory(prefix="expunge-testing-") as folder:
        subject = Subject(name=name, plugin=plugin, model=fresh_model(Path(folder)))
        return examine(laws, subject)
