"""What the algebra of a deletion is asked: a stored model against sums added up anew from the retained users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from expunge.training.closed_form.gram import Rows, add_rows
from expunge.training.closed_form.inverse import inverse_of
from expunge.training.closed_form.model import LinearModel

Floats = NDArray[np.float64]
_FEW = 256
"""Rows of which the eigenvalues are all worked out, to know the largest."""


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
    nothing is downdated or trained (for one row, `left_out_residuals`). With more rows than items P' is cheaper by its
    definition, (G - S'S + lambda I)^-1.
    """
    if rows.shape[0] > rows.shape[1]:
        return _inverted(model, rows)
    through = _through(model, rows)
    lever = np.asarray((rows.astype(np.float64) @ through.T).T)
    solved = np.linalg.solve(np.eye(rows.shape[0]) - lever, through)
    diagonal = np.diagonal(model.inverse) + np.einsum("kj,kj->j", through, solved)
    return solved[_places(rows)] / diagonal[rows.indices], _leverage(model, rows)


def _inverted(model: LinearModel, rows: Rows) -> tuple[Floats, float]:
    left = np.array(model.gram)
    add_rows(left, rows, -1)
    without = LinearModel(gram=left, inverse=inverse_of(left, model.lam), lam=model.lam, free=model.free)
    return own_residuals(without, rows), _leverage(model, rows)


def _leverage(model: LinearModel, rows: Rows) -> float:
    """The largest eigenvalue of S P S' (k, k), 0 for rows without entries. Of many rows by Lanczos' method (ARPACK), which
    needs products with S and P only, and not the matrix."""
    plain = rows.astype(np.float64)
    if rows.nnz == 0:
        return 0.0
    if rows.shape[0] <= _FEW:
        lever = plain @ np.asarray(plain @ model.inverse).T
        return float(np.linalg.eigvalsh((lever + lever.T) / 2).max(initial=0.0))
    shape = (rows.shape[0],) * 2
    lever = LinearOperator(shape, matvec=lambda x: plain @ (model.inverse @ (plain.T @ x)), dtype=np.float64)
    start = np.ones(rows.shape[0])  # S P S' of rows that are not negative is nearest to it, and nothing is drawn
    return float(eigsh(lever, k=1, which="LA", v0=start, return_eigenvectors=False)[0])


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
    return answers[_places(rows)] / diagonal[rows.indices], _leverage(model, rows)


def _through(model: LinearModel, rows: Rows) -> Floats:
    """S P, (k, I)."""
    return np.asarray(rows.astype(np.float64) @ model.inverse)


def _places(rows: sparse.csr_matrix) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    return np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices
