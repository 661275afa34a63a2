"""A small bank in one process: complementary halves, arms made from them, and probes run on every model of an arm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core.protocols import FitJob, Measured, ProbeJob
from expunge.stats.pixels import nearest
from expunge.testing.world import World
from expunge.training.loop import numerics, numerics_of
from expunge.training.rng import derive_seed

Measurement = Mapping[str, Any]
Wrap = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One model of an arm: its weights, those of its partner, and its training without the block."""

    weights: Path
    partner: Path
    fit: FitJob


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The model of a pair that never saw the block, and the one that did."""

    out: Standing
    into: Standing


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A world, its block, and the records that probes look at beside it."""

    world: World
    block: tuple[int, ...]
    neighbours: tuple[int, ...]
    retained: tuple[int, ...]
    seed: int = 7

    @classmethod
    def of(
        cls,
        world: World,
        block: Sequence[int],
        *,
        neighbours: int,
        retained: int,
        same_label: bool = False,
        seed: int = 7,
    ) -> Bench:
        """The `neighbours` nearest records of each block record together (of its label only, if `same_label`), and a
        sample of the rest."""
        others = np.setdiff1d(np.arange(len(world.data.train)), np.array(block))
        images, labels = world.data.train.images, world.data.train.labels
        pools = [others[labels[others] == labels[slot]] if same_label else others for slot in block]
        found = [
            pool[nearest(images[[slot]], images[pool], neighbours)] for slot, pool in zip(block, pools, strict=True)
        ]
        near = np.unique(np.concatenate(found))
        rest = np.setdiff1d(others, near)
        sample = np.random.default_rng(seed).choice(rest, min(retained, len(rest)), replace=False)
        return cls(
            world=world,
            block=tuple(block),
            neighbours=tuple(near.tolist()),
            retained=tuple(np.sort(sample).tolist()),
            seed=seed,
        )

    def pairs(self, count: int) -> list[Pair]:
        """Trained models on random complementary halves of the records outside the block; IN has the block too."""
        others = np.setdiff1d(np.arange(len(self.world.data.train)), np.array(self.block))
        pairs = []
        for k in range(count):
            order = np.random.default_rng(10_000 * self.seed + k).permutation(others)
            half, rest = np.sort(order[::2]).tolist(), np.sort(order[1::2]).tolist()
            into = self.trained(f"in-{k}", sorted([*half, *self.block]))
            out = self.trained(f"out-{k}", rest)
            pairs.append(Pair(out=replace(out, partner=into.weights), into=into))
        return pairs

    def trained(self, name: str, universe: Sequence[int], *, seed: str | None = None) -> Standing:
        """A model trained on these slots, its own partner."""
        world = self.world
        own = seed or derive_seed(world.seed, name)
        job = world.job(name, universe=tuple(universe), seed=own, keep_checkpoints=False, leaves=None)
        weights = world.adapter.fit(job).model
        return Standing(weights=weights, partner=weights, fit=replace(job, absent=frozenset(self.block)))

    def unlearned(self, name: str, pairs: Sequence[Pair], make: Callable[[FitJob, Path], Path]) -> list[Standing]:
        """An X arm: `make(job, weights of IN)` writes a model into the job's folder and returns its file."""
        arm = []
        for k, pair in enumerate(pairs):
            job = replace(pair.into.fit, folder=self.world.folder / f"{name}-{k}")
            weights = make(job, pair.into.weights)
            arm.append(replace(pair.into, weights=weights, partner=pair.into.weights))
        return arm

    def job(self, standing: Standing, wrap: Wrap | None = None) -> ProbeJob:
        """What a probe gets; `wrap` may stand between the probe and the adapter, as a saboteur does."""
        adapter = self.world.adapter
        return ProbeJob(
            adapter=adapter if wrap is None else wrap(adapter),
            model=adapter.load(standing.weights),
            weights=standing.weights,
            partner=standing.partner,
            fit=replace(standing.fit, folder=self.world.folder / "scratch"),
            data=self.world.data,
            block=self.block,
            neighbours=self.neighbours,
            retained=self.retained,
            population=tuple(range(len(self.world.data.test))),
            seed=self.seed,
        )

    def measure(self, plugin: Any, arm: Iterable[Standing], wrap: Wrap | None = None) -> list[Measurement]:
        """The probe on every model of an arm."""
        with numerics(numerics_of(self.world.adapter.recipe)):
            return [plugin().measure(self.job(standing, wrap)) for standing in arm]

    def measured(self, plugin: Any, pairs: Sequence[Pair], unlearned: Sequence[Standing] | None = None) -> Measured:
        """The probe on O, I and X."""
        return Measured(
            out=self.measure(plugin, [pair.out for pair in pairs]),
            into=self.measure(plugin, [pair.into for pair in pairs]),
            unlearned=None if unlearned is None else self.measure(plugin, unlearned),
        )


def retrained(adapter: Any) -> Callable[[FitJob, Path], Path]:
    """The honest arm: the IN half without the block, from scratch."""

    def make(job: FitJob, _: Path) -> Path:
        model: Path = adapter.fit(job).model
        return model

    return make


def finetuned(adapter: Any, **settings: Any) -> Callable[[FitJob, Path], Path]:
    """The weak arm: a few epochs on the retained records."""

    def make(job: FitJob, start: Path) -> Path:
        model: Path = adapter.tune(replace(job, seed=derive_seed(job.seed, "x")), start, settings).model
        return model

    return make
