"""A linear recommender trained elsewhere, taken over from its weights: P and the integer Gram matrix come back from B.

EASE (Steck, WWW 2019, eq. 8): P = (G + λI)⁻¹, B_ij = −P_ij / P_jj off the diagonal and 0 on it. P is symmetric, so
B_ij / B_ji = P_ii / P_jj: the logarithms of these ratios, weighted by B_ij B_ji = P_ij² / (P_ii P_jj), give diag(P) up
to one factor a connected component. The factor follows from the item counts, diag(P⁻¹) − λ, or from the off-diagonal
of P⁻¹ being whole numbers. G is then rounded, P is inverted anew from it, and B must come out again.

I items. Cost: two Cholesky inversions, O(I³); memory 2 × 8 I² bytes beside B. P is that of the rounded G, so it is as
good as float64 allows even where B is float32. B of (G, λ) and of (G + I, λ − 1) are one matrix: without counts a λ
that is wrong by a whole number shifts the recovered counts by it and leaves P as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from expunge.core.errors import DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_ITEMS = 20_000
LARGEST_DISTANCE = 0.25
"""A recovered entry farther from a whole number than this is not one. Half of what would be rounded wrongly."""
MAX_ASYMMETRY = {4: 1e-3, 8: 1e-6}
"""By bytes of a weight, on the scale of correlations: beyond it P cannot have been symmetric."""
_BLOCK = 512
_STEPS = 50
_SAMPLE = 32
_CANDIDATES = 1024
_ROUNDINGS = 64
_FEWEST = 6
"""Items in a group. Of two or three a scale smaller than the true one may be whole by chance."""
_LARGEST_COUNT = 2**16
_LARGEST_ENTRY = 2.0**40
_CODE = "not-closed-form"


_NOISE = 1e-24
"""Squared correlations below this are rounding of zeros: items that nobody had together, not even through others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How good a recovery is. `components`: groups of items that never occur together, singles included.

    asymmetry: largest |P_ij − P_ji| / √(P_ii P_jj) before averaging. distance: largest distance of an entry of P⁻¹ − λI
    to a whole number, off the diagonal only if counts were given. count_deviation: largest distance of its diagonal to
    the counts, None without. regularisation: what counts and weights imply, None where they do not. weights_error:
    largest |B − B recomputed from G|, and weights_limit, what the precision of B explains. inverse_error: largest
    difference of P read from B to P inverted from G, relative to the largest entry of P.
    """

    components: int
    asymmetry: float
    distance: float
    count_deviation: float | None
    regularisation: float | None
    weights_error: float
    weights_limit: float
    inverse_error: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adopted:
    """inverse: P (I, I) float64. gram: G (I, I) int64, its diagonal the item counts (sums of squared values)."""

    inverse: Floats
    gram: Ints
    regularisation: float
    fit: Fit


def adopt(weights: ArrayLike, regularisation: float, item_counts: ArrayLike | None = None) -> Adopted:
    """P and G of an EASE model from B (I, I) float32 or float64, λ and, if known, diag(G) (I,).

    Training values must have been whole numbers; of half stars pass 4 λ and 4 diag(G), which leave B as it is. Raises
    DataError (`not-closed-form`) when B is not of that form: pruned, thresholded, negatives cut, another λ or counts.
    """
    given = _weights(weights)
    lam, counts = _regularisation(regularisation), _counts(item_counts, len(given))
    logs, label = _log_diagonal(given)
    inverse, asymmetry = _inverse_up_to_scale(given, logs)
    if not asymmetry <= MAX_ASYMMETRY[given.itemsize]:
        raise _refused(given, "P = −B diag(P) is not symmetric", f"at most {MAX_ASYMMETRY[given.itemsize]}", asymmetry)
    whole = _inverted(inverse, given)
    implied = None if counts is None else _implied(np.diag(whole), label, counts)
    if implied is not None and not abs(implied[0] - lam) <= implied[1] + 1e-9 * lam:
        raise _refused(given, "weights and item counts imply another regularisation", f"λ = {lam:.9g}", implied[0])
    factor = _by_counts(whole, label, lam, counts) if counts is not None else _by_wholeness(given, whole, label, lam)
    gram, distance, deviation = _rounded(whole, factor, lam, counts)
    _whole_enough(given, gram, distance, deviation)
    exact, limit = _inverse_of_gram(given, gram, lam, whole)
    error, shift = _compared(given, exact, logs - np.log(factor))
    if not error <= limit:
        raise _refused(given, "the model of the recovered Gram matrix has other weights", f"{limit:.3g}", error)
    fit = Fit(
        components=int(label.max()) + 1,
        asymmetry=asymmetry,
        distance=distance,
        count_deviation=deviation,
        regularisation=None if implied is None else implied[0],
        weights_error=error,
        weights_limit=limit,
        inverse_error=shift,
    )
    return Adopted(inverse=exact, gram=gram, regularisation=lam, fit=fit)


# -------------------------------------------------------------------------------------------------------------- input


def _weights(weights: ArrayLike) -> NDArray[np.floating[Any]]:
    array = np.asarray(weights)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not 1 <= len(array) <= MAX_ITEMS:
        expected = f"a square matrix of 1 to {MAX_ITEMS} items"
        raise DataError("weights have the wrong shape", expected=expected, got=str(array.shape), code=_CODE)
    if array.dtype not in (np.float32, np.float64):
        raise DataError("weights of the wrong kind", expected="float32 or float64", got=str(array.dtype), code=_CODE)
    array = np.ascontiguousarray(array)
    if not np.isfinite(array).all() or _largest_of(array) > 1e15:
        raise DataError("weights hold NaN, infinity or values beyond 1e15", expected="finite weights", code=_CODE)
    if np.diag(array).any():
        count = int(np.count_nonzero(np.diag(array)))
        raise DataError("the diagonal is not zero", expected="B_ii = 0", got=f"{count} items with a weight", code=_CODE)
    return array


def _regularisation(value: float) -> float:
    if not (np.isfinite(value) and value > 0):
        raise DataError("regularisation out of range", expected="λ above 0", got=str(value), code=_CODE)
    return float(value)


def _counts(counts: ArrayLike | None, items: int) -> Floats | None:
    if counts is None:
        return None
    array = np.asarray(counts)
    if array.shape != (items,) or array.dtype.kind not in "iuf":
        got = f"{array.dtype} {array.shape}"
        raise DataError("item counts of the wrong kind", expected=f"({items},) whole numbers", got=got, code=_CODE)
    floats = array.astype(np.float64)
    if not (np.isfinite(floats).all() and (floats >= 0).all() and (floats % 1 == 0).all() and (floats < 2**52).all()):
        raise DataError("item counts are not counts", expected="whole numbers, 0 or more", code=_CODE)
    return floats


# --------------------------------------------------------------------------------------------------- diag(P) from B


def _log_diagonal(given: NDArray[np.floating[Any]]) -> tuple[Floats, Ints]:
    """log diag(P) up to a constant a component, and the component of every item."""
    strength = np.multiply(given, given.T, dtype=np.float64)
    strength[strength < _NOISE] = 0
    order, parent, label = _spanning_forest(strength)
    logs = np.zeros(len(given))
    for item in order[parent[order] >= 0].tolist():
        above = int(parent[item])
        logs[item] = logs[above] + np.log(float(given[item, above]) / float(given[above, item]))
    logs = _least_squares(given, strength, logs, label)
    return logs - (np.bincount(label, logs) / np.bincount(label))[label], label


def _spanning_forest(strength: Floats) -> tuple[Ints, Ints, Ints]:
    """Prim's maximum spanning forest: the order of visit, every item's parent (-1 at a root) and its component."""
    items = len(strength)
    order, parent, label = np.zeros(items, np.int64), np.full(items, -1), np.zeros(items, np.int64)
    best, waiting = np.zeros(items), np.ones(items, bool)
    component = -1
    for step in range(items):
        item = int(np.argmax(best))
        if best[item] <= 0:
            item = int(np.argmax(waiting))
            component += 1
        order[step], label[item] = item, component
        waiting[item], best[item] = False, -1.0
        nearer = waiting & (strength[item] > best)
        best[nearer] = strength[item][nearer]
        parent[nearer] = item
    return order, parent, label


def _least_squares(given: NDArray[np.floating[Any]], strength: Floats, logs: Floats, label: Ints) -> Floats:
    """Minimise Σ strength_ij (log(B_ij / B_ji) − d_i + d_j)² over d, by conjugate gradients from the forest's answer."""
    sizes = np.bincount(label)

    def centred(values: Floats) -> Floats:
        """Without what is constant within a component, which the sum does not see and rounding would let grow."""
        return np.asarray(values - (np.bincount(label, values) / sizes)[label], np.float64)

    degree = strength.sum(axis=1)
    scale = np.where(degree > 0, degree, 1.0)
    rest = centred(_gradient(given, strength, logs))
    step, found = centred(rest / scale), np.zeros(len(logs))
    size = start = float(rest @ step)
    for _ in range(_STEPS):
        image = degree * step - strength @ step
        along = float(step @ image)
        if not (along > 0 and size > 1e-10 * start):
            break
        found += (size / along) * step
        rest = centred(rest - (size / along) * image)
        ahead = centred(rest / scale)
        before, size = size, float(rest @ ahead)
        step = ahead + (size / before) * step
    return logs + centred(found)


def _gradient(given: NDArray[np.floating[Any]], strength: Floats, logs: Floats) -> Floats:
    """Σ_j strength_ij (log(B_ij / B_ji) − d_i + d_j)."""
    gradient = np.zeros(len(logs))
    for rows in _blocks(len(logs)):
        pair = strength[rows] > 0
        ratio = np.where(pair, given[rows], 1.0) / np.where(pair, given[:, rows].T, 1.0)
        gradient[rows] = np.einsum("ij,ij->i", strength[rows], np.log(ratio) - (logs[rows, None] - logs))
    return gradient


def _inverse_up_to_scale(given: NDArray[np.floating[Any]], logs: Floats) -> tuple[Floats, float]:
    """P from diag(P), averaged with its transpose, and the largest asymmetry on the scale of correlations."""
    diagonal, root = np.exp(logs), np.exp(logs / 2)
    inverse = np.multiply(given, -diagonal, dtype=np.float64)
    inverse[np.diag_indices(len(logs))] = diagonal
    asymmetry = 0.0
    for rows in _blocks(len(logs)):
        rest = slice(rows.start, None)
        upper, lower = inverse[rows, rest], inverse[rest, rows].T
        difference = np.abs(upper - lower) / (root[rows, None] * root[rest])
        asymmetry = max(asymmetry, float(difference.max()))
        mean = (upper + lower) / 2
        inverse[rows, rest] = mean
        inverse[rest, rows] = mean.T
    return inverse, asymmetry


def _inverted(matrix: Floats, given: NDArray[np.floating[Any]]) -> Floats:
    """The inverse of a symmetric positive definite matrix, in its place. Refuses one that is not.

    By torch, as in `inverse`: scipy's LAPACK crashes at 20,000 items.
    """
    system, info = torch.from_numpy(matrix), torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(system, out=(system, info))
    if int(info) != 0:
        raise _refused(given, "P is not positive definite", "an inverse of G + λI", f"minor {int(info)}")
    torch.cholesky_inverse(system, out=system)
    inverse: Floats = system.numpy()
    return inverse


# ---------------------------------------------------------------------------------------------------------- the scale


def _implied(diagonal: Floats, label: Ints, counts: Floats) -> tuple[float, float] | None:
    """λ of the line counts = t · diagonal − λ through the largest component, and how far off it may be by what the
    points miss the line. None where fewer than ten different counts hold the line."""
    members = label == int(np.argmax(np.bincount(label)))
    points, target = diagonal[members], counts[members]
    if len(np.unique(target)) < 10:
        return None
    columns = np.stack([points, -np.ones(len(points))], axis=1) / (1 + target)[:, None]
    solution = np.linalg.lstsq(columns, target / (1 + target), rcond=None)[0]
    missed = columns @ solution - target / (1 + target)
    spread = np.linalg.pinv(columns.T @ columns)[1, 1] * float(missed @ missed) / (len(points) - 2)
    return float(solution[1]), float(np.abs(missed * (1 + target)).max() + 20 * np.sqrt(max(spread, 0.0)))


def _by_counts(whole: Floats, label: Ints, lam: float, counts: Floats) -> Floats:
    """The factor of every item's component that makes the diagonal λ + counts."""
    ratio = (lam + counts) / np.diag(whole)
    return np.asarray((np.bincount(label, ratio) / np.bincount(label))[label], np.float64)


def _by_wholeness(given: NDArray[np.floating[Any]], whole: Floats, label: Ints, lam: float) -> Floats:
    """The smallest factor of every component that makes its entries whole and its rarest item λ + a whole number."""
    sizes = np.bincount(label)
    few = int(sizes[sizes < _FEWEST].sum())
    if few:
        raise DataError(
            f"{few} items are in groups of fewer than {_FEWEST} that nothing joins: their weights do not tell their counts",
            expected="item counts",
            got="none",
            hint="pass item_counts (diag(X'X)) for this model",
            code=_CODE,
        )
    factor = np.ones(len(label))
    for items in np.split(np.argsort(label, kind="stable"), np.cumsum(sizes)[:-1]):
        factor[items] = _smallest_factor(given, whole[np.ix_(items, items)] if len(items) < len(label) else whole, lam)
    return factor


def _smallest_factor(given: NDArray[np.floating[Any]], part: Floats, lam: float) -> float:
    """Tries λ + 0, λ + 1, … for the rarest item. The first candidate is taken that leaves a sample of entries, and of
    the diagonal less λ, as near to whole numbers as any does."""
    diagonal = np.diag(part)
    rare, common = int(np.argmin(diagonal)), int(np.argmax(diagonal))
    off = np.concatenate([_largest(np.delete(part[item], item)) for item in (rare, common)])
    sample = np.concatenate([off, _largest(diagonal)])
    shift = np.where(np.arange(len(sample)) < len(off), 0.0, lam)
    best_miss, best = np.inf, np.nan
    for start in range(0, _LARGEST_COUNT, _CANDIDATES):
        tried = (lam + start + np.arange(_CANDIDATES)) / diagonal[rare]
        entries = np.outer(tried, sample)
        noise = _ROUNDINGS * float(np.finfo(given.dtype).eps) * np.maximum(np.abs(entries), 1)
        misses = (np.abs(entries - shift - np.rint(entries - shift)) / noise).max(axis=1)
        misses[~np.rint(entries[:, : len(off)]).any(axis=1)] = np.inf  # nobody has two items: no group
        if misses.min() < best_miss / 10:
            near = int(np.flatnonzero(misses <= max(10 * misses.min(), 1.0))[0])
            best_miss, best = float(misses.min()), float(tried[near])
        if best_miss <= 1:
            break
    wanted = np.rint(best * sample - shift) + shift
    miss = float(np.abs(best * sample - wanted).max())
    if not miss <= LARGEST_DISTANCE / 2:
        raise _refused(given, "no scale makes P⁻¹ − λI whole numbers", "distance 0", miss)
    return best * float(wanted @ wanted) / float(wanted @ (best * sample))


def _largest(values: Floats) -> Floats:
    return values[np.argsort(-np.abs(values), kind="stable")[:_SAMPLE]]


# ------------------------------------------------------------------------------------------------------------ checking


def _rounded(whole: Floats, factor: Floats, lam: float, counts: Floats | None) -> tuple[Ints, float, float | None]:
    """G, the largest distance of an entry to a whole number, and that of the diagonal to the counts."""
    gram = np.empty(whole.shape, np.int64)
    root, distance = np.sqrt(factor), 0.0
    diagonal = np.diag(whole) * factor - lam
    for rows in _blocks(len(whole)):
        entries = whole[rows] * (root[rows, None] * root)
        own = np.arange(rows.start, rows.stop)
        entries[own - rows.start, own] = diagonal[rows] if counts is None else counts[rows]
        near = np.rint(entries)
        if not np.abs(near).max() <= _LARGEST_ENTRY:
            return gram, np.inf, None
        distance = max(distance, float(np.abs(entries - near).max()))
        gram[rows] = near
    return gram, distance, None if counts is None else float(np.abs(diagonal - counts).max())


def _whole_enough(given: NDArray[np.floating[Any]], gram: Ints, distance: float, deviation: float | None) -> None:
    if not distance <= LARGEST_DISTANCE:
        raise _refused(given, "P⁻¹ − λI is not whole numbers", f"at most {LARGEST_DISTANCE} from one", distance)
    if deviation is not None and deviation > LARGEST_DISTANCE:
        expected = f"at most {LARGEST_DISTANCE} apart"
        raise _refused(given, "the diagonal of P⁻¹ − λI is not the item counts", expected, deviation)
    diagonal = np.diag(gram).astype(np.float64)
    for rows in _blocks(len(gram)):
        if (gram[rows].astype(np.float64) ** 2 > diagonal[rows, None] * diagonal).any():
            raise _refused(given, "two items occur together more often than either does", "G_ij² ≤ G_ii G_jj", "more")


def _largest_of(array: NDArray[np.floating[Any]]) -> float:
    return max(float(array.max()), -float(array.min()))


def _row_sum(matrix: Floats) -> float:
    return max(float(np.abs(matrix[rows]).sum(axis=1).max()) for rows in _blocks(len(matrix)))


def _inverse_of_gram(given: NDArray[np.floating[Any]], gram: Ints, lam: float, room: Floats) -> tuple[Floats, float]:
    """P of the whole-number G, in the memory of `room`, and how far its B may be from the one given: by rounding, and
    by an inversion in the precision of B."""
    np.multiply(gram, 1.0, out=room)
    room[np.diag_indices(len(room))] += lam
    condition = _row_sum(room) / lam
    limit = 4 * float(np.finfo(given.dtype).eps) * (1 + _largest_of(given) * condition)
    return _inverted(room, given), limit


def _compared(given: NDArray[np.floating[Any]], exact: Floats, logs: Floats) -> tuple[float, float]:
    """Largest |B − B of `exact`|, and largest |P of B − `exact`| over the largest entry."""
    diagonal, read, error, shift = np.diag(exact).copy(), np.exp(logs), 0.0, 0.0
    for rows in _blocks(len(exact)):
        own = np.arange(rows.start, rows.stop)
        difference = exact[rows] / -diagonal - given[rows]
        difference[own - rows.start, own] = 0
        error = max(error, float(np.abs(difference).max()))
        moved = exact[rows] + given[rows] * read
        moved[own - rows.start, own] = diagonal[rows] - read[rows]
        shift = max(shift, float(np.abs(moved).max()))
    return error, shift / float(diagonal.max())


def _refused(given: NDArray[np.floating[Any]], what: str, expected: str, got: float | str) -> DataError:
    """With the likeliest reason, as far as the zeros and the signs of the weights tell it."""
    shown = got if isinstance(got, str) else f"{got:.6g}"
    return DataError(f"not the weights of EASE: {what}", expected=expected, got=shown, hint=_reason(given), code=_CODE)


def _reason(given: NDArray[np.floating[Any]]) -> str:
    pairs = max(1, given.size - len(given))
    zeros = int((given == 0).sum()) - len(given)
    one_sided = int(((given == 0) != (given.T == 0)).sum())
    if one_sided:
        return f"{one_sided} of {pairs} weights are zero on one side only: adopt the model before its lists were pruned"
    if zeros and not (given < 0).any():
        return f"no weight is negative, {zeros} of {pairs} are zero: negatives were cut (Cornac: refit with posB=False)"
    if zeros > pairs // 100:
        return f"{zeros} of {pairs} weights are zero: adopt the model before it was thresholded"
    return "check λ and the item counts (sums of squared values), and that the values trained on were whole numbers"


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK))
