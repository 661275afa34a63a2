"""When each slot is used: epochs, slices, batches and the learning rate, all computed without looking at any record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError
from expunge.training.recipe import Recipe
from expunge.training.rng import below, draws, shuffled

Slots = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The keyed order of one training over `slots` (ascending, tombstones included)."""

    recipe: Recipe
    seed: str
    slots: Slots

    def introduced(self) -> Slots:
        """Epoch in which each slot is first used, shape (N,), aligned with `slots`."""
        marks = self.recipe.introduce
        first = np.array([int(mark * self.recipe.epochs) for mark in marks], np.int64)
        if len(marks) == 1:
            return np.zeros(len(self.slots), np.int64)
        return first[below(draws(self.seed, "slice", 0, self.slots)[:, 0], len(marks))]

    def epoch_slots(self, epoch: int) -> Slots:
        """Slots in use in an epoch, in keyed order."""
        active = self.slots[self.introduced() <= epoch]
        return shuffled(self.seed, "order", epoch, active)

    def epoch_steps(self) -> list[int]:
        """Number of steps of each epoch."""
        introduced = self.introduced()
        counts = [int((introduced <= epoch).sum()) for epoch in range(self.recipe.epochs)]
        if counts[0] == 0:
            raise InputError("no record is used in the first epoch", hint="fewer slices or more records")
        return [-(-count // self.recipe.batch) for count in counts]

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return sum(self.epoch_steps())

    def batches(self, epoch: int) -> Iterator[Slots]:
        """Slots of each step of an epoch; an absent slot keeps its place here and is dropped when the batch is read."""
        order = self.epoch_slots(epoch)
        for start in range(0, len(order), self.recipe.batch):
            yield order[start : start + self.recipe.batch]

    def first_epoch(self, forget: frozenset[int]) -> int:
        """First epoch in which any of the slots is used; `epochs` when none belongs to this training."""
        mine = np.isin(self.slots, np.fromiter(forget, np.int64, len(forget)))
        return int(self.introduced()[mine].min()) if mine.any() else self.recipe.epochs

    def first_step(self, forget: frozenset[int]) -> int:
        """Global step that first reads any of the slots; `total_steps` when none belongs to this training."""
        epoch = self.first_epoch(forget)
        before = sum(self.epoch_steps()[:epoch])
        if epoch == self.recipe.epochs:
            return before
        for offset, batch in enumerate(self.batches(epoch)):
            if not forget.isdisjoint(batch.tolist()):
                return before + offset
        raise AssertionError("unreachable: a slot introduced in an epoch is in that epoch")

    def lr(self, step: int, total: int) -> float:
        """Learning rate of a global step: linear up, then linear down."""
        recipe = self.recipe
        position = (step + 1) / total
        if position <= recipe.warmup:
            return recipe.lr * position / recipe.warmup
        left = (1 - position) / (1 - recipe.warmup)
        return recipe.lr * (recipe.final_lr + (1 - recipe.final_lr) * left)
