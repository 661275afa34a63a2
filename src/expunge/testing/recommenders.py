"""What every recommender must obey: deleting is retraining, and doing nothing is not deleting.

A family with sums over users must also take users out of the sums; one that is iterated is only retrained.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.protocols import FitJob, FitResult, HasSufficientStatistics, HasWarmStart, ModelAdapter
from expunge.data._interactions import Interactions
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.testing.users import (
    CLOSED_FORM,
    ITEMS,
    USERS,
    posing_as,
    random_interactions,
    tiny_recipe,
)
from expunge.testing.world import SEED, tree_digest
from expunge.training.checkpoint import load_tensors
from expunge.training.loop import numerics_of

FORGET = frozenset({3, 17})
TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A family on `USERS` random users."""

    name: str
    plugin: type
    folder: Path

    @cached_property
    def data(self) -> Interactions:
        """Train and test users over the same items."""
        return random_interactions()

    @cached_property
    def adapter(self) -> Any:
        """The family with its own defaults."""
        return self.another()

    def another(self) -> Any:
        """The same family again, knowing nothing of what the first was used for."""
        return self.plugin(tiny_recipe(self.name, self.plugin), items=ITEMS)

    @property
    def subtracts(self) -> bool:
        """Users can be taken out of its sums."""
        return isinstance(self.adapter, HasSufficientStatistics)

    def job(self, label: str, absent: frozenset[int] = frozenset()) -> FitJob:
        """A training in a folder of its own."""
        return FitJob(
            recipe=self.adapter.recipe.model_dump(),
            seed=SEED,
            numerics=numerics_of(self.adapter.recipe, 1),
            data=self.data,
            folder=self.folder / label,
            absent=absent,
        )

    @cached_property
    def original(self) -> FitResult:
        """Everybody is in it."""
        return self.adapter.fit(self.job("original"))  # type: ignore[no-any-return]

    @cached_property
    def retrained(self) -> FitResult:
        """Nobody of `FORGET` ever was."""
        return self.adapter.fit(self.job("retrained", FORGET))  # type: ignore[no-any-return]

    def scores(self, result: FitResult) -> NDArray[np.float64]:
        """Answers to all test users."""
        rows = self.data.test.matrix()
        return np.asarray(self.adapter.outputs(self.adapter.load(result.model), rows))


def is_a_recommender_of_its_name(subject: Subject) -> str | None:
    """The file's name is the family's, the protocols are met, and the card says what it is."""
    if subject.adapter.family != subject.name:
        return f"family is {subject.adapter.family!r}"
    closed_form = getattr(subject.adapter.recipe, "solver", None) == CLOSED_FORM
    for protocol in (ModelAdapter, HasSufficientStatistics) if closed_form else (ModelAdapter,):
        if not isinstance(subject.adapter, protocol):
            return f"not a {protocol.__name__}"
    return has_card(subject.plugin)


def same_job_gives_the_same_model(subject: Subject) -> str | None:
    """Digest by digest, and a finished job is read back."""
    again = subject.adapter.fit(subject.job("again"))
    back = subject.adapter.fit(subject.job("again"))
    return None if again.digest == subject.original.digest == back.digest else "two trainings of one job differ"


def downdate_is_a_retraining(subject: Subject) -> str | None:
    """With sums: the same digest and, to rounding, the same answers as the model that never had the users."""
    if not subject.subtracts:
        return None
    result = subject.adapter.downdate(subject.job("downdated", FORGET), subject.original.model.parent, FORGET)
    if result.digest != subject.retrained.digest:
        return "the downdated statistics are not those of a retraining"
    off = float(np.abs(subject.scores(result) - subject.scores(subject.retrained)).max())
    return None if off <= TOLERANCE else f"answers differ by {off:.3g}"


def deletions_one_by_one_are_one_deletion(subject: Subject) -> str | None:
    """With sums: in either order."""
    if not subject.subtracts:
        return None
    for label, order in (("up", sorted(FORGET)), ("down", sorted(FORGET, reverse=True))):
        source, gone = subject.original, frozenset[int]()
        for user in order:
            gone |= {user}
            job = subject.job(f"{label}-{user}", gone)
            source = subject.adapter.downdate(job, source.model.parent, frozenset({user}))
        if source.digest != subject.retrained.digest:
            return f"order {order} ends elsewhere"
    return None


def the_users_make_a_difference(subject: Subject) -> str | None:
    """Control: a model that was left as it is has another digest and other answers."""
    if subject.original.digest == subject.retrained.digest:
        return "with and without the users the digest is the same"
    same = np.array_equal(subject.scores(subject.original), subject.scores(subject.retrained))
    return "with and without the users all answers are the same" if same else None


def original_is_not_touched(subject: Subject) -> str | None:
    """Neither a downdate, nor further sweeps, nor answers change a file of the source."""
    source = subject.original.model.parent
    before = tree_digest(source)
    if subject.subtracts:
        subject.adapter.downdate(subject.job("untouched", FORGET), source, FORGET)
    if isinstance(subject.adapter, HasWarmStart):
        subject.adapter.warm(subject.job("warm", FORGET), source, FORGET, 1)
    subject.scores(subject.original)
    return None if tree_digest(subject.original.model.parent) == before else "files of the original changed"


def answers_are_one_score_per_item(subject: Subject) -> str | None:
    """(B, I), finite, each row for itself."""
    found = subject.scores(subject.original)
    if found.shape != (len(subject.data.test), ITEMS) or not np.isfinite(found).all():
        return f"scores of shape {found.shape}, finite: {bool(np.isfinite(found).all())}"
    model = subject.adapter.load(subject.original.model)
    alone = subject.adapter.outputs(model, subject.data.test.matrix()[:1])
    return None if np.allclose(alone, found[:1], atol=1e-12) else "a row's scores depend on the other rows"


def emptied_users_stay_empty(subject: Subject) -> str | None:
    """A tombstone is nothing: the same users with blank rows give the same model."""
    blank = replace(subject.data, train=subject.data.train.without(sorted(FORGET)))
    job = replace(subject.job("blank"), data=blank)
    return None if subject.adapter.fit(job).digest == subject.retrained.digest else "an empty row plays a part"


def absent_histories_play_no_part(subject: Subject) -> str | None:
    """Whatever the source still holds in an absent user's row, here the history of somebody who stays."""
    gone = sorted(FORGET)
    train = posing_as(subject.data.train, gone, [user + 1 for user in gone])
    job = replace(subject.job("posing", FORGET), data=replace(subject.data, train=train))
    same = subject.adapter.fit(job).digest == subject.retrained.digest
    return None if same else "the history of an absent user plays a part"


def no_absent_user_has_a_row(subject: Subject) -> str | None:
    """In any tensor of the model file with an axis as long as there are users, absent ones are 0."""
    tensors, _ = load_tensors(subject.retrained.model)
    for name, tensor in tensors.items():
        for axis, length in enumerate(tensor.shape):
            rows = tensor.index_select(axis, torch.tensor(sorted(FORGET))) if length == USERS else torch.zeros(0)
            if bool((rows != 0).any()):
                return f"{name} holds a row of a user who was absent"
    return None


def the_file_is_the_model(subject: Subject) -> str | None:
    """Without sums: the file alone, elsewhere and read by an adapter that never trained, gives the same answers."""
    if subject.subtracts:
        return None  # what a cache beside the sums is worth, its own family tests
    moved = subject.folder / "moved" / "elsewhere.safetensors"
    moved.parent.mkdir(exist_ok=True)
    shutil.copyfile(subject.original.model, moved)
    assert subject.retrained.digest  # trained later: what stays in memory is not the original's
    fresh, rows = subject.another(), subject.data.test.matrix()
    found = np.asarray(fresh.outputs(fresh.load(moved), rows))
    same = np.array_equal(found, subject.scores(subject.original))
    return None if same else "read back from its file alone, the model answers otherwise"


RECOMMENDER_LAWS: tuple[Callable[[Subject], str | None], ...] = (
    is_a_recommender_of_its_name,
    same_job_gives_the_same_model,
    downdate_is_a_retraining,
    deletions_one_by_one_are_one_deletion,
    the_users_make_a_difference,
    original_is_not_touched,
    answers_are_one_score_per_item,
    emptied_users_stay_empty,
    absent_histories_play_no_part,
    no_absent_user_has_a_row,
    the_file_is_the_model,
)


def check_recommender(name: str) -> None:
    """Hold the registered family `name` to every law; raises Nonconforming with all that are broken."""
    require("recommenders", name, examine_recommender(registry.load("recommenders", name), name=name))


def examine_recommender(
    plugin: type, *, name: str, laws: Sequence[Law[Subject]] = RECOMMENDER_LAWS
) -> tuple[Broken, ...]:
    """The broken laws of a family's class."""
    with tempfile.TemporaryDirectory(prefix="expunge-testing-") as folder:
        return examine(laws, Subject(name=name, plugin=plugin, folder=Path(folder)))
