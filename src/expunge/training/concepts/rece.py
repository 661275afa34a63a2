"""The embedding that still leads to an erased concept, in closed form; and editing it away, round after round.

Gong et al. 2024 (RECE, arXiv 2407.12383, equation 9): after an edit W of W0, the embedding c' whose keys and values come
closest to those that the concept c had is

    c' = (lam I + sum_i W_i' W_i)^-1 (sum_i W_i' W0_i) c,

over all key and value matrices i. Where W_i = W0_i R, the sums are R' S R and R' S with one S = sum_i W0_i' W0_i, so the
matrices are read once, however many rounds follow. What is found there is erased like the concept itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from expunge.core.errors import InputError
from expunge.training.concepts.uce import Edit, Scales, edit_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rounds:
    """`edit` is the last one, of everything. `found` (rounds, n, d): what still led to the concepts after each round;
    `residue` (rounds, n): how much of a concept's keys and values that embedding brings back, 0 = none, 1 = all."""

    edit: Edit
    found: Floats
    residue: Floats


def spectrum(weights: Iterable[ArrayLike]) -> Floats:
    """S = sum W0' W0 (d, d) over key and value matrices (out, d), one at a time."""
    total: Floats | None = None
    for weight in weights:
        matrix = np.asarray(weight, np.float64)
        if matrix.ndim != 2 or not np.isfinite(matrix).all():
            raise InputError("keys and values are finite matrices", got=str(matrix.shape))
        if total is not None and total.shape[0] != matrix.shape[1]:
            raise InputError("keys and values of different widths", expected=str(len(total)), got=str(matrix.shape[1]))
        square = matrix.T @ matrix
        total = square if total is None else total + square
    if total is None:
        raise InputError("no keys and values were given")
    return total


def strongest(gram: Floats, factor: Floats, concepts: ArrayLike, lam: float) -> tuple[Floats, Floats]:
    """c' (n, d) for concepts (n, d) under W0 R, and the share of |W0 c|^2 that W0 R c' explains, (n,) in 0..1."""
    rows = np.asarray(concepts, np.float64)
    inner = factor.T @ gram @ factor
    found = linalg.solve(lam * np.eye(len(gram)) + inner, factor.T @ gram @ rows.T, assume_a="pos").T
    whole = np.einsum("nd,de,ne->n", rows, gram, rows)
    missed = np.einsum("nd,de,ne->n", rows - found @ factor.T, gram, rows - found @ factor.T)
    share = 1 - np.divide(missed, whole, out=np.ones_like(missed), where=whole > 0)
    return np.asarray(found, np.float64), np.clip(share, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How often to look for what still leads there, and the lam of the search: small for artists (1e-3 in the paper)."""

    rounds: int = 1
    lam: float = 1e-3

    def __post_init__(self) -> None:
        if not (1 <= self.rounds <= 1000 and self.lam > 0):
            got = f"{self.rounds}, {self.lam}"
            raise InputError("rounds and search out of range", expected="rounds 1..1000, lam > 0", got=got)


PUBLISHED = Scales(lam=0.1)
"""Of the official code for artists."""
ONE_ROUND = Search()
"""Of the paper for artists."""


def erased_in_rounds(
    gram: Floats,
    erase: ArrayLike,
    guide: ArrayLike,
    preserve: ArrayLike | None = None,
    scales: Scales = PUBLISHED,
    search: Search = ONE_ROUND,
) -> Rounds:
    """Erase, look for what still leads there, erase that too, round after round. Raises InputError as `edit_of`."""
    concepts, targets = np.asarray(erase, np.float64), np.asarray(guide, np.float64)
    away, towards = concepts, targets
    edit = edit_of(away, towards, preserve, scales)
    found, residue = [], []
    for _ in range(search.rounds):
        back, share = strongest(gram, edit.factor, concepts, search.lam)
        found.append(back)
        residue.append(share)
        away, towards = np.concatenate([away, back]), np.concatenate([towards, targets])
        edit = edit_of(away, towards, preserve, scales)
    return Rounds(edit=edit, found=np.stack(found), residue=np.stack(residue))
