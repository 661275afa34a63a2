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

    Carlini et al. 2022 (arXiv 2112.03570), the offline attack: 1 − Pr[Z > φ(x)] with Z ~ N(μ_out, σ²_out),
    φ = log p − log(1 − p), in its fixed-variance form. Deviations: the standardised φ itself instead of its normal
    probability; the order is the same, and the score neither ends at 1 nor bends, it is linear in φ; the variance is one
    number pooled within the OUT references over all records.

    Without IN references nobody knows how far a member would move, so every record counts alike. Where records differ in
    what they give away, `lira` is stronger with enough IN references; with few, its estimated gaps are noise too, and on
    a planted gap equal for all records this one wins (benchmarks/attack_speed). log p is clipped to [−50, −10⁻⁶]. The
    variance is at least 10⁻⁶. Unit: standard deviations. Needs at least 2 OUT references a record; otherwise
    CheckBroken, as on NaN, infinity and values above 0.
    """

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        outside = outside_only("lira_offline", job, logit_scaled)
        deviation = math.sqrt(pooled_variance(outside))
        values = over_targets(
            "target", job.target, logit_scaled, lambda phi, span: (phi - outside.mean[span]) / deviation
        )
        return MembershipScores(attack="lira_offline", values=values, unit="standard deviations")
