"""Interpolated approximate measurement (IAM): how far from generalising to fitting."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import both_sides, logit_scaled, over_targets, pooled_variance

_STEPS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Iam:
    """Position of the signal between generalising (OUT references) and fitting (IN references), from 0 to 1.

    Wang et al. 2025 (arXiv 2506.06112, USENIX Security): between the mean signal of models that did not and that did
    train on the record lie imagined models, mean μ(α) = (1 − α)·μ_out + α·μ_in; the score is the average over α,
    weighted by α, of Pr[signal of such a model < φ] = Φ((φ − μ(α))/σ). Deviations: φ = log p − log(1 − p) with Gaussians
    (the paper prefers a Gumbel on its own loss scale); σ² is pooled within IN and OUT, so that the spread between records
    does not enter; fitting is the mean of the IN references instead of the one original model; midpoint rule of 64
    steps.

    Saturates by construction: below OUT it is 0, above IN it is 1, and a weak record (μ_in near μ_out) gives mostly its
    rank among OUT. So r of the mean position is not r of the signal; prefer `lira` for the membership verdict. log p is
    clipped to [−50, −10⁻⁶]; σ² is at least 10⁻⁶. Where all references and the target agree, the position is ½. Unit:
    position, no probability. Needs at least 2 IN and 2 OUT references a record; otherwise CheckBroken, as on NaN,
    infinity and values above 0.
    """

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        inside, outside = both_sides("iam", job, logit_scaled)
        deviation = math.sqrt(pooled_variance(inside, outside))
        gap = (inside.mean - outside.mean) / deviation

        def position(phi: Floats, span: slice) -> Floats:
            above = (phi - outside.mean[span]) / deviation
            total = np.zeros_like(above)
            for alpha in (np.arange(_STEPS) + 0.5) / _STEPS:
                total += alpha * special.ndtr(above - alpha * gap[span])
            return np.asarray(total * 2 / _STEPS, dtype=np.float64)

        values = over_targets("target", job.target, logit_scaled, position)
        return MembershipScores(attack="iam", values=values, unit="position")
