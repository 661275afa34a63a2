"""Likelihood-ratio attack (LiRA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken
from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.arrays import Floats, booleans, log_probabilities

_CEILING = -1e-6
_FLOOR = -50.0
_LEAST = 2
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Lira:
    """Log-likelihood ratio of IN against OUT of the logit-scaled confidence, per record (online LiRA).

    Carlini et al. 2022 (arXiv 2112.03570), Algorithm 1 and eq. 4: φ = log p − log(1 − p), Gaussians fitted to the φ of
    the reference models that did and did not train on the record. Deviations: means are per record, the variance is by
    default one number pooled within IN and OUT over all records passed ("pooled"; few references cannot estimate more,
    and a shared variance makes the score linear in φ, so that the residual r has the same meaning everywhere); "own"
    estimates it per record and side. Each record uses all its own references: counts are not cut to the smallest.

    φ comes from log p alone, exactly, with log p clipped to [−50, −10⁻⁶]: above the ceiling a float32 log-softmax is
    rounding, below the floor a single record would outweigh a block. Variances are at least 10⁻⁶, so that a record on
    which all references agree scores 0 and informs nobody. Unit: nats. Needs at least 2 IN and 2 OUT references a
    record; otherwise CheckBroken.
    """

    variance: Literal["pooled", "own"] = "pooled"

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        target = log_probabilities("target", job.target, (None, None))
        records = target.shape[1]
        reference = log_probabilities("reference", job.reference, (None, records))
        member = booleans("member", job.member, (reference.shape[0], records))
        phi, member_mean, other_mean, variances = _logit(target), *_fit(_logit(reference), member, self.variance)
        inside, outside = _log_density(phi, member_mean, variances[0]), _log_density(phi, other_mean, variances[1])
        return MembershipScores(attack="lira", values=inside - outside, unit="nats")


def _logit(log_p: Floats) -> Floats:
    """log p − log(1 − p) from log p, without losing p near 0 or 1."""
    clipped = np.clip(log_p, _FLOOR, _CEILING)
    return np.asarray(clipped - np.log(-np.expm1(clipped)), dtype=np.float64)


def _fit(phi: Floats, member: NDArray[np.bool_], variance: str) -> tuple[Floats, Floats, tuple[Floats, ...]]:
    """IN means, OUT means (R,), and the two variances, () or (R,)."""
    sides = []
    for mask, name in ((member, "IN"), (~member, "OUT")):
        count = mask.sum(axis=0)
        if not count.size or count.min() < _LEAST:
            least = int(count.min()) if count.size else 0
            raise CheckBroken(
                f"lira: too few {name} references", expected=f"at least {_LEAST} a record", got=str(least)
            )
        mean = (phi * mask).sum(axis=0) / count
        sides.append((count, mean, (((phi - mean) * mask) ** 2).sum(axis=0)))
    (n_in, mean_in, square_in), (n_out, mean_out, square_out) = sides
    if variance == "own":
        variances = square_in / (n_in - 1), square_out / (n_out - 1)
    else:
        pooled = (square_in.sum() + square_out.sum()) / (n_in.sum() + n_out.sum() - 2 * n_in.size)
        variances = pooled, pooled
    return mean_in, mean_out, tuple(np.maximum(side, _LEAST_VARIANCE) for side in variances)


def _log_density(phi: Floats, mean: Floats, variance: Floats) -> Floats:
    """Gaussian log-density without the constant that cancels."""
    return np.asarray(-0.5 * np.log(variance) - (phi - mean) ** 2 / (2 * variance), dtype=np.float64)
