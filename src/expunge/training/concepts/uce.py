"""Unified concept editing in closed form: one matrix for all keys and values of a text-conditioned model.

Gandikota et al. 2024 (arXiv 2308.14761, equation 7) minimise, for every key or value matrix W of the cross-attention,

    a sum_i |W e_i - W0 g_i|^2 + b sum_j |W p_j - W0 p_j|^2 + lam |W - W0|_F^2.

Every target is W0 times something, so the solution is W = W0 R with one R for all layers,

    R = (lam I + a sum g_i e_i' + b sum p_j p_j') C^-1,   C = lam I + a sum e_i e_i' + b sum p_j p_j',

and C is symmetric and positive definite. What it does to any embedding x can be said before anything is sampled: W x becomes
W0 (R x). This changes what a prompt leads to. It removes nothing that the weights know: one learned token brings it back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from expunge.core.errors import InputError

Floats = NDArray[np.float64]
WORST_CONDITION = 1e10
"""Beyond it the solve has no digits left in single precision weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """Weights of the three terms: `erase` a, `preserve` b, and `lam`, of staying as it was. Raises InputError out of range."""

    erase: float = 1.0
    preserve: float = 1.0
    lam: float = 0.5

    def __post_init__(self) -> None:
        values = [self.erase, self.preserve, self.lam]
        if not (self.erase > 0 and self.preserve >= 0 and self.lam >= 0 and np.isfinite(values).all()):
            raise InputError("scales out of range", expected="erase > 0, preserve >= 0, lam >= 0", got=str(values))


PLAIN = Scales()
"""As in the official code."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edit:
    """`factor` R (d, d). `condition` of C in the 2-norm; `distance` |R - I| in the Frobenius norm."""

    factor: Floats
    condition: float
    distance: float

    def shift(self, embeddings: ArrayLike) -> Floats:
        """(n,) |R x - x| / |x| for embeddings x (n, d): how far each is moved before any layer sees it. 0 = untouched."""
        rows = _rows("embeddings", embeddings, len(self.factor))
        lengths = np.linalg.norm(rows, axis=1)
        moved = np.linalg.norm(rows @ self.factor.T - rows, axis=1)
        found: Floats = np.divide(moved, lengths, out=np.zeros_like(moved), where=lengths > 0)
        return found


def edit_of(erase: ArrayLike, guide: ArrayLike, preserve: ArrayLike | None = None, scales: Scales = PLAIN) -> Edit:
    """R for embeddings to erase (n, d), what they should lead to (n, d), and embeddings to keep (m, d).

    Raises InputError on shapes that do not fit, numbers that are not finite, and a C that cannot be solved with
    (lam = 0 with fewer embeddings than dimensions).
    """
    away = _rows("erase", erase, None)
    width = away.shape[1]
    towards = _rows("guide", guide, width)
    kept = np.zeros((0, width)) if preserve is None or not np.size(preserve) else _rows("preserve", preserve, width)
    if len(towards) != len(away):
        raise InputError("a guide for every concept to erase", expected=str(len(away)), got=str(len(towards)))
    common = scales.lam * np.eye(width) + scales.preserve * kept.T @ kept
    square = common + scales.erase * away.T @ away
    values = linalg.eigvalsh(square)
    if not values[0] > values[-1] / WORST_CONDITION:
        raise InputError(
            "these concepts cannot be solved for: C is singular",
            expected=f"a condition number below {WORST_CONDITION:g}",
            got=f"eigenvalues {values[0]:.3g} to {values[-1]:.3g}",
            hint="a larger lam",
        )
    target = common + scales.erase * towards.T @ away
    factor = linalg.cho_solve(linalg.cho_factor(square), target.T).T
    return Edit(
        factor=np.asarray(factor, np.float64),
        condition=float(values[-1] / values[0]),
        distance=float(np.linalg.norm(factor - np.eye(width))),
    )


def _rows(name: str, values: ArrayLike, width: int | None) -> Floats:
    rows = np.asarray(values, np.float64)
    if rows.ndim != 2 or not rows.size or (width is not None and rows.shape[1] != width):
        raise InputError(f"{name} are rows of embeddings", expected=f"(n, {width or 'd'})", got=str(rows.shape))
    if not np.isfinite(rows).all():
        raise InputError(f"{name} are not finite")
    return rows
