"""A small world of users to try a plug-in for recommenders in: random histories, and a family with its own defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core import registry
from expunge.data._interactions import Histories, Interactions, from_events
from expunge.evidence.manifest import leaves_of
from expunge.testing.world import SEED, World
from expunge.training.batches import Leaves
from expunge.training.recipe import AnyRecipe, parse_any_recipe

USERS, ITEMS = 30, 20
CLOSED_FORM = "closed-form"
_KEY = b"\x01" * 32
_TINY: Mapping[str, Mapping[str, Any]] = {
    CLOSED_FORM: {"solver": CLOSED_FORM},
    "als": {"solver": "als"},
    "sgd": {"epochs": 4, "batch": 8, "lr": 0.05, "final_lr": 0.1, "threads": 1, "introduce": (0.0, 0.25, 0.5, 0.75)},
}


def random_histories(users: int = USERS, items: int = ITEMS, *, seed: int = 0, share: float = 0.3) -> Histories:
    """Users with popular and rare items, half-star ratings and times; every user has at least two events."""
    draw = np.random.Generator(np.random.Philox(seed))
    wanted = draw.random((users, items)) < share * np.linspace(2.0, 0.2, items)
    wanted[:, :2] |= ~wanted.any(1, keepdims=True)
    user, item = np.nonzero(wanted)
    value, time = draw.integers(1, 11, len(user)), draw.integers(10**9, 2 * 10**9, len(user))
    names = [f"user/{number}" for number in range(users)], [f"movie/{number}" for number in range(items)]
    return from_events(*names, user, item, value, time)


def random_interactions() -> Interactions:
    """Train and test users over the same items. Always the same."""
    train, test = random_histories(), random_histories(10, seed=1)
    return Interactions(source="random", note="random", scale="half-stars", train=train, test=test)


def posing_as(histories: Histories, slots: Sequence[int], others: Sequence[int]) -> Histories:
    """The same users, but those of `slots` have the histories of `others`."""
    source = dict(zip(slots, others, strict=True))
    spans = [histories.span(source.get(slot, slot)) for slot in range(len(histories))]
    index = np.concatenate([np.arange(span.start, span.stop) for span in spans])
    return replace(
        histories,
        indptr=np.concatenate([[0], np.cumsum([span.stop - span.start for span in spans])]).astype(np.int64),
        indices=histories.indices[index],
        values=histories.values[index],
        times=None if histories.times is None else histories.times[index],
    )


def tiny_recipe(family: str, plugin: Any, **settings: Any) -> AnyRecipe:
    """The recipe of the kind that the family is trained by (`solver`), with the family's own defaults."""
    plain = {"name": "tiny", "family": family, **_TINY[getattr(plugin, "solver", CLOSED_FORM)], **settings}
    return parse_any_recipe(plain)


@dataclass(frozen=True, kw_only=True)
class UserWorld(World):
    """A world whose records are users."""

    def guarded(self, forbidden: frozenset[int]) -> Interactions:
        """The same users, where a forbidden one has somebody else's history: whoever reads it gets another result."""
        slots = sorted(forbidden)
        others = [slot for slot in range(len(self.data.train)) if slot not in forbidden][: len(slots)]
        data: Interactions = self.data
        return replace(data, train=posing_as(data.train, slots, others))


def make_user_world(
    folder: Path,
    *,
    family: str,
    plugin: Any = None,
    seed: str = SEED,
    data: Interactions | None = None,
    **settings: Any,
) -> UserWorld:
    """A world of 30 random users, or of `data`; `settings` override the tiny recipe, `plugin` stands in for the registered
    class."""
    kind = plugin or registry.load("recommenders", family)
    data = random_interactions() if data is None else data
    adapter = kind(tiny_recipe(family, kind, **settings), items=len(data.items))
    leaves = user_leaves(data.train)
    return UserWorld(adapter=adapter, data=data, leaves=leaves, folder=folder, seed=seed, settings=settings)


def user_leaves(histories: Histories) -> Leaves:
    """Keyed leaves of all users, as `expunge init` makes them."""
    digests = [histories.content_digest(slot) for slot in range(len(histories))]
    pairs = [leaves_of(_KEY, str(name), digest) for name, digest in zip(histories.ids, digests, strict=True)]
    return Leaves(ids=[pair[0] for pair in pairs], contents=[pair[1] for pair in pairs], digests=digests)
