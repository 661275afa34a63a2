"""P = (G + lambda I)^-1 in float64: built once, then corrected by Woodbury's identity, never trusted without a residual.

P is a cache: G (integers) is the truth. Arrays are (I, I), C order, symmetric to rounding.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from expunge.core.errors import InputError
from expunge.training.closed_form.gram import Gram, Rows, product

Inverse = NDArray[np.float64]

REFRESH_RESIDUAL = 1e-9
REFRESH_LEVERAGE = 0.99
REFRESH_EVERY = 10_000


def inverse_of(gram: Gram, lam: float) -> Inverse:
    """P by Cholesky: I^3 operations. By torch, because scipy's LAPACK (1.17, 32-bit indices) crashes at 20,000 items."""
    if not lam > 0:
        raise InputError("lambda must be above 0", got=str(lam))
    system = torch.from_numpy(gram.astype(np.float64))
    system.diagonal().add_(lam)
    info = torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(system, out=(system, info))
    if int(info) != 0:
        raise InputError("G + lambda I is not positive definite", got=f"LAPACK info {int(info)}")
    torch.cholesky_inverse(system, out=system)
    inverse: Inverse = system.numpy()
    return inverse


def dual_inverse(rows: Rows, lam: float) -> Inverse:
    """P from the U x U side, (I - X'(X X' + lambda)^-1 X) / lambda: the cheap exact retraining where users are few.

    O(U^2 (U + I) + U I^2); rows without entries are skipped.
    """
    dense = torch.from_numpy(_dense(rows))
    inner = dense @ dense.T
    inner.diagonal().add_(lam)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), dense, upper=False)
    found = torch.zeros((dense.shape[1],) * 2, dtype=torch.float64)
    found.diagonal().fill_(1 / lam)
    found.addmm_(half.T, half, alpha=-1 / lam)
    inverse: Inverse = found.numpy()
    return inverse


def leverage(inverse: Inverse, columns: NDArray[np.int32], values: NDArray[np.float64]) -> float:
    """x'Px in (0, 1) for a row x that is in G: how much of the model hangs on this row."""
    return float(values @ inverse[np.ix_(columns, columns)] @ values)


def change(inverse: Inverse, vectors: sparse.csc_matrix, signs: NDArray[np.float64]) -> float:
    """P for G + sum_k sign_k w_k w_k', in place, with w_k the columns of `vectors` (I, k) and signs of +1 or -1.

    P <- P - V (D + W'V)^-1 V' with V = P W and D = diag(signs). Returns the largest eigenvalue of -D W'V restricted to
    what is removed (the leverage), 0 when nothing is. Raises InputError when the corrected matrix would not be
    positive definite, which means that a row is removed which G does not hold.
    """
    wide = _times(inverse, vectors)
    inner = vectors.T @ wide
    inner = (inner + inner.T) / 2
    removed = signs < 0
    top = float(np.linalg.eigvalsh(inner[np.ix_(removed, removed)])[-1]) if removed.any() else 0.0
    if not top < 1:
        raise InputError("rows are removed that the model does not hold", expected="leverage below 1", got=f"{top:.6g}")
    _subtract(inverse, wide, np.linalg.solve(inner + np.diag(signs), wide.T))
    return top


def _subtract(inverse: Inverse, wide: NDArray[np.float64], core: NDArray[np.float64]) -> None:
    """P -= V C in place, on P's own memory, also where that is a memory map."""
    torch.from_numpy(inverse).addmm_(torch.from_numpy(wide), torch.from_numpy(np.ascontiguousarray(core)), alpha=-1)


def _times(inverse: Inverse, vectors: sparse.csc_matrix) -> NDArray[np.float64]:
    """P W, (I, k), reading only the rows of P that W touches (P is symmetric)."""
    found = np.empty((len(inverse), vectors.shape[1]))
    for k in range(vectors.shape[1]):
        span = slice(vectors.indptr[k], vectors.indptr[k + 1])
        columns = vectors.indices[span]
        found[:, k] = vectors.data[span].astype(np.float64) @ inverse[columns]
    return found


def without_items(inverse: Inverse, items: NDArray[np.int64]) -> Inverse:
    """P of the model that never had these columns, (I - k, I - k): the Schur complement P_KK - P_KJ P_JJ^-1 P_JK."""
    kept = np.setdiff1d(np.arange(len(inverse)), items)
    across = inverse[np.ix_(kept, items)]
    found: Inverse = inverse[np.ix_(kept, kept)]
    found -= across @ np.linalg.solve(inverse[np.ix_(items, items)], across.T)
    return found


def with_empty_items(inverse: Inverse, items: NDArray[np.int64], lam: float) -> None:
    """The same in place, all columns kept: what the others had with these is gone, and of these 1 / lambda is left."""
    across = np.ascontiguousarray(inverse[:, items])
    _subtract(inverse, across, np.asarray(np.linalg.solve(across[items], across.T), np.float64))
    inverse[items], inverse[:, items] = 0.0, 0.0
    inverse[items, items] = 1 / lam


def residual(inverse: Inverse, gram: Gram, lam: float, generator: np.random.Generator, probes: int = 4) -> float:
    """max |(G + lambda I) P z - z| over random z of entries +-1: how far the cache is from the truth, O(I^2)."""
    z = generator.integers(0, 2, (len(inverse), probes)) * 2.0 - 1.0
    through = inverse @ z
    found = product(gram, through) + lam * through - z
    worst = float(np.abs(found).max(initial=0.0))
    return worst if math.isfinite(worst) else math.inf


def _dense(rows: Rows) -> NDArray[np.float64]:
    kept: NDArray[np.float64] = rows[np.diff(rows.indptr) > 0].toarray().astype(np.float64)
    return kept
