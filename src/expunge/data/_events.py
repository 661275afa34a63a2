"""From a file's events to training and test users over a frozen vocabulary: what every source of interactions shares.

In this order: pairs that repeat are refused (or the last is kept), low ratings go, users who still have an event get
their places, test users are set apart, and the vocabulary is what the training users have.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import DataError, InputError, InputProblems
from expunge.data._interactions import Interactions, from_events, split_users

TEST_DOMAIN = b"expunge/test-users/v1|"
TOP_STARS = 254  # half stars: the largest that Histories holds, as a whole number of them
SHOWN = 10
_NUMBER = re.compile(r"(?:0|[1-9][0-9]*)\Z")
_STARS = re.compile(r"([0-9]{1,3})(?:\.(?:([05])0*)?)?\Z")


@dataclass(frozen=True, kw_only=True)
class Events:
    """E events of one file in its order, as numbers into `users` and `items`, which are ids as the file has them.

    value: half stars, or 1 where `scale` is `implicit`. time: seconds since 1970, or None. `file` and `unit` (of what
    an event is the nth) are for messages.
    """

    file: str
    users: Sequence[str]
    items: Sequence[str]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    value: NDArray[np.uint8]
    time: NDArray[np.int64] | None
    scale: str
    unit: str = "row"

    def __len__(self) -> int:
        return len(self.user)

    def where(self, kept: NDArray[Any]) -> Events:
        """The events of a mask, or at these positions."""
        time = None if self.time is None else self.time[kept]
        return replace(self, user=self.user[kept], item=self.item[kept], value=self.value[kept], time=time)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The options that every file of interactions takes, checked. `least`: the lowest rating that stays, half stars."""

    test_users: int
    least: int
    min_item_events: int
    kind: str
    duplicates: str = "refuse"


def choices(
    *, test_users: Any, min_rating: Any, min_item_events: Any, kind: Any, duplicates: Any = "refuse"
) -> Choices:
    """Options as they come from a configuration file. Every problem is an InputProblems."""
    least = half_stars(str(min_rating)) if isinstance(min_rating, (int, float, str)) else None
    problems = [
        f"{name} is a whole number of 0 or more, not {number!r}"
        for name, number in (("test_users", test_users), ("min_item_events", min_item_events))
        if type(number) is not int or number < 0
    ]
    if least is None:
        problems.append(f"min_rating is a multiple of .5 from .5 to 127, not {min_rating!r}")
    if kind not in ("rating", "binary"):
        problems.append(f"kind is rating or binary, not {kind!r}")
    if duplicates not in ("refuse", "last"):
        problems.append(f"duplicates is refuse or last, not {duplicates!r}")
    if problems:
        raise InputProblems("options of the data source", problems)
    return Choices(
        test_users=test_users, least=least or 1, min_item_events=min_item_events, kind=kind, duplicates=duplicates
    )


def half_stars(rating: object, top: int = TOP_STARS) -> int | None:
    """Twice the rating, 1..top; None for what is no multiple of .5 or out of range. Text or a number."""
    if isinstance(rating, str):
        match = _STARS.match(rating)
        twice = 2 * int(match[1]) + (match[2] == "5") if match else 0
    elif isinstance(rating, (int, float)) and 0 < rating <= top / 2 and float(2 * rating).is_integer():
        twice = 0 if isinstance(rating, bool) else int(2 * rating)
    else:
        twice = 0
    return twice if 1 <= twice <= top else None


def assemble(
    events: Events,
    chosen: Choices,
    *,
    source: str,
    note: str,
    prefixes: tuple[str, str],
    vocabulary: Sequence[str] | None = None,
) -> Interactions:
    """Training and test users; `prefixes` go before user and item ids. A vocabulary, if given, decides the items.

    A user whose events are all on items outside the vocabulary keeps an empty row: they can still ask to be erased.
    """
    events = _liked(_one_a_pair(events, chosen), chosen)
    if not len(events):
        raise DataError(f"{events.file} has no events", hint="see min_rating" if chosen.least > 1 else None)
    users, user = _renumbered(events.users, events.user, prefixes[0])
    items, item = _renumbered(events.items, events.item, prefixes[1], keep_all=not chosen.min_item_events)
    test = held_out(users, chosen.test_users)
    tested = np.zeros(len(users), bool)
    tested[test] = True
    place, items = _vocabulary(items, item[~tested[user]], chosen.min_item_events, vocabulary)
    if not items:
        raise DataError(f"no item has {chosen.min_item_events} training events", hint="lower min_item_events")
    kept = place[item] >= 0
    value = np.ones(len(events), np.uint8) if chosen.kind == "binary" else events.value
    time = None if events.time is None else events.time[kept]
    histories = from_events(users, items, user[kept], place[item][kept], value[kept], time)
    train, rest = split_users(histories, test)
    scale = "implicit" if chosen.kind == "binary" else events.scale
    return Interactions(source=source, note=_noted(note, chosen), scale=scale, train=train, test=rest)


def held_out(ids: Sequence[str], count: int) -> list[int]:
    """Rows of `count` users to test on, ascending: those first in `keyed_order`."""
    if count >= max(len(ids), 1):
        raise InputError("too many test users", expected=f"fewer than the {len(ids)} users", got=str(count))
    return sorted(keyed_order(ids)[:count])


def keyed_order(ids: Sequence[str]) -> list[int]:
    """Rows by the hash of their id: an order that depends on nobody else, so others may come or go."""
    keys = [hashlib.sha256(TEST_DOMAIN + name.encode()).digest() for name in ids]
    return sorted(range(len(ids)), key=keys.__getitem__)


def ordered(ids: Sequence[str]) -> list[int]:
    """Positions of ids in their order: numbers by size if all are plain numbers, text otherwise."""
    if all(_NUMBER.match(name) for name in ids):
        return sorted(range(len(ids)), key=lambda place: int(ids[place]))
    return sorted(range(len(ids)), key=ids.__getitem__)


def _one_a_pair(events: Events, chosen: Choices) -> Events:
    """Events of which no two share user and item; `last` keeps the latest, of equal times the last in the file."""
    pair = events.user.astype(np.int64) * max(len(events.items), 1) + events.item
    once = np.sort(pair)
    if not (once[1:] == once[:-1]).any():
        return events
    order = np.lexsort((pair,) if events.time is None else (events.time, pair))  # stable: the file decides ties
    repeats = pair[order[1:]] == pair[order[:-1]]
    if chosen.duplicates == "last":
        return events.where(np.sort(order[np.append(~repeats, True)]))
    couples = sorted(zip(order[:-1][repeats].tolist(), order[1:][repeats].tolist(), strict=True), key=min)
    shown = "; ".join(_named_pair(events, min(couple), max(couple)) for couple in couples[:SHOWN])
    more = f" (+{len(couples) - SHOWN} more)" if len(couples) > SHOWN else ""
    raise DataError(
        f"{events.file} has {len(couples)} repeated events: {shown}{more}",
        expected="one event a user and item",
        hint="keep one of them in the file; the source `interactions` takes duplicates=last",
    )


def _named_pair(events: Events, one: int, other: int) -> str:
    user, item = events.users[events.user[one]], events.items[events.item[one]]
    return f"{events.unit}s {one + 1} and {other + 1} (user {user!r}, item {item!r})"


def _liked(events: Events, chosen: Choices) -> Events:
    """Events of at least the lowest rating."""
    if chosen.least == 1:
        return events
    if events.scale == "implicit":
        raise InputError("min_rating where there are no ratings", got=events.file, hint="leave min_rating out")
    return events.where(events.value >= chosen.least)


def _renumbered(
    ids: Sequence[str], number: NDArray[np.int32], prefix: str, *, keep_all: bool = False
) -> tuple[list[str], NDArray[np.int32]]:
    """Ids that occur, in their order and with their prefix, and the events' numbers into them."""
    found = np.flatnonzero(keep_all | (np.bincount(number, minlength=len(ids)) > 0)).tolist()
    present = [found[place] for place in ordered([ids[n] for n in found])]
    new = np.full(len(ids), -1, np.int32)
    new[present] = np.arange(len(present), dtype=np.int32)
    return [prefix + ids[n] for n in present], new[number]


def _vocabulary(
    items: list[str], trained: NDArray[np.int32], least: int, frozen: Sequence[str] | None
) -> tuple[NDArray[np.int32], list[str]]:
    """(item -> column or -1, column -> item id)."""
    if frozen is None:
        kept = np.flatnonzero(np.bincount(trained, minlength=len(items)) >= least).tolist()
        frozen = [items[place] for place in kept]
    column = {name: place for place, name in enumerate(frozen)}
    return np.array([column.get(name, -1) for name in items], np.int32), list(frozen)


def _noted(note: str, chosen: Choices) -> str:
    parts = [note]
    if chosen.least > 1:
        parts.append(f"ratings of {chosen.least / 2:g} and more")
    if chosen.kind == "binary":
        parts.append("binary")
    if chosen.min_item_events > 1:
        parts.append(f"items of {chosen.min_item_events} training events and more")
    if chosen.test_users:
        parts.append(f"{chosen.test_users} test users")
    return ", ".join(parts)
