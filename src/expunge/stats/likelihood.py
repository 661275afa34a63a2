"""What the attacks share: the signal of a record over reference models, streamed, and log-likelihood ratios of it.

References are read in spans of records, so that a table of 64 models by a million records (or a memory map of it) needs
a few MB beside the result. A `Link` turns one span of raw values into the checked signal the attack works on:
`logit_scaled` for natural-log probabilities of the true class, `as_measured` for what a probe measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from expunge.core.errors import CheckBroken
from expunge.core.protocols import AttackJob, ProbeJob
from expunge.stats.arrays import Bools, Floats, booleans, finite, log_probabilities

Link = Callable[[str, ArrayLike, tuple[int | None, ...]], Floats]
LEAST_VARIANCE = 1e-6
"""So that a record on which all references agree has a density."""

_CEILING = -1e-6
_FLOOR = -50.0
_CELLS = 1 << 18
"""Cells of a table read at once: 2 MiB of float64."""


def logit_scaled(name: str, values: ArrayLike, shape: tuple[int | None, ...]) -> Floats:
    """φ = log p − log(1 − p) from log p alone, exact near 0 and near 1.

    log p is clipped to [−50, −10⁻⁶]: above, a float32 log-softmax is rounding; below, one record would outweigh a block.
    Raises CheckBroken on NaN, infinity, values above 0 and another shape.
    """
    log_p = np.clip(log_probabilities(name, values, shape), _FLOOR, _CEILING)
    return np.asarray(log_p - np.log(-np.expm1(log_p)), dtype=np.float64)


def as_measured(name: str, values: ArrayLike, shape: tuple[int | None, ...]) -> Floats:
    """The values, which must be finite numbers of that shape; otherwise CheckBroken."""
    return finite(name, values, shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The signal of each record over its OUT, or its IN, references: how many, their mean, and Σ (φ − mean)²; (R,)."""

    count: Floats
    mean: Floats
    square: Floats

    @property
    def variance(self) -> Floats:
        """Own variance of each record, unbiased and at least LEAST_VARIANCE; needs counts of 2."""
        return np.maximum(self.square / (self.count - 1), LEAST_VARIANCE)

    def take(self, span: slice) -> Side:
        """The records of the span."""
        return Side(count=self.count[span], mean=self.mean[span], square=self.square[span])


def spans(columns: int, rows: int) -> Iterator[slice]:
    """Consecutive spans of columns, of a size whose tables of `rows` rows stay in the cache."""
    width = max(1, _CELLS // max(1, rows))
    return (slice(start, min(start + width, columns)) for start in range(0, columns, width))


def table(name: str, values: ArrayLike, shape: tuple[int | None, int | None]) -> NDArray[Any]:
    """The values as a two-dimensional array, not copied (a memory map stays one); None leaves a length open."""
    try:
        array: NDArray[Any] = np.asarray(values)
    except ValueError as error:
        raise CheckBroken(f"{name} is not a table", got=str(error)[:120]) from error
    fits = array.ndim == 2 and all(want in (None, has) for want, has in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise CheckBroken(f"{name} has the wrong shape", expected=f"({wanted})", got=str(array.shape))
    return array


def reference_spans(job: AttackJob, link: Link) -> Iterator[tuple[Floats, Bools]]:
    """Checked signal and membership (M, r), span by span of the records."""
    records = table("target", job.target, (None, None)).shape[1]
    reference = table("reference", job.reference, (None, records))
    models = reference.shape[0]
    member = table("member", job.member, (models, records))
    for span in spans(records, models):
        shape = (models, span.stop - span.start)
        yield link("reference", reference[:, span], shape), booleans("member", member[:, span], shape)


def both_sides(attack: str, job: AttackJob, link: Link, *, least: int = 2) -> tuple[Side, Side]:
    """IN and OUT references of every record. CheckBroken where a record has fewer than `least` of either."""
    inside, outside = [], []
    for phi, member in reference_spans(job, link):
        inside.append(_moments(phi, member))
        outside.append(_moments(phi, ~member))
    return _joined(attack, "IN", inside, least), _joined(attack, "OUT", outside, least)


def outside_only(attack: str, job: AttackJob, link: Link, *, least: int = 2) -> Side:
    """OUT references of every record. CheckBroken where a record has fewer than `least`."""
    parts = [_moments(phi, ~member) for phi, member in reference_spans(job, link)]
    return _joined(attack, "OUT", parts, least)


def population_side(attack: str, job: AttackJob, link: Link, *, least: int = 2) -> Side:
    """All references on the Z records nobody trained on."""
    reference = table("reference_population", job.reference_population, (len(job.reference), None))
    models, records = reference.shape
    parts = []
    for span in spans(records, models):
        phi = link("reference_population", reference[:, span], (models, span.stop - span.start))
        parts.append(_moments(phi, np.ones(phi.shape, np.bool_)))
    return _joined(attack, "population", parts, least)


def over_targets(name: str, values: ArrayLike, link: Link, score: Callable[[Floats, slice], Floats]) -> Floats:
    """`score(phi (T, r), span)` of consecutive spans of the targets' records, put together to (T, R)."""
    target = table(name, values, (None, None))
    result = np.empty(target.shape)
    for span in spans(target.shape[1], target.shape[0]):
        phi = link(name, target[:, span], (target.shape[0], span.stop - span.start))
        result[:, span] = score(phi, span)
    return result


def pooled_variance(*sides: Side) -> float:
    """One variance within the sides, over all their records; at least LEAST_VARIANCE."""
    freedom = sum(float(side.count.sum()) - side.count.size for side in sides)
    return max(sum(float(side.square.sum()) for side in sides) / max(freedom, 1.0), LEAST_VARIANCE)


def on_both(job: ProbeJob, signal: Callable[[Any, Any], ArrayLike]) -> dict[str, Floats]:
    """What an attack's probe returns: `signal(images, labels)` of the `block` (R,) and of the `population` (Z,). Raises
    CheckBroken where records have no labels, such as captioned works and users: the probe then counts as not measured."""
    train, test = job.data.train, job.data.test
    if not hasattr(train, "labels"):
        raise CheckBroken("the records have no labels that a model could be asked for", expected="labelled images")
    block, population = np.array(job.block, np.int64), np.array(job.population, np.int64)
    return {
        "block": finite("block", signal(train.images[block], train.labels[block]), (block.size,)),
        "population": finite(
            "population", signal(test.images[population], test.labels[population]), (population.size,)
        ),
    }


def gaussian_ratio(attack: str, job: AttackJob, link: Link) -> Floats:
    """Log-likelihood ratio (T, R), in nats, of N(IN mean, v) against N(OUT mean, v), v pooled over sides and records.

    With a shared variance it is linear in the signal, (μ_in − μ_out)·(φ − (μ_in + μ_out)/2)/v, so a residual r of it is
    one of the signal. 0 where IN and OUT references agree. Needs 2 IN and 2 OUT references a record.
    """
    table("target", job.target, (None, None))
    inside, outside = both_sides(attack, job, link)
    slope = (inside.mean - outside.mean) / pooled_variance(inside, outside)
    middle = (inside.mean + outside.mean) / 2
    return over_targets("target", job.target, link, lambda phi, span: slope[span] * (phi - middle[span]))


def normal_log_density(phi: Floats, mean: Floats, variance: Floats) -> Floats:
    """Without the constant that cancels in a ratio."""
    return np.asarray(-0.5 * np.log(variance) - (phi - mean) ** 2 / (2 * variance), dtype=np.float64)


def student_log_density(phi: Floats, mean: Floats, variance: Floats, freedom: Floats) -> Floats:
    """Log-density of mean + √variance · t with that many degrees of freedom, complete (freedoms may differ by side)."""
    constant = special.gammaln((freedom + 1) / 2) - special.gammaln(freedom / 2) - 0.5 * np.log(np.pi * freedom)
    tail = (freedom + 1) / 2 * np.log1p((phi - mean) ** 2 / (variance * freedom))
    return np.asarray(constant - 0.5 * np.log(variance) - tail, dtype=np.float64)


def _moments(phi: Floats, use: Bools) -> Side:
    """Counts, means and squared deviations over the used rows; a column without any has mean 0."""
    weight = use.astype(np.float64)
    count = weight.sum(axis=0)
    mean = np.einsum("mr,mr->r", phi, weight) / np.maximum(count, 1)
    away = phi - mean
    return Side(count=count, mean=mean, square=np.einsum("mr,mr,mr->r", away, away, weight))


def _joined(attack: str, side: str, parts: list[Side], least: int) -> Side:
    if not parts:
        raise CheckBroken(f"{attack}: there is no record", expected="at least 1")
    count, mean, square = (np.concatenate([getattr(p, f) for p in parts]) for f in ("count", "mean", "square"))
    if count.min() < least:
        got = str(int(count.min()))
        raise CheckBroken(f"{attack}: too few {side} references", expected=f"at least {least} a record", got=got)
    return Side(count=count, mean=mean, square=square)
