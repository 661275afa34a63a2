"""BaVarIA: likelihood ratio with Bayesian variances."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import Side, both_sides, logit_scaled, over_targets, pooled_variance, student_log_density


@dataclass(frozen=True, slots=True, kw_only=True)
class Bavaria:
    """Log ratio of posterior predictive densities of the logit-scaled confidence, IN against OUT.

    Brännvall 2026 (arXiv 2603.11799), BaVarIA-t: the φ of one record on one side are Gaussian with a conjugate
    normal-inverse-gamma prior, so the next one is Student-t. With n references of mean m and squared deviations S, and a
    prior variance v₀ worth ν₀ observations, it has ν = ν₀ + n − 1 degrees of freedom, location m and scale²
    (ν₀·v₀ + S)/ν · (1 + 1/n). ν₀ = 0 is `lira_t`; ν₀ → ∞ is LiRA with a fixed variance a side. Deviations: the prior
    of the mean is flat (records lie many SD apart, a common centre says nothing about one of them); v₀ is the
    variance pooled within that side over all records; ν₀ = 4 by default, our choice and not tuned on any request.

    The tails are heavy: far from both groups the score returns towards a constant, so it saturates, and r of it is not r of
    the signal; prefer `lira` for the membership verdict. log p is clipped to [−50, −10⁻⁶]; v₀ is at least 10⁻⁶. A record
    on which all references agree, equally many on both sides, scores 0. Unit: nats. Needs at least 2 IN and 2 OUT
    references a record; otherwise CheckBroken, as on NaN, infinity and values above 0.
    """

    prior_observations: float = 4.0

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        inside, outside = both_sides("bavaria", job, logit_scaled)
        inside_prior, outside_prior = pooled_variance(inside), pooled_variance(outside)

        def ratio(phi: Floats, span: slice) -> Floats:
            one = self._predictive(phi, inside.take(span), inside_prior)
            return one - self._predictive(phi, outside.take(span), outside_prior)

        values = over_targets("target", job.target, logit_scaled, ratio)
        return MembershipScores(attack="bavaria", values=values, unit="nats")

    def _predictive(self, phi: Floats, side: Side, prior: float) -> Floats:
        freedom = self.prior_observations + side.count - 1
        variance = (self.prior_observations * prior + side.square) / freedom
        return student_log_density(phi, side.mean, variance * (1 + 1 / side.count), freedom)
