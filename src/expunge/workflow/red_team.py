"""The attack that shows why deleting rows is not deleting: a user's whole history, read out of exported weights.

The attacker has what a recommender hands to its serving fleet, the weights B in single precision, and lambda, and knows
how many ratings each item has, which services show. No data, no users, no logs. P follows from B, the counts of pairs
from P, and where an item has one owner its row of counts is that person's history (see training.closed_form.recovered
and readout).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import InputError
from expunge.training.closed_form.recovered import from_weights

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

SHOWN = 6


def user_of(workspace: Workspace, chosen: str) -> str:
    """A present user: of `median` activity, the `largest`, or one with an item that nobody else has (`readable`)."""
    train, present = workspace.data.train, np.array([name is not None for name in workspace.book.ids])
    lengths = np.where(present, np.diff(train.indptr), 0)
    if chosen == "readable":
        lonely = np.bincount(train.indices, minlength=len(train.items)) == 1
        owners = np.repeat(np.arange(len(train)), np.diff(train.indptr))[lonely[train.indices]]
        lengths = np.where(np.isin(np.arange(len(train)), owners), lengths, 0)
    ranked = np.argsort(lengths, kind="stable")[np.sort(lengths) > 0]
    if not len(ranked):
        raise InputError("no such user is left", expected=chosen)
    return str(train.ids[int(ranked[-1] if chosen == "largest" else ranked[len(ranked) // 2])])


class Victim:
    """One user's history, known to whoever demonstrates the attack, and held against what the weights give away."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        train = workspace.data.train
        self._workspace, self._columns = workspace, train.row(train.slots([name])[0])[0]
        counts = np.bincount(train.indices, minlength=len(train.items))
        self._own = self._columns[counts[self._columns] == 1]

    def read(self) -> str:
        """Attack the model in service, and say what came of it."""
        workspace = self._workspace
        workspace.progress("red team: inverting the weights", 0, 1)
        model: Any = workspace.adapter.load(workspace.root / workspace.served().run / "model.safetensors")
        counts = from_weights(model.weights().astype(np.float32), model.lam, np.diagonal(model.gram)).rows
        workspace.progress("red team: inverting the weights", 1, 1)
        wrong, pairs = _wrong(counts, model.gram), counts.size - len(counts)
        said = f"from the weights and the items' counts: {pairs - wrong:,} of {pairs:,} pair counts right"
        return f"{said}; {self._history(counts)}"

    def _history(self, counts: NDArray[np.int64]) -> str:
        lonely = [item for item in self._own.tolist() if counts[item, item] == 1]
        if not lonely:
            return f"the user's {len(self._own)} own items have no owner any more: nothing to read"
        found = np.flatnonzero(counts[lonely[0]])
        right, items = len(np.intersect1d(found, self._columns)), self._workspace.data.items
        names = ", ".join(items[column] for column in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return (
            f"the user's history reads {names}{more}: {right} of {len(self._columns)} right, {len(found) - right} wrong"
        )


def _wrong(counts: NDArray[np.int64], true: NDArray[Any]) -> int:
    off = counts != true
    np.fill_diagonal(off, False)
    return int(off.sum())
