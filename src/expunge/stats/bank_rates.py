"""How per-record p-values behave on somebody's bank: realised false alarms by leaving each OUT model out in turn.

Signals (M, N) of N records under M models, higher = more likely a member, and `member` (M, N) bool. A record's anchors
are the models that did not train on it. Rates are shares of a model's records, averaged over models: models are the
independent unit, records of one model are not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Bools, Floats, booleans, finite
from expunge.stats.intervals import Bounds

MIN_OUT = 3
"""OUT models a record needs: one is judged, and two are the least that have a spread."""
RULES = ("rank", "t-prediction", "rank and t", "plug-in Gaussian")
_CEILING, _FLOOR = -1e-6, -50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """One rule at one nominal `alpha`: share of OUT models' records called members, and of IN models' records."""

    rule: str
    alpha: float
    false_alarms: Bounds
    detections: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Mean of IN − OUT over records, in SD within record and side; t over `n` pairs or models; one-sided p-values."""

    gap: Bounds
    above: float
    below: float
    n: int


def logit_of(log_p: ArrayLike) -> Floats:
    """log p − log(1 − p) with log p clipped to [−50, −10⁻⁶], as the likelihood-ratio attack has it."""
    clipped = np.clip(np.asarray(log_p, dtype=np.float64), _FLOOR, _CEILING)
    return np.asarray(clipped - np.log(-np.expm1(clipped)), dtype=np.float64)


def out_rates(values: ArrayLike, member: ArrayLike, alphas: tuple[float, ...]) -> tuple[Rates, ...]:
    """Every rule at every alpha. Raises CheckBroken when a record has fewer than 3 OUT models or there is 1 model.

    `rank` is exact but cannot fall below 1/(n + 1); `t-prediction` is Student's with √(1 + 1/n); `rank and t` is the
    rule of stats/rank.ranked, which decides; `plug-in Gaussian` takes mean and SD for the truth, as LiRA's Gaussians
    do, and is shown because many reports rest on it.
    """
    table, mask = _bank(values, member)
    p_values = dict(zip(RULES, per_record_p_values(table, mask), strict=True))
    return tuple(
        Rates(rule=rule, alpha=alpha, false_alarms=_share(p <= alpha, ~mask), detections=_share(p <= alpha, mask))
        for alpha in alphas
        for rule, p in p_values.items()
    )


def per_record_p_values(values: ArrayLike, member: ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
    """(M, N) each, in the order of RULES: of every model against the OUT models of the record, itself left out."""
    table, mask = _bank(values, member)
    out = ~mask
    total = out.sum(axis=0)
    mean = (table * out).sum(axis=0) / total
    centred = table - mean
    squares = ((centred * out) ** 2).sum(axis=0)
    n = total - out  # anchors of each cell
    own = np.where(out, -centred / n, 0.0)  # how the mean moves when the cell's own value leaves
    left = np.maximum(squares - np.where(out, centred**2 * total / n, 0.0), 0.0)
    apart, spread = centred - own, np.sqrt(left / (n - 1))
    flat = (left <= 1e-10 * squares) | (spread <= 1e-12 * np.maximum(1.0, np.abs(table)))  # nothing but rounding
    with np.errstate(divide="ignore", invalid="ignore"):
        t = special.stdtr(n - 1, -apart / (spread * np.sqrt(1 + 1 / n)))
        plug = special.ndtr(-apart / np.sqrt(left / n))
    rank = (_at_least(table, out) + mask) / (n + 1)
    beyond = rank <= (1 + 1e-9) / (n + 1)
    both = np.where(beyond, t, np.maximum(rank, t))
    return rank, np.where(flat, rank, t), np.where(flat, rank, both), np.where(flat, rank, plug)


def _at_least(table: Floats, out: Bools) -> Floats:
    """(M, N): OUT values of the record that are at least the cell's; an OUT cell counts itself."""
    anchors = np.where(out, table, -np.inf)
    counts = np.empty(table.shape)
    for model, row in enumerate(table):
        counts[model] = (anchors >= row).sum(axis=0)
    return counts


def membership_gap(values: ArrayLike, member: ArrayLike) -> Gap:
    """Per model, records it saw minus records it did not, each measured from the middle of the record's IN and OUT
    means; then Student's one-sample t.

    Where all models are in complement pairs the unit is the pair: the middle cancels in it, pairs are independent and
    the test has its size. Otherwise the unit is the model, and the common middle makes models depend a little: p-values
    are then doubled. Fewer than 3 units, or a record without an IN or without 3 OUT models, raises CheckBroken.
    """
    table, mask = _bank(values, member)
    inside = mask.sum(axis=0)
    if inside.min() < 1:
        raise CheckBroken("a record has no IN model", expected="at least 1")
    means = [(table * side).sum(axis=0) / side.sum(axis=0) for side in (mask, ~mask)]
    unit = math.sqrt(float(((table - np.where(mask, *means)) ** 2).sum()) / max(1, table.size - 2 * table.shape[1]))
    apart, pairs = table - (means[0] + means[1]) / 2, complement_pairs(mask)
    sided = [k for k, row in enumerate(mask) if row.any() and not row.all()]
    per_model = {k: float(apart[k][mask[k]].mean() - apart[k][~mask[k]].mean()) for k in sided}
    paired = 2 * len(pairs) == len(per_model) == len(mask)
    units = [(per_model[a] + per_model[b]) / 2 for a, b in pairs] if paired else list(per_model.values())
    if len(units) < 3 or unit <= 0 or np.ptp(units) == 0:
        raise CheckBroken("at least 3 pairs or models, and signals that vary, expected", got=str(len(units)))
    scaled = np.array(units) / unit
    t = float(scaled.mean() / (scaled.std(ddof=1) / math.sqrt(scaled.size)))
    above, below = (float(special.stdtr(scaled.size - 1, side)) for side in (-t, t))
    extra = 1 if paired else 2
    gap = over_models(scaled, unit="complement pairs" if paired else "models")
    return Gap(gap=gap, above=min(1.0, extra * above), below=min(1.0, extra * below), n=scaled.size)


def complement_pairs(member: ArrayLike) -> tuple[tuple[int, int], ...]:
    """Pairs (a, b), a < b, of models whose records are exactly complementary; a model is in one pair at most."""
    mask = booleans("member", member, (None, None))
    waiting: dict[bytes, list[int]] = {}
    pairs = []
    for index, row in enumerate(mask):
        partners = waiting.get((~row).tobytes())
        if partners:
            pairs.append((partners.pop(0), index))
        else:
            waiting.setdefault(row.tobytes(), []).append(index)
    return tuple(pairs)


def pair_correlation(values: ArrayLike, member: ArrayLike, pairs: tuple[tuple[int, int], ...]) -> float | None:
    """Correlation of O and I within complement pairs, each measured from its record's mean of that side; None below 3
    pairs or without spread."""
    table, mask = _bank(values, member)
    if len(pairs) < 3:
        return None
    sides = [(table * side).sum(axis=0) / np.maximum(side.sum(axis=0), 1) for side in (mask, ~mask)]
    rest = table - np.where(mask, *sides)
    first, second = (rest[[pair[k] for pair in pairs]] for k in (0, 1))
    product = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / product if product > 0 else None


def over_models(shares: ArrayLike, level: float = 0.95, unit: str = "models") -> Bounds:
    """Mean over models (or pairs) with Student's interval; limits None and a reason for fewer than 2 of them."""
    values = finite("shares", shares, (None,))
    if values.size < 2:
        estimate = float(values.mean()) if values.size else None
        return Bounds(estimate=estimate, low=None, high=None, level=level, method="t", reason=f"fewer than 2 {unit}")
    half = float(special.stdtrit(values.size - 1, (1 + level) / 2) * values.std(ddof=1) / math.sqrt(values.size))
    mean = float(values.mean())
    return Bounds(estimate=mean, low=mean - half, high=mean + half, level=level, method=f"t over {values.size} {unit}")


def _share(hit: Bools, where: Bools) -> Bounds:
    """Share of hits among a model's cells of one side, over the models that have any; limits inside [0, 1]."""
    counts = where.sum(axis=1)
    shares = (hit & where).sum(axis=1)[counts > 0] / counts[counts > 0]
    found = over_models(shares)
    if found.low is None or found.high is None:
        return found
    return Bounds(
        estimate=found.estimate,
        low=max(0.0, found.low),
        high=min(1.0, found.high),
        level=found.level,
        method=found.method,
    )


def _bank(values: ArrayLike, member: ArrayLike) -> tuple[Floats, Bools]:
    table = finite("signals", values, (None, None))
    mask = booleans("member", member, table.shape)
    if not table.size or (~mask).sum(axis=0).min() < MIN_OUT:
        raise CheckBroken("too few OUT models", expected=f"at least {MIN_OUT} a record")
    return table, mask
