"""V2: what the weights alone say about whole histories; from counts inverted out of P, or from those stored beside it.

Inverting takes the cube of the items, so a workspace says up to how many it is done with every deletion: `[quality] invert`
in expunge.toml, which the plan pins. The evidence names which of the two was read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.ladder import ReadOut
from expunge.data._interactions import Histories
from expunge.training.closed_form.readout import reach, readable, ruled_out

INVERTED = "counts inverted from P"
BESIDE = "counts stored beside P, tied to P by V1"
STORED = "counts stored in the model, which has no P"

History = NDArray[np.int32]
RowsOf = Callable[[History], NDArray[Any]]
"""(d, I) counts of a history's items with all items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was read of one model. `distance`: of an inverted entry to a whole number, at most. `unlike`: inverted entries that
    differ from those stored, of `entries`."""

    rows: RowsOf
    source: str
    distance: float | None = None
    unlike: int = 0
    entries: int = 0


def read(adapter: Any, model: Any, histories: Sequence[History], most: int) -> Read | None:
    """The counts behind these histories, inverted where there are at most `most` items; None where a model holds none.

    Raises DataError (`unreadable`) where what is served is the inverse of no counts.
    """
    counts = adapter.pair_counts(model)
    if counts is None:
        return None
    if not hasattr(adapter, "recovered"):
        return Read(rows=lambda history: counts[history], source=STORED)
    if len(counts) > most:
        return Read(rows=lambda history: counts[history], source=BESIDE)
    found = adapter.recovered(model, np.concatenate(histories))
    unlike = int((found.rows != counts[found.columns]).sum())
    return Read(rows=found.of, source=INVERTED, distance=found.distance, unlike=unlike, entries=int(found.rows.size))


def compared(
    candidate: Read,
    original: Read,
    histories: Sequence[History],
    everybody: tuple[NDArray[Any], Histories, Sequence[int]],
) -> ReadOut:
    """Both models asked for the same histories. `everybody`: counts of the original, and the users whose reach is looked up."""
    words = {
        name: tuple(ruled_out(found.rows(history)[:, history]) for history in histories)
        for name, found in (("candidate", candidate), ("original", original))
    }
    open_book = [history for history in histories if readable(original.rows(history), history)]
    return ReadOut(
        candidate=words["candidate"],
        original=words["original"],
        read_before=len(open_book),
        read_after=sum(readable(candidate.rows(history), history) for history in open_book),
        reach=reach(*everybody),
        source=candidate.source,
        distance=candidate.distance,
        unlike=candidate.unlike,
        entries=candidate.entries,
    )
