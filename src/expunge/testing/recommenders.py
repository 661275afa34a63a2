"""What every recommender with a formula must obey: deleting is retraining, and doing nothing is not deleting."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.plan import Numerics
from expunge.core.protocols import FitJob, FitResult, HasSufficientStatistics, ModelAdapter
from expunge.data._interactions import Histories, Interactions, from_events
from expunge.testing.laws import Broken, Law, examine, has_card, require
from expunge.testing.world import tree_digest
from expunge.training.recipe import parse_any_recipe

USERS, ITEMS, FORGET = 30, 20, frozenset({3, 17})
TOLERANCE = 1e-10
_NUMERICS = Numerics(precision="fp64", threads=1, device="cpu", instruction_set="any", build="any")


def random_histories(users: int = USERS, items: int = ITEMS, *, seed: int = 0, share: float = 0.3) -> Histories:
    """Users with popular and rare items, half-star ratings and times; every user has at least two events."""
    draw = np.random.Generator(np.random.Philox(seed))
    wanted = draw.random((users, items)) < share * np.linspace(2.0, 0.2, items)
    wanted[:, :2] |= ~wanted.any(1, keepdims=True)
    user, item = np.nonzero(wanted)
    value, time = draw.integers(1, 11, len(user)), draw.integers(10**9, 2 * 10**9, len(user))
    names = [f"user/{number}" for number in range(users)], [f"movie/{number}" for number in range(items)]
    return from_events(*names, user, item, value, time)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A family on `USERS` random users."""

    name: str
    plugin: type
    folder: Path

    @cached_property
    def data(self) -> Interactions:
        """Train and test users over the same items."""
        train, test = random_histories(), random_histories(10, seed=1)
        return Interactions(source="random", note="random", scale="half-stars", train=train, test=test)

    @cached_property
    def adapter(self) -> Any:
        """The family with its own defaults."""
        plain = {"name": "tiny", "solver": "closed-form", "family": self.name}
        return self.plugin(parse_any_recipe(plain), items=ITEMS)

    def job(self, label: str, absent: frozenset[int] = frozenset()) -> FitJob:
        """A training in a folder of its own."""
        return FitJob(
            recipe=self.adapter.recipe.model_dump(),
            seed="5eed" * 8,
            numerics=_NUMERICS,
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
    for protocol in (ModelAdapter, HasSufficientStatistics):
        if not isinstance(subject.adapter, protocol):
            return f"not a {protocol.__name__}"
    return has_card(subject.plugin)


def same_job_gives_the_same_model(subject: Subject) -> str | None:
    """Digest by digest, and a finished job is read back."""
    again = subject.adapter.fit(subject.job("again"))
    back = subject.adapter.fit(subject.job("again"))
    return None if again.digest == subject.original.digest == back.digest else "two trainings of one job differ"


def downdate_is_a_retraining(subject: Subject) -> str | None:
    """The same digest and, to rounding, the same answers as the model that never had the users."""
    result = subject.adapter.downdate(subject.job("downdated", FORGET), subject.original.model.parent, FORGET)
    if result.digest != subject.retrained.digest:
        return "the downdated statistics are not those of a retraining"
    off = float(np.abs(subject.scores(result) - subject.scores(subject.retrained)).max())
    return None if off <= TOLERANCE else f"answers differ by {off:.3g}"


def deletions_one_by_one_are_one_deletion(subject: Subject) -> str | None:
    """In either order."""
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
    """Neither a downdate nor answers change a file of the source."""
    before = tree_digest(subject.original.model.parent)
    subject.adapter.downdate(subject.job("untouched", FORGET), subject.original.model.parent, FORGET)
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


RECOMMENDER_LAWS: tuple[Callable[[Subject], str | None], ...] = (
    is_a_recommender_of_its_name,
    same_job_gives_the_same_model,
    downdate_is_a_retraining,
    deletions_one_by_one_are_one_deletion,
    the_users_make_a_difference,
    original_is_not_touched,
    answers_are_one_score_per_item,
    emptied_users_stay_empty,
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
