"""Keyed tombstones of events that were cut out of histories, so that they stay gone whatever the source still holds.

A tombstone is an HMAC of slot and item, or of the item alone: with the key one can ask about an event that one knows, and
list none. It is of the pair and not of value and time, because a source that loses the cut event may show an earlier
rating of the same pair, which `duplicates = last` had hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.evidence.commitment import derive, keyed

LABEL = "cut events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """`pairs`: by slot, tombstones of its events; `items`: tombstones of items that are gone from all histories."""

    pairs: Mapping[int, frozenset[str]] = field(default_factory=dict)
    items: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.pairs or self.items)

    def has(self, key: bytes, slot: int, item: str) -> bool:
        """Was this event cut, by itself or with its item?"""
        return self.has_item(key, item) or of_pair(key, slot, item) in self.pairs.get(slot, frozenset())

    def has_item(self, key: bytes, item: str) -> bool:
        """Was the item deleted?"""
        return of_item(key, item) in self.items

    def with_pairs(self, key: bytes, pairs: list[tuple[int, str]]) -> Cuts:
        """And these events (slot, item id)."""
        more = {slot: set(found) for slot, found in self.pairs.items()}
        for slot, item in pairs:
            more.setdefault(slot, set()).add(of_pair(key, slot, item))
        return Cuts(pairs={slot: frozenset(found) for slot, found in more.items()}, items=self.items)

    def with_items(self, key: bytes, items: list[str]) -> Cuts:
        """And these items."""
        return Cuts(pairs=self.pairs, items=self.items | {of_item(key, item) for item in items})

    def without(self, slots: frozenset[int]) -> Cuts:
        """Slots that were erased whole need none."""
        return Cuts(pairs={slot: found for slot, found in self.pairs.items() if slot not in slots}, items=self.items)

    def applied(self, dataset: Any, key: bytes) -> Any:
        """The data set without what was cut: events of training users, and deleted items of anybody."""
        if not self:
            return dataset
        train = dataset.train.keep(self._kept(dataset.train, key) & self._kept_items(dataset.train, key))
        return dataset.with_users(train, dataset.test.keep(self._kept_items(dataset.test, key)))

    def _kept(self, histories: Any, key: bytes) -> NDArray[np.bool_]:
        kept = np.ones(histories.events, bool)
        for slot, gone in self.pairs.items():
            span = histories.span(slot)
            items = [histories.items[column] for column in histories.indices[span].tolist()]
            kept[span] = [of_pair(key, slot, item) not in gone for item in items]
        return kept

    def _kept_items(self, histories: Any, key: bytes) -> NDArray[np.bool_]:
        if not self.items:
            return np.ones(histories.events, bool)
        there = np.array([of_item(key, item) not in self.items for item in histories.items], bool)
        kept: NDArray[np.bool_] = there[histories.indices]
        return kept

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for the slot book and the recompute package."""
        return {"pairs": [[slot, sorted(self.pairs[slot])] for slot in sorted(self.pairs)], "items": sorted(self.items)}

    @classmethod
    def from_json(cls, plain: Any) -> Cuts:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError."""
        pairs = {int(slot): frozenset(map(str, found)) for slot, found in plain["pairs"]}
        return cls(pairs=pairs, items=frozenset(map(str, plain["items"])))


def of_pair(key: bytes, slot: int, item: str) -> str:
    """Tombstone of one event, hex."""
    return keyed(derive(key, LABEL), f"event|{slot}|{item}".encode()).hex()


def of_item(key: bytes, item: str) -> str:
    """Tombstone of an item, hex."""
    return keyed(derive(key, LABEL), f"item|{item}".encode()).hex()
