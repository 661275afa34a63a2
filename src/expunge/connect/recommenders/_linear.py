"""What a reader returns: the weights of a linear recommender, the factors of one, or lists of neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from expunge.core.errors import InputProblems

Weights = NDArray[np.floating[Any]]
_HINT = "correct the file, or export the model as the reader `arrays` describes"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignLinear:
    """A linear item-to-item model: the score of item j for a history x is (x B)_j.

    items: column -> item id, None where the artefact has none. weights: B (I, I) float32 or float64 with a zero
    diagonal, None where it has none. regularisation: λ. item_counts: (I,) int64, diag(X'X): sums of squared values, the
    number of users for implicit data. Where the values trained on were halves, `values_times` is 2, λ and counts are 4
    times what the artefact says, and X is meant in halves: B does not change. source: tool and format. residues: what
    else in the artefact holds users' rows or names; they have to be destroyed with it.
    """

    items: tuple[str, ...] | None
    weights: Weights | None
    regularisation: float | None
    item_counts: NDArray[np.int64] | None
    source: str
    residues: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    values_times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignFactors:
    """A factor model: user_factors (U, K) and item_factors (I, K), float32 or float64, and the settings it was
    trained with. The user factors are users' rows: they are always among the residues."""

    user_factors: Weights
    item_factors: Weights
    settings: Mapping[str, int | float | str | bool]
    source: str
    residues: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForeignNeighbours:
    """An item-to-item model that kept the `kept` nearest: similarity (I, I), rows and columns are items."""

    similarity: sparse.csr_matrix
    kept: int
    source: str
    residues: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Foreign = ForeignLinear | ForeignFactors | ForeignNeighbours


@runtime_checkable
class RecommenderReader(Protocol):
    """Reads what one tool writes. `layout` says in one line which files it takes."""

    layout: str

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """Whether these files look like this tool's, by their names and first bytes alone; cheap, and never raises."""

    def read(self, files: tuple[Path, ...]) -> Foreign:
        """The model. Raises DataError or InputProblems on what is not one, and executes nothing."""


def linear(
    source: str,
    *,
    weights: object,
    regularisation: object = None,
    items: Sequence[str] | None = None,
    item_counts: object = None,
    residues: Sequence[str] = (),
    notes: Sequence[str] = (),
    values_times: int = 1,
) -> ForeignLinear:
    """A checked ForeignLinear. Raises InputProblems with everything that is wrong."""
    problems: list[str] = []
    matrix = _matrix(problems, weights)
    count = None if matrix is None else len(matrix)
    counts = _counts(problems, item_counts, count)
    lam = _lambda(problems, regularisation)
    _check_items(problems, items, count)
    if problems or matrix is None:
        raise InputProblems(source, problems, hint=_HINT)
    return ForeignLinear(
        items=None if items is None else tuple(items),
        weights=matrix,
        regularisation=lam,
        item_counts=counts,
        source=source,
        residues=tuple(residues),
        notes=tuple(notes),
        values_times=values_times,
    )


def _check_items(problems: list[str], items: Sequence[str] | None, count: int | None) -> None:
    if items is None:
        return
    if count is not None and len(items) != count:
        problems.append(f"{len(items)} item ids for {count} items")
    if len(set(items)) != len(items):
        problems.append("item ids come twice")
    try:
        "".join(items).encode("utf-8")
    except UnicodeEncodeError:
        problems.append("item ids are not text (halves of a surrogate pair)")


def _matrix(problems: list[str], weights: object) -> Weights | None:
    if not isinstance(weights, np.ndarray):
        problems.append(f"weights (I, I) expected, got {type(weights).__name__}")
    elif weights.ndim != 2 or weights.shape[0] != weights.shape[1] or not weights.size:
        problems.append(f"square weights expected, got {weights.shape}")
    elif weights.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        problems.append(f"weights float32 or float64 expected, got {weights.dtype}")
    elif not np.isfinite(weights).all():
        problems.append("weights hold NaN or infinity")
    elif np.diag(weights).any():
        problems.append(f"a zero diagonal expected, {np.count_nonzero(np.diag(weights))} items have a weight to itself")
    else:
        return weights
    return None


def _counts(problems: list[str], counts: object, items: int | None) -> NDArray[np.int64] | None:
    if counts is None:
        return None
    if not isinstance(counts, np.ndarray) or counts.ndim != 1 or counts.dtype.kind not in "iuf":
        problems.append("item counts: one number an item expected")
        return None
    if items is not None and len(counts) != items:
        problems.append(f"{len(counts)} item counts for {items} items")
    if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts < 2**52).all() and (counts % 1 == 0).all()):
        problems.append("item counts: whole numbers, 0 or more, expected")
        return None
    return counts.astype(np.int64)


def _lambda(problems: list[str], value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
        problems.append(f"regularisation above 0 expected, got {str(value)[:40]}")
        return None
    return float(value)
