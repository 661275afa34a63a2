"""What can be erased from a linear recommender exactly, in place: users, single events, time windows, items, batches.

Everything but an item is the same thing: some users' rows as they were, and as they are to be. A user is a row that
becomes empty, an event or a time window a row that becomes shorter, a batch several rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from expunge.core.errors import InputError
from expunge.training.closed_form.gram import Gram, Rows, add_rows
from expunge.training.closed_form.inverse import (
    REFRESH_LEVERAGE,
    REFRESH_RESIDUAL,
    Inverse,
    change,
    inverse_of,
    residual,
    with_empty_items,
    without_items,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """`leverage` of what was removed (0 to 1), `residual` of the inverse afterwards, and whether it was built anew."""

    leverage: float
    residual: float
    refreshed: bool


def erase_rows(gram: Gram, inverse: Inverse, before: Rows, after: Rows, lam: float, *, probe: int | None = 0) -> Erased:
    """Replace rows `before` (k, I) by `after` (k, I, may be empty) in G and P, in place.

    2k columns at most, so one event costs a step of rank 2. `probe` seeds the vectors of the residual; None leaves the
    residual unmeasured (NaN), for a stream that measures it once a batch.
    """
    if before.shape != after.shape:
        raise InputError("rows before and after are not the same users", got=f"{before.shape} and {after.shape}")
    add_rows(gram, before, -1)
    add_rows(gram, after, 1)
    kept = np.flatnonzero(np.diff(after.indptr))
    vectors = sparse.vstack([before[np.flatnonzero(np.diff(before.indptr))], after[kept]]).T.tocsc()
    removed = vectors.shape[1] - len(kept)
    signs = np.concatenate([-np.ones(removed), np.ones(len(kept))])
    top = change(inverse, vectors, signs) if len(signs) else 0.0
    if probe is None and top <= REFRESH_LEVERAGE:
        return Erased(leverage=top, residual=float("nan"), refreshed=False)
    off = probed(inverse, gram, lam, probe or 0)
    refreshed = top > REFRESH_LEVERAGE or off > REFRESH_RESIDUAL
    if refreshed:
        inverse[:] = inverse_of(gram, lam)
        off = probed(inverse, gram, lam, probe or 0)
    return Erased(leverage=top, residual=off, refreshed=refreshed)


def probed(inverse: Inverse, gram: Gram, lam: float, seed: int) -> float:
    """The residual on vectors that the seed draws."""
    return residual(inverse, gram, lam, np.random.Generator(np.random.Philox(seed)))


def emptied_items(gram: Gram, before: Rows, after: Rows) -> NDArray[np.int64] | None:
    """The columns in which the rows differ, if nobody else has anything there, so that they become empty; None otherwise.

    An item that goes from every history, or an event of which its user was the only owner.
    """
    items = np.unique((before != after).indices).astype(np.int64)
    own = np.asarray(before[:, items].power(2).sum(axis=0), np.int64).ravel()
    whole = len(items) > 0 and after[:, items].nnz == 0 and np.array_equal(np.diagonal(gram)[items], own)
    return items if whole else None


def empty_items(gram: Gram, inverse: Inverse, items: NDArray[np.int64], lam: float) -> None:
    """G and P after nobody has these items any more, in place; the columns stay, empty.

    The others' part of P by the Schur complement (as in `erase_items`), 1 / lambda for the empty columns. Built anew where
    the residual says so.
    """
    gram[items], gram[:, items] = 0, 0
    with_empty_items(inverse, items, lam)
    if probed(inverse, gram, lam, 0) > REFRESH_RESIDUAL:
        inverse[:] = inverse_of(gram, lam)


def erase_items(gram: Gram, inverse: Inverse, items: NDArray[np.int64]) -> tuple[Gram, Inverse]:
    """G and P of the model over the other items, smaller: rows and columns go, P by the Schur complement."""
    if len(items) and not (items.min() >= 0 and items.max() < len(gram)):
        raise InputError("items out of range", expected=f"0..{len(gram) - 1}")
    kept = np.setdiff1d(np.arange(len(gram)), items)
    return gram[np.ix_(kept, kept)], without_items(inverse, np.unique(items))
