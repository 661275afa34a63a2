"""Evidence that may be looked at after every chunk: e-values and their running product.

An e-value is non-negative with mean at most 1 under the null; the product of e-values of fresh chunks, each chosen from
the past alone, exceeds 1/alpha at any time with probability at most alpha (Ville 1939; Ramdas et al. 2023, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import integrate, special

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats, finite
from expunge.stats.intervals import constant

MIXED = 0.0
_LARGEST_EFFECT = 1000.0
_LEAST = 2
_LARGEST_LOG = 700.0


def calibrated(p: float, kappa: float = MIXED) -> float:
    """An e-value from a p-value: κ·p^(κ−1), or its mixture over κ in (0, 1), (1 − p + p·ln p)/(p·ln² p), for κ = 0.

    Vovk and Wang 2021 (Annals of Statistics), section 2. Infinite at p = 0. Raises CheckBroken outside [0, 1].
    """
    if not 0 <= p <= 1 or not 0 <= kappa < 1:
        raise CheckBroken("a p-value in [0, 1] and kappa in [0, 1) expected", got=f"{p} and {kappa}")
    if p == 0:
        return math.inf
    if kappa:
        return float(kappa * p ** (kappa - 1))
    if p > 1 - 1e-4:
        return 0.5 + (1 - p) / 6  # the limit, where the formula is 0/0
    return float((1 - p + p * math.log(p)) / (p * math.log(p) ** 2))


def t_e_value(values: ArrayLike, effect: float) -> float:
    """E-value against "the mean of n Gaussians of unknown variance is at most 0", for an expected `effect` in SD.

    The ratio of the non-central t density with non-centrality √n·effect to the central one, at the t statistic: the
    likelihood ratio of the maximal invariant (Pérez-Ortiz et al. 2024, eq. 9). It grows with t, and t falls with the
    mean, so its mean is at most 1 on the whole one-sided null. Values without spread say nothing: 1.
    Raises CheckBroken on fewer than 2 values or an effect that is not positive.
    """
    column = finite("values", values, (None,))
    if column.size < _LEAST or not 0 < effect <= _LARGEST_EFFECT:
        raise CheckBroken("a t e-value needs 2 values and an effect in (0, 1000]", got=f"{column.size} and {effect}")
    if constant(column):
        return 1.0
    return math.exp(min(_log_t_e_value(column, effect), _LARGEST_LOG))


def p_value_of(e: float) -> float:
    """min(1, 1/e): the only admissible p-value from an e-value (Vovk and Wang 2021, proposition 2.2)."""
    if math.isnan(e) or e < 0:
        raise CheckBroken("an e-value is at least 0", got=str(e))
    return 1.0 if e <= 1 else 1 / e


def _log_t_e_value(column: Floats, effect: float) -> float:
    n = column.size
    t = float(column.mean()) / (float(column.std(ddof=1)) / math.sqrt(n))
    return _log_ratio(t, n - 1, math.sqrt(n) * effect)


def _log_ratio(t: float, freedom: int, shift: float) -> float:
    """log f(t | freedom, shift) − log f(t | freedom, 0).

    Given the chi variable y, t is Gaussian; integrating y out leaves ∫ y^ν exp(−(y² − 2·y·a)/2) dy with
    a = shift·t/√(ν + t²), over the same with a = 0, times exp(−shift²/2).
    """
    a = shift * t / math.sqrt(freedom + t * t)
    peak = (a + math.sqrt(a * a + 4 * freedom)) / 2
    top = freedom * math.log(peak) - peak * peak / 2 + a * peak

    def height(y: float) -> float:
        return math.exp(freedom * math.log(y) - y * y / 2 + a * y - top) if y > 0 else 0.0

    area = integrate.quad(height, max(0.0, peak - 12), peak + 12, points=[peak], limit=200)[0]
    plain = (freedom - 1) / 2 * math.log(2) + float(special.gammaln((freedom + 1) / 2))
    return top + math.log(area) - plain - shift * shift / 2


def e_process(chunks: Sequence[ArrayLike], effect: float) -> Floats:
    """Running product (C,) over chunks of fresh values, against "the mean is at most 0".

    The first chunk is read with the planned `effect`; each later one with the effect seen in the chunks before it,
    shrunk by the plan (mean of both) and never below a tenth of it, so that what is bet depends on the past alone.
    """
    total, path, past = 0.0, [], np.zeros(0)
    for chunk in chunks:
        column = finite("chunk", chunk, (None,))
        total += math.log(max(t_e_value(column, _bet(past, effect)), 1e-300))
        path.append(total)
        past = np.concatenate([past, column])
    return np.asarray(np.exp(np.minimum(np.array(path), _LARGEST_LOG)), dtype=np.float64)


def _bet(past: Floats, effect: float) -> float:
    if past.size < _LEAST or constant(past):
        return effect
    seen = float(past.mean() / past.std(ddof=1))
    return min(max((seen + effect) / 2, effect / 10), 10.0)
