"""What a Gram matrix tells about single users: weights of a linear recommender are data, so this is an attack and a proof.

The attack reads a user's whole history out of the row of an item that nobody else has. The proof uses the same counts:
where a pair of the user's items is in nobody's history any more, the full history cannot be in the model.
Gram matrices are of binary histories (counts), (I, I).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError
from expunge.data._interactions import Histories
from expunge.training.closed_form.gram import Gram


@dataclass(frozen=True, slots=True, kw_only=True)
class Refutation:
    """Whether the counts rule out that one user's full history is in them, and by what.

    `item`: an item of the history has count 0. `pair`: two of its items are in no history together. `open`: every pair
    is in somebody's history, so the counts alone cannot say; the retained users' Gram digest has to.
    """

    by: str

    @property
    def refuted(self) -> bool:
        """The full history is not in the model."""
        return self.by != "open"


def read_out(gram: Gram) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(item, history) for every item with count 1: its row says what else its only owner has. The attack."""
    _check_counts(gram)
    for item in np.flatnonzero(np.diagonal(gram) == 1).tolist():
        yield item, np.flatnonzero(gram[item])


def refutes(gram: Gram, columns: NDArray[np.int32]) -> Refutation:
    """Can a model with these counts hold a user with this whole history? Parts of the history are not excluded."""
    _check_counts(gram)
    return Refutation(by=ruled_out(gram[np.ix_(columns, columns)]))


def ruled_out(block: NDArray[np.signedinteger[Any]]) -> str:
    """`item`, `pair` or `open` (see `Refutation`) by the counts (d, d) of a history's items among each other."""
    if not len(block):
        raise InputError("an empty history is in every model")
    _check_counts(block)
    if (np.diagonal(block) == 0).any():
        return "item"
    return "pair" if (block == 0).any() else "open"


def readable(rows: NDArray[np.signedinteger[Any]], history: NDArray[np.int32]) -> bool:
    """Is there an item with one owner whose row is exactly this history? `rows` (d, I): the counts of its items."""
    lonely = rows[np.arange(len(history)), history] == 1
    return any(np.array_equal(np.flatnonzero(row), history) for row in rows[lonely])


def reach(gram: Gram, histories: Histories, slots: Sequence[int]) -> dict[str, int]:
    """How many of these users, each deleted alone, could be refuted by an item or only by a pair, and how many could not.

    A user's own item or pair is one with count 1 while the user is in `gram`.
    """
    found = {"item": 0, "pair": 0, "open": 0}
    for slot in slots:
        columns = histories.row(slot)[0]
        block = gram[np.ix_(columns, columns)]
        kind = "item" if (np.diagonal(block) == 1).any() else "pair" if (block == 1).any() else "open"
        found[kind] += 1
    return found


def _check_counts(gram: NDArray[np.signedinteger[Any]]) -> None:
    if len(gram) and (gram < 0).any():
        raise InputError("counts below 0: somebody was removed who was not there")
