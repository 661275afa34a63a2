"""What stays cut out of histories, whatever the source still holds: keyed tags of what is retained, and of deleted items.

A history that was shortened is an allow list: an HMAC of slot and item for each pair that it keeps, and nothing else of
the source gets in. The lists say nothing of what went: whoever has the key and tries every item reads what is retained,
which the model's data holds anyway. They are of the pair and not of value and time, because a source that loses the cut
event may show an earlier rating of the same pair, which `duplicates = last` had hidden. An item that is gone from all
histories is remembered by a tombstone of its own, which can be found by trying; an item is nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.evidence.commitment import derive, keyed

LABEL = "cut events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """`kept`: by slot of a shortened history, tags of the pairs it keeps; `items`: tombstones of items that are gone from
    all histories."""

    kept: Mapping[int, frozenset[str]] = field(default_factory=dict)
    items: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.kept or self.items)

    def lets_in(self, key: bytes, slot: int, item: str) -> bool:
        """May this event be in the data? Of a history that was never shortened all may, but those of deleted items."""
        listed = slot not in self.kept or of_pair(key, slot, item) in self.kept[slot]
        return listed and not self.has_item(key, item)

    def has_item(self, key: bytes, item: str) -> bool:
        """Was the item deleted?"""
        return of_item(key, item) in self.items

    def with_kept(self, key: bytes, kept: Mapping[int, Sequence[str]]) -> Cuts:
        """And these histories, of which only these items are left."""
        new = {slot: frozenset(of_pair(key, slot, item) for item in items) for slot, items in kept.items()}
        return Cuts(kept={**self.kept, **new}, items=self.items)

    def with_items(self, key: bytes, items: Sequence[str]) -> Cuts:
        """And these items, which no list keeps any more."""
        left = {slot: tags - {of_pair(key, slot, item) for item in items} for slot, tags in self.kept.items()}
        return Cuts(kept=left, items=self.items | {of_item(key, item) for item in items})

    def without(self, slots: frozenset[int]) -> Cuts:
        """Slots that were erased whole need none."""
        return Cuts(kept={slot: tags for slot, tags in self.kept.items() if slot not in slots}, items=self.items)

    def applied(self, dataset: Any, key: bytes) -> Any:
        """The data set without what was cut: events of training users, and deleted items of anybody."""
        if not self:
            return dataset
        train = dataset.train.keep(self._kept(dataset.train, key) & self._kept_items(dataset.train, key))
        return dataset.with_users(train, dataset.test.keep(self._kept_items(dataset.test, key)))

    def _kept(self, histories: Any, key: bytes) -> NDArray[np.bool_]:
        kept = np.ones(histories.events, bool)
        for slot, tags in self.kept.items():
            span = histories.span(slot)
            items = [histories.items[column] for column in histories.indices[span].tolist()]
            kept[span] = [of_pair(key, slot, item) in tags for item in items]
        return kept

    def _kept_items(self, histories: Any, key: bytes) -> NDArray[np.bool_]:
        if not self.items:
            return np.ones(histories.events, bool)
        there = np.array([of_item(key, item) not in self.items for item in histories.items], bool)
        kept: NDArray[np.bool_] = there[histories.indices]
        return kept

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for the slot book and the recompute package."""
        return {"kept": [[slot, sorted(self.kept[slot])] for slot in sorted(self.kept)], "items": sorted(self.items)}

    @classmethod
    def from_json(cls, plain: Any) -> Cuts:
        """What `to_json` wrote. Raises KeyError, TypeError or ValueError."""
        kept = {int(slot): frozenset(map(str, tags)) for slot, tags in plain["kept"]}
        return cls(kept=kept, items=frozenset(map(str, plain["items"])))


def of_pair(key: bytes, slot: int, item: str) -> str:
    """Tag of one event, hex."""
    return keyed(derive(key, LABEL), f"event|{slot}|{item}".encode()).hex()


def of_item(key: bytes, item: str) -> str:
    """Tombstone of an item, hex."""
    return keyed(derive(key, LABEL), f"item|{item}".encode()).hex()
