"""Counts of pairs got back from what a linear recommender serves: from P, or from B where there is no P.

From P = (G + λI)⁻¹ by inversion: G = P⁻¹ − λI, which is whole numbers. From B (EASE) by way of P, as an adoption does. The
stored G is not read; what does not come out as whole numbers is refused and not guessed. I items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from expunge.core.errors import DataError
from expunge.training.closed_form.adopt import LARGEST_DISTANCE, adopt
from expunge.training.closed_form.inverse import Inverse

UNREADABLE = "unreadable"
LARGEST_RESIDUAL = 1e-6
"""Of |P (G + λI) − I| with the rounded G: beyond it P is the inverse of no such matrix, as where only one triangle of it is."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recovered:
    """`rows` (k, I) int64 of the counts, those of the items `columns` (k,), ascending; `distance`: how far an entry was from the
    nearest whole number, at most (0 to .5)."""

    columns: Ints
    rows: Ints
    distance: float

    def of(self, history: NDArray[np.int32]) -> Ints:
        """(d, I) rows of a history's items, all of which have to be among `columns`."""
        return self.rows[np.searchsorted(self.columns, history)]


def from_inverse(inverse: Inverse, lam: float, columns: ArrayLike) -> Recovered:
    """Rows of G for these items, by a Cholesky factorisation of a copy of P: I³/3 + 2 I² k operations.

    Raises DataError (`unreadable`) where P is not positive definite or not symmetric, or an entry lies farther than
    LARGEST_DISTANCE from a whole number.
    """
    wanted = np.unique(np.asarray(columns, np.int64))
    factor, info = torch.from_numpy(np.array(inverse, np.float64)), torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(factor, out=(factor, info))
    if int(info) != 0:
        raise _unreadable("P is not positive definite", f"minor {int(info)}")
    unit = np.zeros((len(inverse), len(wanted)))
    unit[wanted, np.arange(len(wanted))] = 1.0
    found = np.array(torch.cholesky_solve(torch.from_numpy(unit), factor).numpy())
    found -= lam * unit
    near = np.rint(found)
    distance = float(np.abs(found - near).max(initial=0.0))
    if not distance <= LARGEST_DISTANCE:
        raise _unreadable(f"the counts inverted from P are up to {distance:.3g} from whole numbers", f"{distance:.3g}")
    off = float(np.abs(np.asarray(inverse) @ (near + lam * unit) - unit).max(initial=0.0))
    if not off <= LARGEST_RESIDUAL:
        raise _unreadable(f"P is not the inverse of what comes out of it (off by {off:.3g})", f"{off:.3g}")
    return Recovered(columns=wanted, rows=np.ascontiguousarray(near.T).astype(np.int64), distance=distance)


def from_weights(weights: ArrayLike, lam: float, item_counts: ArrayLike) -> Recovered:
    """All of G from B (I, I), λ and the items' counts, as an adoption recovers it. Raises DataError on what is no such B."""
    found = adopt(weights, lam, item_counts)
    return Recovered(columns=np.arange(len(found.gram)), rows=found.gram, distance=found.fit.distance)


def _unreadable(what: str, got: str) -> DataError:
    return DataError(
        what,
        expected=f"(G + λI)⁻¹ of whole numbers G, at most {LARGEST_DISTANCE} from them",
        got=got,
        code=UNREADABLE,
    )
