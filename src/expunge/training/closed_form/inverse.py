"""P = (G + lambda I)^-1 in float64: built once, then corrected by Woodbury's identity, never trusted without a residual.

P is a cache: G (integers) is the truth. Arrays are (I, I), C order, symmetric to rounding.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from expunge.core.errors import InputError
from expunge.training.closed_form.gram import Gram, Rows, mirror, product

Inverse = NDArray[np.float64]

REFRESH_RESIDUAL = 1e-9
REFRESH_LEVERAGE = 0.99
REFRESH_EVERY = 10_000


def inverse_of(gram: Gram, lam: float) -> Inverse:
    """P by Cholesky (LAPACK dpotrf, dpotri): I^3 operations, two matrices in memory."""
    if not lam > 0:
        raise InputError("lambda must be above 0", got=str(lam))
    system = gram.astype(np.float64)
    system[np.diag_indices_from(system)] += lam
    factor, info = linalg.lapack.dpotrf(system.T, lower=1, overwrite_a=1, clean=0)
    if info == 0:
        factor, info = linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    if info != 0:
        raise InputError("G + lambda I is not positive definite", got=f"LAPACK info {info}")
    inverse: Inverse = factor.T  # the lower triangle in Fortran order is the upper one in C order
    mirror(inverse)
    return inverse


def dual_inverse(rows: Rows, lam: float) -> Inverse:
    """P from the U x U side, (I - X'(X X' + lambda)^-1 X) / lambda: the cheap exact retraining where users are few.

    O(U^2 (U + I) + U I^2); rows without entries are skipped.
    """
    dense = _dense(rows)
    inner = dense @ dense.T
    inner[np.diag_indices_from(inner)] += lam
    half = linalg.solve_triangular(linalg.cholesky(inner, lower=True), dense, lower=True, overwrite_b=True)
    found: Inverse = half.T @ half
    found *= -1 / lam
    found[np.diag_indices_from(found)] += 1 / lam
    return found


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
    """P -= V C in place, by BLAS on P's own memory (a C array's transpose is a Fortran array), without a copy of P."""
    if wide.shape[1] == 1:
        done = linalg.blas.dger(-1.0, core[0], wide[:, 0], a=inverse.T, overwrite_a=1, overwrite_x=0, overwrite_y=0)
    else:
        done = linalg.blas.dgemm(-1.0, core.T, wide.T, beta=1.0, c=inverse.T, overwrite_c=1)
    if not np.shares_memory(done, inverse):  # not contiguous, or not float64
        inverse[:] = done.T


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
