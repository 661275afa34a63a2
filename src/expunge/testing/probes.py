"""What every probe of a style must obey: it draws what the job asks, the same each time, from a model that it leaves alone."""

from __future__ import annotations

import ast
import copy
import inspect
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from expunge.core import registry
from expunge.core.errors import CheckBroken, ExpungeError, InputError
from expunge.testing.erasers import PROMPTS, fresh_model
from expunge.testing.generators import random_pictures
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.training.text_to_image.probing import NEEDS, Group, Probed, ProbeJob, Wording
from expunge.training.text_to_image.sampler import Sampling, TextToImage

CARD = ("Needs ", "Settings:", "Cost:", "Fails:")
_FOREIGN = ("expunge.judges", "expunge.training.judging", "expunge.probes", "expunge.workflow", "expunge.apps")
_CLOSE = 3
"""Grey levels that sums over another batch may move a picture by."""
_SEEDS, _PICTURES, _STEPS, _SIZE = 2, 2, 2, 8


def colour_wording(artist: str) -> Wording:
    """How the tiny pictures' `red` or `blue` artist is asked for."""
    return Wording(
        direct=lambda _name, _number: PROMPTS[artist],
        other={"plain": lambda _name, _number: f"a car in {artist}"},
        described=lambda _name, _number: "a car in a bright colour",
        neutral=lambda _name: "a car",
        open_=lambda _name: "a car image in * style",
    )


def colour_probe_job(model: TextToImage, stock: TextToImage, *, seed: str = "ab" * 16) -> ProbeJob:
    """`red` asked for from a model of 8x8 pictures, with everything that a probe may need, at the smallest budget."""
    test = random_pictures().test
    red, blue = test.in_style("red"), test.in_style("blue")
    return ProbeJob(
        model=model,
        wording=colour_wording("red"),
        objects=("automobile",),
        works=red,
        photos={"automobile": blue.images},
        stock=stock,
        unrelated=blue,
        seed=seed,
        seeds=_SEEDS,
        pictures=_PICTURES,
        how=Sampling(seed=seed, steps=_STEPS),
        budget=0.02,
    )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A probe and a job whose models it may not change. Runs are made on first use."""

    name: str
    plugin: Any
    job: ProbeJob

    @cached_property
    def before(self) -> list[Any]:
        """Everything that the job holds, before anything ran."""
        return _held(self.job)

    @cached_property
    def first(self) -> Probed:
        """The job's pictures."""
        assert self.before
        return self.run(self.job)

    def run(self, job: ProbeJob) -> Probed:
        """A fresh instance on a job."""
        found: Probed = self.plugin().run(job)
        return found


def _held(job: ProbeJob) -> list[Any]:
    weights = [tensor.detach().clone() for model in _models(job) for tensor in _tensors(model)]
    others = job.unrelated.images if job.unrelated is not None else job.works.images
    return [*weights, *(torch.from_numpy(np.array(a)) for a in (job.works.images, others, *job.photos.values()))]


def _models(job: ProbeJob) -> list[TextToImage]:
    return [job.model] if job.stock is None else [job.model, job.stock]


def _tensors(model: TextToImage) -> list[Tensor]:
    return [tensor for part in model.networks.values() for tensor in part.state_dict().values()]


def card_says_needs_settings_cost_and_failure(subject: Subject) -> str | None:
    """A reader of the evidence must find out what the attacker has, what it costs, and what its silence is worth."""
    missing = [word.strip() for word in CARD if word not in (subject.plugin.__doc__ or "")]
    return f"the card lacks {', '.join(missing)}" if missing else has_card(subject.plugin)


def is_a_probe_of_its_name(subject: Subject) -> str | None:
    """name is the registered one; group says who can do it; needs are of those that a job may bring."""
    if getattr(subject.plugin, "name", None) != subject.name:
        return f"name is {getattr(subject.plugin, 'name', None)!r}"
    if subject.plugin.group not in get_args(Group):
        return f"group is {subject.plugin.group!r}"
    needs = subject.plugin.needs
    return None if isinstance(needs, frozenset) and needs <= NEEDS else f"needs is {needs!r}"


def never_meets_a_judge(subject: Subject) -> str | None:
    """Its file imports no judge, no other probe, and nothing of the floors above: who draws does not look."""
    source = inspect.getsource(sys.modules[subject.plugin.__module__])
    named = [
        f"{node.module}.{one.name}" if isinstance(node, ast.ImportFrom) else one.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for one in node.names
    ]
    found = sorted(name for name in named if name.startswith(_FOREIGN))
    return f"it imports {', '.join(found)}" if found else None


def missing_needs_are_refused(subject: Subject) -> str | None:
    """Without what it needs it raises CheckBroken, for then it would show nothing; without the others it works."""
    empty: dict[str, Any] = {"works": subject.job.works.only([]), "photos": {}, "stock": None, "unrelated": None}
    needless = {name: value for name, value in empty.items() if name not in subject.plugin.needs}
    subject.run(replace(subject.job, **needless))
    for name in sorted(subject.plugin.needs):
        lacking = {name: empty[name]}
        try:
            subject.run(replace(subject.job, **lacking))
        except CheckBroken:
            continue
        return f"it did without {name}, which it says it needs"
    return None


def settings_out_of_range_are_refused(subject: Subject) -> str | None:
    """Each number among its settings: -1 and, where it is a decimal, what is no number raise InputError."""
    for name, setting in inspect.signature(subject.plugin).parameters.items():
        values: list[Any] = [] if isinstance(setting.default, bool) else [-1]
        if isinstance(setting.default, float):
            values = [-1.0, float("nan"), float("inf")]
        elif not isinstance(setting.default, int):
            values = []
        for value in values:
            try:
                subject.plugin(**{name: value})
            except InputError:
                continue
            return f"{name}={value} was taken"
    return None


def pictures_are_as_asked(subject: Subject) -> str | None:
    """(S, n, H, W, 3) uint8, and the object of each of the n."""
    found, job = subject.first, subject.job
    wanted = (job.seeds, job.pictures, _SIZE, _SIZE, 3)
    if found.images.shape != wanted or found.images.dtype != np.uint8:
        return f"images are {found.images.dtype} {found.images.shape}, not uint8 {wanted}"
    return None if list(found.objects) == job.asked() else f"objects are {found.objects}"


def same_job_gives_the_same_pictures(subject: Subject) -> str | None:
    """To the last bit, and the same figures."""
    first, again = subject.first, subject.run(subject.job)
    same = first.figures.keys() == again.figures.keys()
    same = same and all(np.array_equal(first.figures[key], again.figures[key], equal_nan=True) for key in first.figures)
    return None if same and np.array_equal(first.images, again.images) else "two runs of one job differ"


def another_seed_gives_other_pictures(subject: Subject) -> str | None:
    """Within a job and between jobs; otherwise eight runs are one run counted eight times."""
    images = subject.first.images
    if np.array_equal(images[0], images[1]):
        return "two seeds of a job give the same pictures"
    other = subject.run(replace(subject.job, seed="cd" * 16))
    return "the job's seed plays no part" if np.array_equal(other.images, images) else None


def a_seed_alone_gives_what_it_gives_among_others(subject: Subject) -> str | None:
    """Runs are independent, or counting them is worth nothing."""
    alone = subject.run(replace(subject.job, seeds=1)).images[0].astype(int)
    apart = int(np.abs(alone - subject.first.images[0].astype(int)).max())
    return None if apart <= _CLOSE else f"the first seed's pictures differ by {apart} grey levels when it is alone"


def another_model_gives_other_pictures(subject: Subject) -> str | None:
    """The job's model is the one that draws."""
    unet: Any = copy.deepcopy(subject.job.model.unet)
    unet.conv_out.bias.data.add_(0.5)
    found = subject.run(replace(subject.job, model=subject.job.model.with_unet(unet)))
    return "the model plays no part" if np.array_equal(found.images, subject.first.images) else None


def what_the_job_holds_stays(subject: Subject) -> str | None:
    """Tensors, mode and gradients of both models, and the pictures that were given."""
    _ = subject.first
    if not all(torch.equal(old, new) for old, new in zip(subject.before, _held(subject.job), strict=True)):
        return "the models or pictures of the job have changed"
    networks = [part for model in _models(subject.job) for part in model.networks.values()]
    if any(network.training for network in networks):
        return "a network is in training mode"
    weights = [weight for network in networks for weight in network.parameters()]
    return "gradients are left behind" if any(w.grad is not None or w.requires_grad for w in weights) else None


def figures_are_finite_numbers_a_seed(subject: Subject) -> str | None:
    """(S,) each; evidence holds no NaN."""
    seeds = (subject.job.seeds,)
    bad = [
        name for name, value in subject.first.figures.items() if value.shape != seeds or not np.isfinite(value).all()
    ]
    return f"not a finite number a seed: {', '.join(bad)}" if bad else None


def global_state_is_left_alone(subject: Subject) -> str | None:
    """Neither the random numbers of the process nor its threads are touched, nor is gradient mode."""

    def state() -> tuple[Any, ...]:
        kept = str(np.random.get_state(legacy=False))  # noqa: NPY002
        return torch.get_rng_state().tolist(), kept, torch.get_num_threads(), torch.is_grad_enabled()

    before = state()
    subject.run(subject.job)
    return None if state() == before else "global random numbers, threads or gradient mode have changed"


def weights_that_are_no_numbers_are_refused(subject: Subject) -> str | None:
    """A damaged model raises: its silence is no evidence that a style is gone."""
    unet: Any = copy.deepcopy(subject.job.model.unet)
    unet.conv_out.bias.data[0] = float("nan")
    try:
        subject.run(replace(subject.job, model=subject.job.model.with_unet(unet)))
    except ExpungeError:
        return None
    return "a model with weights that are not finite was drawn with"


PROBE_LAWS: tuple[Law[Subject], ...] = (
    card_says_needs_settings_cost_and_failure,
    is_a_probe_of_its_name,
    never_meets_a_judge,
    missing_needs_are_refused,
    settings_out_of_range_are_refused,
    pictures_are_as_asked,
    same_job_gives_the_same_pictures,
    another_seed_gives_other_pictures,
    a_seed_alone_gives_what_it_gives_among_others,
    another_model_gives_other_pictures,
    what_the_job_holds_stays,
    figures_are_finite_numbers_a_seed,
    global_state_is_left_alone,
    weights_that_are_no_numbers_are_refused,
)


def check_probe(name: str) -> None:
    """Hold the registered probe `name` to every law."""
    require("probes", name, examine_probe(registry.load("probes", name), name=name))


def examine_probe(plugin: Any, *, name: str, laws: Sequence[Law[Subject]] = PROBE_LAWS) -> tuple[Broken, ...]:
    """The broken laws of a probe's class."""
    model, stock = (_copied(_fresh(seed)) for seed in (0, 1))
    return examine(laws, Subject(name=name, plugin=plugin, job=colour_probe_job(model, stock)))


@cache
def _fresh(seed: int) -> TextToImage:
    with tempfile.TemporaryDirectory(prefix="expunge-testing-") as folder:
        return fresh_model(Path(folder), seed=seed)


def _copied(model: TextToImage) -> TextToImage:
    """Networks of its own: a probe may break them."""
    own: dict[str, Any] = copy.deepcopy(model.networks)
    return replace(model, **own)
