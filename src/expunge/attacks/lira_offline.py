"""Likelihood-ratio attack (LiRA), offline: only models that never saw the record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.likelihood import logit_scaled, outside_only, over_targets, pooled_variance


@dataclass(frozen=True, slots=True, kw_only=True)
class LiraOffline:
    """How far the logit-scaled confidence lies above that of the OUT references, in their standard deviations.

    Carlini et al. 2022 (arXiv 2112.03570), section VI-A (offline attack): 1 − Pr[Z > φ(x)] with Z ~ N(μ_out, σ²_out),
    φ = log p − log(1 − p), with the fixed variance of section VI-B. Deviations: the standardised φ itself instead of
    its normal probability, which has the same order and neither ends at 1 nor bends: the score is linear in φ; the
    variance is one number pooled within the OUT references over all records.

    Without IN references nobody knows how far a member would move, so every record counts alike and harder ones are
    not told from easier ones: weaker than `lira` wherever IN references exist. log p is clipped to [−50, −10⁻⁶]. The
    variance is at least 10⁻⁶. Unit: standard deviations. Needs at least 2 OUT references a record; otherwise CheckBroken,
    as on NaN, infinity and values above 0.
    """

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        outside = outside_only("lira_offline", job, logit_scaled)
        deviation = math.sqrt(pooled_variance(outside))
        values = over_targets(
            "target", job.target, logit_scaled, lambda phi, span: (phi - outside.mean[span]) / deviation
        )
        return MembershipScores(attack="lira_offline", values=values, unit="standard deviations")
