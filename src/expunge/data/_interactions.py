"""The recommender's nouns: who interacted with what. One record is one user, so a user's slot is never reused.

U users (slots), I items, E events. Values are small integers on purpose: sums of their products are exact, so two Gram
matrices are equal or they are not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from expunge.core.errors import DataError, InputProblems
from expunge.data._ids import known_slots, rows_in_source

CONTENT_DOMAIN = b"expunge/history/v1"
EMPTY = hashlib.sha256(CONTENT_DOMAIN).hexdigest()
"""Content digest of a history of which nothing is left."""
TELLING = 10  # items that two people do not share, and nothing else, by chance


@dataclass(frozen=True, kw_only=True)
class Histories:
    """The histories of U users as rows of a sparse matrix over I items.

    ids: slot -> user id, unique; None where erased. blocks: slot -> block (the user). indptr (U+1,) int64, indices (E,)
    int32 ascending within a user, values (E,) uint8 above 0: 1 for an implicit event, twice the stars for a rating
    (half stars are whole numbers then). times (E,) int64, seconds since 1970, or None. items: column -> item id.
    """

    ids: tuple[str | None, ...]
    blocks: tuple[str, ...]
    items: tuple[str, ...]
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.uint8]
    times: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def events(self) -> int:
        """E."""
        return len(self.indices)

    @cached_property
    def slot_of(self) -> dict[str, int]:
        """user id -> slot."""
        return {name: slot for slot, name in enumerate(self.ids) if name is not None}

    def span(self, slot: int) -> slice:
        """Where a user's events are."""
        return slice(int(self.indptr[slot]), int(self.indptr[slot + 1]))

    def row(self, slot: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """A user's columns, ascending, and values."""
        span = self.span(slot)
        return self.indices[span], self.values[span]

    def content_digest(self, slot: int) -> str:
        """Hex SHA-256 of a user's history by item id, value and time, whatever the columns are."""
        span, found = self.span(slot), hashlib.sha256(CONTENT_DOMAIN)
        times = [""] * (span.stop - span.start) if self.times is None else self.times[span].tolist()
        rows = zip((self.items[i] for i in self.indices[span].tolist()), self.values[span].tolist(), times, strict=True)
        for item, value, time in sorted(rows):
            found.update(f"|{len(item)}:{item}|{value}|{time}".encode())
        return found.hexdigest()

    def content(self, slot: int) -> bytes:
        """What makes two users copies of each other: `TELLING` of the same items, or the very same timed events.

        Fewer items without times are a coincidence that happens every day, so they make nobody a copy.
        """
        span = self.span(slot)
        items = self.indices[span].tobytes()
        if span.stop - span.start >= TELLING:
            return items
        if self.times is None or span.stop == span.start:
            return b"slot %d" % slot
        return items + self.values[span].tobytes() + self.times[span].tobytes()

    def matrix(self, kind: str = "binary") -> sparse.csr_matrix:
        """(U, I) int64: 1 where there is an event (`binary`), or the values (`rating`)."""
        data = np.ones(self.events, np.int64) if kind == "binary" else self.values.astype(np.int64)
        return sparse.csr_matrix((data, self.indices, self.indptr), shape=(len(self), len(self.items)))

    def without(self, slots: Sequence[int]) -> Histories:
        """The same slots with these users' rows empty and their ids gone."""
        gone = np.zeros(len(self), bool)
        gone[list(slots)] = True
        lengths = np.where(gone, 0, np.diff(self.indptr))
        keep = ~np.repeat(gone, np.diff(self.indptr))
        return replace(
            self,
            ids=tuple(None if gone[slot] else name for slot, name in enumerate(self.ids)),
            blocks=tuple("" if gone[slot] else block for slot, block in enumerate(self.blocks)),
            indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            indices=self.indices[keep],
            values=self.values[keep],
            times=None if self.times is None else self.times[keep],
        )

    def keep(self, events: NDArray[np.bool_]) -> Histories:
        """The same users with only these events, (E,) bool: a user may be left with none and keeps the slot."""
        counts = np.concatenate([[0], np.cumsum(events)])[self.indptr]
        return replace(
            self,
            indptr=counts.astype(np.int64),
            indices=self.indices[events],
            values=self.values[events],
            times=None if self.times is None else self.times[events],
        )

    def others(self, ids: Container[str | None]) -> Histories:
        """Everybody but these users, whose rows are gone and not only empty."""
        rows = [slot for slot, name in enumerate(self.ids) if name not in ids]
        return _picked(self, rows, [self.ids[row] for row in rows], [self.blocks[row] for row in rows])

    def chosen(
        self,
        slots: Sequence[int],
        *,
        items: Sequence[str] | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> NDArray[np.bool_]:
        """(E,) bool: events of these users, with these items only, in [since, until) seconds since 1970."""
        if (since, until) != (None, None) and self.times is None:
            raise DataError("events have no times, so no time window can be chosen")
        found = np.zeros(self.events, bool)
        for slot in slots:
            found[self.span(slot)] = True
        if items is not None:
            columns = {name: column for column, name in enumerate(self.items)}
            unknown = [repr(name) for name in items if name not in columns]
            if unknown:
                raise InputProblems("unknown items", unknown, code="unknown-id")
            found &= np.isin(self.indices, [columns[name] for name in items])
        if self.times is not None:
            found &= (self.times >= (since if since is not None else self.times.min(initial=0))) & (
                True if until is None else self.times < until
            )
        return found

    def slots(self, ids: Sequence[str]) -> list[int]:
        """Slots of user ids; every unknown id is reported at once."""
        return known_slots(self.slot_of, ids, "user")


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Users to train on, and other users to test on (strong generalisation, Liang et al. 2018), over the same items.

    `scale`: what a value means, `implicit` or `half-stars`.
    """

    source: str
    note: str
    scale: str
    train: Histories
    test: Histories

    families: ClassVar[str] = "recommenders"
    """The kind of plug-in that trains on this."""

    @property
    def items(self) -> tuple[str, ...]:
        """column -> item id."""
        return self.train.items

    @property
    def geometry(self) -> dict[str, int]:
        """What a family has to know of the data to build a model."""
        return {"items": len(self.items)}

    def with_users(self, train: Histories, test: Histories) -> Interactions:
        """The same data set with other histories."""
        return replace(self, train=train, test=test)

    def aligned(self, ids: Sequence[str | None], blocks: Sequence[str], empty: Container[str] = ()) -> Interactions:
        """Training users in slot order; a slot whose id is None is an empty row, whatever the source still holds, and so is
        one of `empty` who has left it.

        Test users are chosen by their hashes among all, so when one leaves the source the next in line is a training
        user. Those stay training users: here it is the slots that say who is one.
        """
        moved = self.test.slot_of.keys() & {name for name in ids if name is not None}
        known = _joined(self.train, self.test) if moved else self.train
        rows = rows_in_source(known.slot_of, ids, "user", empty)
        test = self.test.others(moved) if moved else self.test
        return replace(self, train=_picked(known, rows, ids, blocks), test=test)


def from_events(
    users: Sequence[str],
    items: Sequence[str],
    user: NDArray[np.integer[Any]],
    item: NDArray[np.integer[Any]],
    value: NDArray[np.integer[Any]],
    time: NDArray[np.integer[Any]] | None = None,
) -> Histories:
    """Histories from events as parallel arrays (E,) of user number, item number, value and time.

    Raises DataError on what is no whole number or out of range, values outside 1..255, and a user who has an item twice.
    """
    if len({len(user), len(item), len(value), len(user if time is None else time)}) != 1:
        raise DataError("events have columns of different lengths")
    columns = [user, item, value] + ([] if time is None else [time])
    if not all(np.issubdtype(np.asarray(column).dtype, np.integer) for column in columns):
        raise DataError("events are not whole numbers", got=", ".join(str(np.asarray(c).dtype) for c in columns))
    if len(set(users)) != len(users) or len(set(items)) != len(items):
        raise DataError("user or item ids come twice")
    for name, numbers, count in (("user", user, len(users)), ("item", item, len(items))):
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < count):
            raise DataError(f"{name} numbers out of range", expected=f"0..{count - 1}")
    if len(value) and not (value.min() >= 1 and value.max() <= 255):
        raise DataError("values out of range", expected="integers 1..255", got=f"{value.min()}..{value.max()}")
    pair = np.asarray(user, np.int64) * len(items) + np.asarray(item, np.int64)
    order = np.argsort(pair)  # need not be stable: no pair may come twice
    pair = pair[order]
    twice = int((pair[1:] == pair[:-1]).sum())
    if twice:
        raise DataError(f"{twice} events repeat a user and an item", hint="keep one event a pair before ingestion")
    counts = np.bincount(user.astype(np.int64), minlength=len(users))
    return Histories(
        ids=tuple(users),
        blocks=tuple(users),
        items=tuple(items),
        indptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        indices=(pair % max(len(items), 1)).astype(np.int32),
        values=np.asarray(value)[order].astype(np.uint8),
        times=None if time is None else np.asarray(time)[order].astype(np.int64),
    )


def split_users(histories: Histories, test: Sequence[int]) -> tuple[Histories, Histories]:
    """Everybody else, and the users of these rows: training and test users of a strong-generalisation split."""
    chosen = np.zeros(len(histories), bool)
    chosen[list(test)] = True
    parts = []
    for rows in (np.flatnonzero(~chosen), np.flatnonzero(chosen)):
        ids = [histories.ids[row] for row in rows]
        parts.append(_picked(histories, rows.tolist(), ids, [histories.blocks[row] for row in rows]))
    return parts[0], parts[1]


def _joined(first: Histories, second: Histories) -> Histories:
    """The rows of both, over the same items."""
    times = None
    if first.times is not None and second.times is not None:
        times = np.concatenate([first.times, second.times])
    return replace(
        first,
        ids=first.ids + second.ids,
        blocks=first.blocks + second.blocks,
        indptr=np.concatenate([first.indptr, first.indptr[-1] + second.indptr[1:]]),
        indices=np.concatenate([first.indices, second.indices]),
        values=np.concatenate([first.values, second.values]),
        times=times,
    )


def _picked(
    histories: Histories, rows: Sequence[int | None], ids: Sequence[str | None], blocks: Sequence[str]
) -> Histories:
    """Rows in a new order; None is an empty row."""
    spans = [slice(0, 0) if row is None else histories.span(row) for row in rows]
    index = np.concatenate([np.arange(s.start, s.stop) for s in spans]) if spans else np.zeros(0, np.int64)
    lengths = [span.stop - span.start for span in spans]
    index = index.astype(np.int64)
    return replace(
        histories,
        ids=tuple(ids),
        blocks=tuple(blocks),
        indptr=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        indices=histories.indices[index],
        values=histories.values[index],
        times=None if histories.times is None else histories.times[index],
    )
