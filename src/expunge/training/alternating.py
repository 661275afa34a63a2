"""Alternating least squares through the library implicit, and the answers of its model in float64.

implicit sweeps: it solves all users' factors from the items', then all items' from the users'. The start is ours, keyed
by (seed, column), so that no user has a part in another's or an item's first factors; users need none, because the
exact solver reads the items' only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import ThreadpoolController, threadpool_limits

from expunge.core.errors import MissingExtra
from expunge.core.protocols import Progress
from expunge.training.rng import normals

Factors = NDArray[Any]
Floats = NDArray[np.float64]
_SCALE = 0.01


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is minimised: sum over all (u, i) of c_ui (p_ui - x_u'y_i)^2 + regularization (sum |x_u|^2 + sum |y_i|^2),
    with p = 1 and c = 1 + alpha r where there is an event of value r, and p = 0 and c = 1 elsewhere."""

    alpha: float
    regularization: float


@cache
def builds() -> str:
    """Names and versions of what decides the bits: the solver, and whose BLAS and LAPACK it calls."""
    try:
        return ", ".join(f"{name} {metadata.version(name)}" for name in ("implicit", "numpy", "scipy"))
    except metadata.PackageNotFoundError as error:
        raise MissingExtra("alternating least squares (module implicit)", "recsys") from error


def first_factors(seed: str, items: int, factors: int, dtype: str) -> Factors:
    """Item factors (I, K) before the first sweep: normal, with standard deviation .01."""
    found = normals(seed, "items", 0, np.arange(items, dtype=np.int64), factors) * _SCALE
    return found.astype(dtype)


def swept(rows: Any, start: Factors, problem: Problem, sweeps: int, progress: Progress) -> tuple[Factors, Factors]:
    """User factors (U, K) and item factors (I, K) after `sweeps` sweeps from the item factors `start`, on one thread.

    A user, or an item, without events gets exactly 0.
    """
    confidence = sparse.csr_matrix(rows, dtype=np.float64)
    confidence.data = 1 + problem.alpha * confidence.data
    solver = _solver()  # before the limit: libraries loaded under it escape it
    with threadpool_limits(1):
        model = solver(
            factors=start.shape[1],
            regularization=problem.regularization,
            alpha=1.0,  # the confidences already hold it
            dtype=start.dtype,
            use_native=True,
            use_cg=False,
            iterations=sweeps,
            num_threads=1,
            random_state=0,  # draws nothing: both factors are set
        )
        model.user_factors = np.zeros((rows.shape[0], start.shape[1]), start.dtype)
        model.item_factors = start.copy()

        def told(done: int, *_: Any) -> None:
            progress("sweep", done + 1, sweeps)

        model.fit(confidence.astype(np.float32), show_progress=False, callback=told)
    return model.user_factors, model.item_factors


def _solver() -> Any:
    try:
        from implicit.cpu.als import AlternatingLeastSquares
    except ModuleNotFoundError as error:
        raise MissingExtra(f"alternating least squares (module {error.name})", "recsys") from error
    return AlternatingLeastSquares


def folded_in(rows: Any, items: Factors, problem: Problem) -> Floats:
    """Factors (B, K) of the users with these histories (B, I): what the next half sweep would give them, in float64."""
    y = items.astype(np.float64)
    plain = y.T @ y + problem.regularization * np.eye(y.shape[1])
    found = np.zeros((rows.shape[0], y.shape[1]))
    with _loaded().limit(limits=1):
        for number in range(rows.shape[0]):
            span = slice(rows.indptr[number], rows.indptr[number + 1])
            mine, extra = y[rows.indices[span]], problem.alpha * rows.data[span].astype(np.float64)
            found[number] = np.linalg.solve(plain + (mine * extra[:, None]).T @ mine, (1 + extra) @ mine)
    return found


@cache
def _loaded() -> ThreadpoolController:
    """The libraries whose threads are held back in a fold-in; looking for them takes longer than solving for a user."""
    return ThreadpoolController()
