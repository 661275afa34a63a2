"""What every text-to-image family must obey: trained by the loop's laws, replayed as if retrained, steered by captions."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from expunge.core import registry
from expunge.data._pictures import Pictures, PictureSet
from expunge.evidence.manifest import leaves_of
from expunge.testing import adapters
from expunge.testing.adapters import Subject
from expunge.testing.laws import Broken, Law, examine, require
from expunge.testing.world import Guarded, World
from expunge.training.batches import Leaves
from expunge.training.recipe import parse_recipe

_RECORDS, _SIZE = 16, 8
_KEY = b"\x01" * 32


class PictureWorld(World):
    """A world whose records are captioned pictures."""

    def guarded(self, forbidden: frozenset[int]) -> Any:
        """The same records, where reading a forbidden one raises ForgottenRead."""
        train: Any = replace(self.data.train, images=Guarded(self.data.train.images, forbidden))
        return replace(self.data, train=train)


def random_pictures(records: int = _RECORDS, size: int = _SIZE, *, seed: int = 0) -> PictureSet:
    """Two artists' pictures of noise around their own colours, and as many of another seed. Always the same bytes."""

    def draw(split: str, seed: int) -> Pictures:
        generator = np.random.Generator(np.random.Philox(seed))
        artists = tuple(("red", "blue")[number % 2] for number in range(records))
        means = np.array([(200, 40, 40) if artist == "red" else (40, 40, 200) for artist in artists])
        noise = generator.integers(-40, 40, (records, size, size, 3))
        return Pictures(
            ids=tuple(f"{split}/{number:02d}" for number in range(records)),
            images=(means[:, None, None] + noise).astype(np.uint8),
            captions=tuple(f"a car image in {artist} style" for artist in artists),
            styles=artists,
            objects=("automobile",) * records,
            blocks=artists,
        )

    train, test = draw("works", seed), draw("test", seed + 1)
    return PictureSet(
        source="random", note="random", styles=("red", "blue"), objects=("automobile",), train=train, test=test
    )


def make_picture_world(folder: Path, *, family: str, plugin: Any = None, **settings: Any) -> PictureWorld:
    """A world of 16 random pictures of 8x8; `settings` override the tiny recipe, `plugin` stands in for the class."""
    plain = {
        "name": "tiny",
        "solver": "adamw",
        "family": family,
        "model": {"width": 8, "text_width": 16, "text_layers": 1},
        "epochs": 2,
        "batch": 8,
        "lr": 0.01,
        "final_lr": 0.1,
        "threads": 1,
        "introduce": (0.0, 0.5),
        **settings,
    }
    data = random_pictures()
    train = data.train
    digests = [train.content_digest(slot) for slot in range(len(train))]
    pairs = [leaves_of(_KEY, name, digest) for name, digest in zip(train.ids, digests, strict=True)]
    leaves = Leaves(ids=[pair[0] for pair in pairs], contents=[pair[1] for pair in pairs], digests=digests)
    adapter = (plugin or registry.load("generators", family))(parse_recipe(plain), **data.geometry)
    return PictureWorld(adapter=adapter, data=data, leaves=leaves, folder=folder, settings=settings)


def replay_is_retraining(subject: Subject) -> str | None:
    """Replay from the last checkpoint before a work's first use gives the weights of a training without it."""
    world = subject.world
    late = _first_used_late(world)
    if late is None:
        return "no work is first used late: the law cannot be tried"
    forget = frozenset({late})
    source = world.job("first").folder
    _ = subject.first
    job = replace(world.job("replayed", forget), data=world.guarded(forget))
    replayed = world.adapter.replay(job, source, forget)
    retrained = world.fit("retrained", forget)
    if replayed.digest == subject.first.digest:
        return "the replay is the original"
    return None if replayed.digest == retrained.digest else "replay and retraining differ"


def _first_used_late(world: World) -> int | None:
    job = world.job("schedule")
    return next((slot for slot in range(_RECORDS) if world.adapter.first_use(job, frozenset({slot})) > 0), None)


def captions_steer(subject: Subject) -> str | None:
    """The same noise with another caption leads to another prediction; the same caption to the same."""
    module = subject.world.adapter.load(subject.first.model)[0]
    batch = subject.world.adapter.source(subject.world.job("read")).batch(np.arange(4), 0, 0.0)
    noisy, times, tokens = batch.inputs
    with torch.no_grad():
        mine, again, other = (module(noisy, times, words) for words in (tokens, tokens, tokens.flip(0)))
    if not torch.equal(mine, again):
        return "two answers to one question differ"
    return "the caption plays no part" if torch.equal(mine, other) else None


def works_are_better_known_when_trained_on(subject: Subject) -> str | None:
    """outputs is (N, levels), finite, the same in any batch, and better for the works than before any training."""
    adapter, works = subject.world.adapter, subject.world.data.train
    model = adapter.load(subject.first.model)
    known = adapter.outputs(model, works)
    if known.ndim != 2 or known.shape[0] != len(works) or not np.isfinite(known).all():
        return f"shape {known.shape}, or not finite"
    alone = adapter.outputs(model, works.only([0]))
    if not np.allclose(alone, known[:1], atol=1e-5):
        return "an answer depends on the other pictures of the batch"
    fresh = adapter.outputs([adapter.module(torch.Generator().manual_seed(1)).eval()], works)
    return None if known.mean() > fresh.mean() else "the training taught nothing"


def a_work_answers_by_its_place(subject: Subject) -> str | None:
    """outputs of some rows are what the same works answer among all: a bank asks about all works, and a judgement about few."""
    adapter, works = subject.world.adapter, subject.world.data.train
    model = adapter.load(subject.first.model)
    some = adapter.outputs(model, works, [5, 2])
    whole = adapter.outputs(model, works)
    return (
        None if np.allclose(some, whole[[5, 2]], atol=1e-5) else "a work is asked something else when fewer are asked"
    )


GENERATOR_LAWS: tuple[Law[Subject], ...] = (
    adapters.is_an_adapter_of_its_name,
    adapters.same_job_gives_the_same_weights,
    adapters.every_learned_tensor_starts_afresh,
    adapters.finished_job_is_read_back,
    adapters.same_classes_and_keys_come_back,
    adapters.truncated_or_foreign_file_is_refused,
    adapters.one_present_row_or_none_trains,
    adapters.absent_record_leaves_the_schedule,
    adapters.derived_state_is_named,
    replay_is_retraining,
    captions_steer,
    works_are_better_known_when_trained_on,
    a_work_answers_by_its_place,
)


def check_generator(name: str) -> None:
    """Hold the registered text-to-image family `name` to every law."""
    require("generators", name, examine_generator(registry.load("generators", name), name=name))


def examine_generator(plugin: Any, *, name: str, laws: Sequence[Law[Subject]] = GENERATOR_LAWS) -> tuple[Broken, ...]:
    """The broken laws of a family's class; `name` is a registered family, whose recipe schema it shares."""
    with tempfile.TemporaryDirectory(prefix="expunge-testing-") as folder:
        world = make_picture_world(Path(folder), family=name, plugin=plugin)
        return examine(laws, Subject(name=name, plugin=plugin, world=world))
