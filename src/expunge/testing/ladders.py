"""What was measured on a recommender, for the suite of checks: an honest candidate, and one wrong on every rung."""

from __future__ import annotations

import numpy as np

from expunge.core.ladder import (
    Algebra,
    Behaviour,
    Census,
    Downstream,
    Ladder,
    LeftOut,
    Place,
    Ranking,
    ReadOut,
)

_USERS, _OWN, _ITEMS, _PROFILES, _LENGTH = 3, 12, 60, 40, 10
_TESTED = 200
_NOISE = 1e-13


def honest_ladder() -> Ladder:
    """The candidate is the retraining up to rounding; the original still has the users on every rung."""
    return Ladder(
        census=_census(after=0, test_users=0),
        algebra=_algebra(wrong=0, derived=1e-12),
        read_out=_read_out("pair", after=0),
        left_out=_left_out(kept=0.0),
        behaviour=_behaviour(kept=False),
        downstream=Downstream(stale=(), expiring=("lists",), replayed=True),
        ranking=_ranking(lost=0.0),
    )


def garbage_ladder() -> Ladder:
    """Nothing was deleted, what is derived is off, lists are another model's, and ranking is useless."""
    return Ladder(
        census=_census(after=5, test_users=1),
        algebra=_algebra(wrong=40, derived=0.5),
        read_out=_read_out("open", after=2),
        left_out=_left_out(kept=1.0),
        behaviour=_behaviour(kept=True),
        downstream=Downstream(stale=("lists", "index"), expiring=(), replayed=False),
        ranking=_ranking(lost=0.9),
    )


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _census(after: int, test_users: int) -> Census:
    places = tuple(
        Place(kind=kind, name=name, before=5, after=after, planted=(3, 3), action="rows are dropped")
        for kind, name in (("table", "events"), ("table", "profiles"))
    )
    return Census(places=places, orphans=0, cascade=(0, 0), test_users=test_users)


def _algebra(wrong: int, derived: float) -> Algebra:
    return Algebra(
        what="Gram matrix",
        entries=_ITEMS**2,
        wrong=wrong,
        original_wrong=90,
        derived=derived,
        derived_limit=1e-9,
        original_derived=0.01,
        probes=4,
        leverage=0.3,
    )


def _read_out(word: str, after: int) -> ReadOut:
    return ReadOut(
        candidate=(word,) * _USERS,
        original=("open",) * _USERS,
        read_before=2,
        read_after=after,
        reach={"item": 30, "pair": 60, "open": 10},
    )


def _left_out(kept: float) -> LeftOut:
    """`kept`: share of the way from the exact answer back to the original's."""
    generator = _generator(11)
    exact = generator.uniform(0.5, 0.9, _USERS * _OWN)
    trace = generator.uniform(-0.3, -0.1, exact.size)
    return LeftOut(
        candidate=exact + kept * trace + _NOISE * generator.standard_normal(exact.size),
        original=exact + trace,
        exact=exact,
        user=np.repeat(np.arange(_USERS), _OWN),
        reference="closed form",
    )


def _behaviour(kept: bool) -> Behaviour:
    generator = _generator(12)
    reference = np.argsort(generator.random((_PROFILES, _ITEMS)), axis=1)[:, :_LENGTH]
    original = np.where(np.arange(_PROFILES)[:, None] % 2 == 0, reference[:, ::-1], reference)
    return Behaviour(
        items=_ITEMS,
        candidate=original if kept else reference,
        original=original,
        reference=reference,
        largest=0.02 if kept else _NOISE,
        original_largest=0.02,
        scale=1.0,
    )


def _ranking(lost: float) -> Ranking:
    generator = _generator(13)
    original = {name: generator.uniform(0.2, 0.8, _TESTED) for name in ("NDCG@100", "Recall@20")}
    retrained = {name: values + generator.normal(0, 0.002, _TESTED) for name, values in original.items()}
    low = np.arange(_TESTED) % 3 == 0
    shown = generator.integers(0, 50, _ITEMS)
    return Ranking(
        candidate={name: (1 - lost) * values for name, values in retrained.items()},
        original=original,
        reference=retrained,
        segments={"activity low": low, "activity high": ~low},
        lists={"candidate": shown, "original": shown, "reference": shown},
        split="strong generalisation",
    )
