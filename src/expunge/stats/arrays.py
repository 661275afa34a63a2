"""What an array must be before a statistic may touch it. A wrong one is a broken check, never a verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from expunge.core.errors import CheckBroken

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LARGEST = 1e60
"""Beyond this a fourth power leaves float64, and a statistic would be infinity over infinity. No score is this large."""
LOG_PROBABILITY_SLACK = 1e-5
"""Rounding of a float32 log-softmax: a log-probability may exceed 0 by this much, in nats."""


def finite(name: str, values: ArrayLike, shape: tuple[int | None, ...]) -> Floats:
    """The values as float64 of the given shape; None leaves a length open.

    Raises CheckBroken on shape, NaN, infinity or a value beyond 1e60, and on complex numbers.
    """
    try:
        raw: NDArray[Any] = np.asarray(values)
        array = raw.astype(np.float64, casting="unsafe" if raw.dtype.kind in "OUS" else "same_kind")
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckBroken(f"{name} is not an array of numbers", got=str(error)[:120]) from error
    _same_shape(name, array.shape, shape)
    if not np.isfinite(array).all():
        bad = int(array.size - np.isfinite(array).sum())
        raise CheckBroken(f"{name} holds NaN or infinity", expected="finite numbers", got=f"{bad} of {array.size}")
    if array.size and np.abs(array).max() > LARGEST:
        raise CheckBroken(f"{name} holds absurdly large values", expected=f"at most {LARGEST:g}", got="more")
    return array


def log_probabilities(name: str, values: ArrayLike, shape: tuple[int | None, ...]) -> Floats:
    """Natural-log probabilities, at most 0. Raises CheckBroken, for instance when logits or losses came instead."""
    array = finite(name, values, shape)
    if array.size and array.max() > LOG_PROBABILITY_SLACK:
        raise CheckBroken(
            f"{name} holds values above 0",
            expected="natural-log probabilities of the true class",
            got=f"a largest value of {array.max():.4g}",
            hint="pass log-softmax of the true class, not a logit or a loss",
        )
    return np.minimum(array, 0.0)


def booleans(name: str, values: ArrayLike, shape: tuple[int | None, ...]) -> Bools:
    """The values as a bool array; 0/1 integers are taken, anything else raises CheckBroken."""
    try:
        array: NDArray[Any] = np.asarray(values)
    except ValueError as error:
        raise CheckBroken(f"{name} is not a mask", got=str(error)[:120]) from error
    _same_shape(name, array.shape, shape)
    if array.dtype.kind not in "biuf":
        raise CheckBroken(f"{name} is not a mask", expected="True and False", got=str(array.dtype))
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise CheckBroken(f"{name} is not a mask", expected="True and False", got=str(array.dtype))
    return array.astype(np.bool_)


def _same_shape(name: str, got: tuple[int, ...], wanted: tuple[int | None, ...]) -> None:
    fits = len(got) == len(wanted) and all(w is None or g == w for g, w in zip(got, wanted, strict=True))
    if not fits:
        shown = ", ".join("any" if length is None else str(length) for length in wanted)
        raise CheckBroken(f"{name} has the wrong shape", expected=f"({shown})", got=str(got))
