"""A data source in which the places of works that were opted out are empty.

Places stay where they are (`docs/adr/0001`): batches, order and every other record's randomness are what they would be,
so that a work that is opted out later can be left out by a replay. The pixels, words and ids of those works are not there
either: a loop that forgot to leave them out would find blank pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expunge.data.opt_out.signals import Protocol, Says, Signals

KEPT_OUT = frozenset({Says.RESERVED, Says.UNREADABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """What the loader did. `absent`: slots that stay empty, as a training job takes them. Counts of rows: by what was said of
    them, by the protocol that reserved them (a row may count for several), and those about which nothing is recorded."""

    absent: frozenset[int]
    rows: int
    said: Mapping[str, int]
    reserved_by: Mapping[str, int]
    unrecorded: int


def enforce(ids: tuple[str, ...], signals: Mapping[str, Signals], *, need_record: bool = False) -> Enforcement:
    """Which of these rows may not be trained on. With `need_record` a row about which nothing was recorded may not either:
    nobody knows what was said of it."""
    said: Counter[str] = Counter()
    by: Counter[str] = Counter()
    absent, unrecorded = set(), 0
    for slot, record in enumerate(ids):
        row = signals.get(record)
        unrecorded += row is None
        answer = Says.SILENT if row is None else row.says
        said[answer.value] += 1
        if answer in KEPT_OUT or (row is None and need_record):
            absent.add(slot)
        if row is not None:
            by.update({signal.protocol.value for signal in row.signals if signal.says is Says.RESERVED})
    return Enforcement(
        absent=frozenset(absent),
        rows=len(ids),
        said={answer.value: said[answer.value] for answer in Says},
        reserved_by={protocol.value: by[protocol.value] for protocol in Protocol},
        unrecorded=unrecorded,
    )


class Heeding:
    """Wraps a data source: opens it, and leaves the places of opted-out works empty. `enforcement` is there once it is open;
    give its `absent` to the training job, which then has no gradient of them either."""

    def __init__(self, source: Any, signals: Mapping[str, Signals], *, need_record: bool = False) -> None:
        self.source, self.signals, self.need_record = source, signals, need_record
        self.enforcement: Enforcement | None = None

    def open(self) -> Any:
        """The source's data set with blank records where works were opted out, every other one where it was."""
        found = self.source.open()
        train = found.train
        self.enforcement = enforce(train.ids, self.signals, need_record=self.need_record)
        if not self.enforcement.absent:
            return found
        gone = self.enforcement.absent
        ids = [None if slot in gone else name for slot, name in enumerate(train.ids)]
        return found.aligned(ids, ["" if slot in gone else block for slot, block in enumerate(train.blocks)])

    def close(self) -> None:
        """Close the source."""
        self.source.close()
