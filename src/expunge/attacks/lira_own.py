"""Likelihood-ratio attack (LiRA), online, with each record's own variances."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import both_sides, logit_scaled, normal_log_density, over_targets


@dataclass(frozen=True, slots=True, kw_only=True)
class LiraOwn:
    """Log-likelihood ratio of IN against OUT of the logit-scaled confidence, variances estimated per record and side.

    Carlini et al. 2022 (arXiv 2112.03570), Algorithm 1 and eq. 4: φ = log p − log(1 − p), N(μ_in, σ²_in) against
    N(μ_out, σ²_out). Deviations: unbiased variances of at least 10⁻⁶; each record uses all its own references, counts are
    not cut to the smallest.

    Quadratic in φ where the variances differ: far outside both groups the wider one wins, whichever side that is, and
    with few references the estimated variances cost more than they bring; r of this score is not r of the signal, so
    prefer `lira` for the membership verdict. log p is clipped to [−50, −10⁻⁶]. A record on which all references agree
    scores 0. Unit: nats. Needs at least 2 IN and 2 OUT references a record; otherwise CheckBroken, as on NaN, infinity
    and values above 0.
    """

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        inside, outside = both_sides("lira_own", job, logit_scaled)

        def ratio(phi: Floats, span: slice) -> Floats:
            one, other = inside.take(span), outside.take(span)
            return normal_log_density(phi, one.mean, one.variance) - normal_log_density(phi, other.mean, other.variance)

        values = over_targets("target", job.target, logit_scaled, ratio)
        return MembershipScores(attack="lira_own", values=values, unit="nats")
