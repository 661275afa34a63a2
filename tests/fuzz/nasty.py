"""Arrays as they come when something went wrong upstream, and the rule for what a statistic may do with them."""

from __future__ import annotations

import dataclasses
import enum
import math
import warnings
from collections.abc import Mapping

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from expunge.core.errors import ExpungeError

FEW = settings(max_examples=25, deadline=None, derandomize=True, database=None)
SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-320, 1e-12, 1e12, 1e59, 1e300, -1e300)


def _plain(rng, shape):
    return rng.normal(size=shape)


def _sprinkled(rng, shape):
    values = rng.normal(size=shape)
    if values.size:
        values.flat[rng.integers(values.size)] = SPECIAL[rng.integers(len(SPECIAL))]
    return values


KINDS = {
    "plain": _plain,
    "sprinkled": _sprinkled,
    "constant": lambda rng, shape: np.full(shape, rng.choice([0.0, 1.0, -3.5, 1e9])),
    "huge": lambda rng, shape: rng.normal(size=shape) * 1e58,
    "too huge": lambda rng, shape: rng.normal(size=shape) * 1e200,
    "tiny": lambda rng, shape: rng.normal(size=shape) * 1e-300,
    "small steps on a large level": lambda rng, shape: 1e15 + rng.integers(0, 3, size=shape).astype(float),
    "coarse": lambda rng, shape: rng.integers(-2, 3, size=shape).astype(float),
    "one outlier": lambda rng, shape: np.where(rng.random(shape) < 0.1, 1e6, rng.normal(size=shape)),
    "all NaN": lambda rng, shape: np.full(shape, np.nan),
    "integers": lambda rng, shape: rng.integers(-5, 6, size=shape),
    "float16": lambda rng, shape: rng.normal(size=shape).astype(np.float16),
    "complex": lambda rng, shape: rng.normal(size=shape) + 1j,
    "text": lambda rng, shape: np.full(shape, "x", dtype=object),
    "none": lambda rng, shape: np.full(shape, None, dtype=object),
}
SIZES = (0, 1, 2, 3, 4, 7, 8, 20, 25, 40)
NUMBERS = (0.0, -1.0, 1.0, 0.5, 0.05, 1e-9, 1 - 1e-9, 2.0, 1e6, 1e300, math.nan, math.inf)
COUNTS = (-1, 0, 1, 2, 3, 8, 19, 40, 1000)

numbers = st.sampled_from(NUMBERS)
counts = st.sampled_from(COUNTS)


@st.composite
def columns(draw, how_many, paired=True):
    """Several 1-d arrays; of one length unless the draw unpairs them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.sampled_from(SIZES))
    arrays = []
    for _ in range(how_many):
        kind = draw(st.sampled_from(sorted(KINDS)))
        here = size if paired and draw(st.integers(0, 9)) else draw(st.sampled_from(SIZES))
        arrays.append(KINDS[kind](rng, (here,)))
    return arrays


@st.composite
def tables(draw, how_many):
    """Several 2-d arrays of fitting shapes, most of the time."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.sampled_from((0, 1, 3)))
    arrays = []
    for _ in range(how_many):
        kind = draw(st.sampled_from(sorted(KINDS)))
        here = width if draw(st.integers(0, 9)) else draw(st.sampled_from((0, 1, 3)))
        arrays.append(KINDS[kind](rng, (draw(st.sampled_from((0, 2, 8, 9, 12))), here)))
    return arrays


def survives(call):
    """The result, or None after a typed error. Any other exception, and any NaN in a result, fails the test."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = call()
    except ExpungeError:
        return None
    assert not _holds_nan(result), result
    return result


def _holds_nan(value):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(_holds_nan(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return any(map(_holds_nan, value.values()))
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and bool(np.isnan(value).any())
    if isinstance(value, tuple | list | frozenset):
        return any(map(_holds_nan, value))
    if isinstance(value, str | bytes | enum.Enum) or value is None:
        return False
    return isinstance(value, float | np.floating) and math.isnan(value)
