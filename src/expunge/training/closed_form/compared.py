"""What the algebra of a deletion is asked: a stored model against sums added up anew from the retained users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from expunge.training.closed_form.gram import Rows
from expunge.training.closed_form.model import LinearModel

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """`wrong` of `entries` of the sums differ. `derived`: how far off what follows from them is, at most `limit`; None
    where nothing is kept beside the sums."""

    entries: int
    wrong: int
    derived: float | None
    limit: float


def differing(mine: NDArray[Any], other: NDArray[Any]) -> int:
    """Entries that differ; all of them where the shapes do."""
    return mine.size if mine.shape != other.shape else int((mine != other).sum())


def own_residuals(model: LinearModel, rows: Rows) -> Floats:
    """(x'P)_j / P_jj on the rows' own items, row by row, (E,)."""
    through = _through(model, rows)
    found: Floats = through[_places(rows)] / np.diagonal(model.inverse)[rows.indices]
    return found


def left_out(model: LinearModel, rows: Rows) -> tuple[Floats, float]:
    """`own_residuals` of the model that never had any of these rows S, and the largest leverage among them.

    With V = S P and H = V S': S P' = (1 - H)^-1 V and P'_jj = P_jj + V_j' (1 - H)^-1 V_j, from Woodbury's identity, so
    nothing is downdated or trained (for one row, `left_out_residuals`).
    """
    through = _through(model, rows)
    lever = np.asarray((rows.astype(np.float64) @ through.T).T)
    solved = np.linalg.solve(np.eye(rows.shape[0]) - lever, through)
    diagonal = np.diagonal(model.inverse) + np.einsum("kj,kj->j", through, solved)
    largest = float(np.linalg.eigvalsh((lever + lever.T) / 2).max(initial=0.0))
    return solved[_places(rows)] / diagonal[rows.indices], largest


def shortened(model: LinearModel, rows: Rows, after: Rows) -> tuple[Floats, float]:
    """`own_residuals` of these rows S in the model that had the shorter rows T in their place; and the largest leverage of
    S in this one.

    With W = [S' T'], D = diag(-1 for S, 1 for T), V = P W and K = (D + W'V)^-1: P' = P - V K V', Woodbury's identity.
    """
    kept = after[np.diff(after.indptr) > 0]
    both = sparse.vstack([rows, kept]).tocsr()
    signs = np.concatenate([-np.ones(rows.shape[0]), np.ones(kept.shape[0])])
    through = _through(model, both)
    lever = np.asarray((both.astype(np.float64) @ through.T).T)
    lever = (lever + lever.T) / 2
    solved = np.linalg.solve(np.diag(signs) + lever, through)
    own = slice(0, rows.shape[0])
    answers = through[own] - lever[own] @ solved
    diagonal = np.diagonal(model.inverse) - np.einsum("kj,kj->j", through, solved)
    largest = float(np.linalg.eigvalsh(lever[own, own]).max(initial=0.0))
    return answers[_places(rows)] / diagonal[rows.indices], largest


def _through(model: LinearModel, rows: Rows) -> Floats:
    """S P, (k, I)."""
    return np.asarray(rows.astype(np.float64) @ model.inverse)


def _places(rows: sparse.csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices
