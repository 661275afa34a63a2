"""Likelihood-ratio attack (LiRA) that knows how few its references are: t-prediction."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import Side, both_sides, logit_scaled, over_targets, student_log_density


@dataclass(frozen=True, slots=True, kw_only=True)
class LiraT:
    """Log ratio of the Student-t predictive densities of the logit-scaled confidence, IN against OUT.

    LiRA (Carlini et al. 2022, arXiv 2112.03570, eq. 4) with its plug-in Gaussians replaced by the predictive density of
    one more draw: with n references of mean m and variance s², (φ − m)/(s·√(1 + 1/n)) is t with n − 1 degrees of
    freedom. This is our deviation: a plug-in Gaussian takes the mean and variance of few references for known and is too
    sure of itself. It is also the posterior predictive under the flat prior, so `bavaria` with a prior worth nothing.

    Variances are per record and side, at least 10⁻⁶. The tails are heavy: far from both groups the score returns towards
    a constant, so it saturates, and r of it is not r of the signal; prefer `lira` for the membership verdict. log p is
    clipped to [−50, −10⁻⁶]. A record on which all references agree, equally many on both sides, scores 0. Unit: nats.
    Needs at least 2 IN and 2 OUT references a record; otherwise CheckBroken, as on NaN, infinity and values above 0.
    """

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        inside, outside = both_sides("lira_t", job, logit_scaled)

        def ratio(phi: Floats, span: slice) -> Floats:
            return _predictive(phi, inside.take(span)) - _predictive(phi, outside.take(span))

        values = over_targets("target", job.target, logit_scaled, ratio)
        return MembershipScores(attack="lira_t", values=values, unit="nats")


def _predictive(phi: Floats, side: Side) -> Floats:
    return student_log_density(phi, side.mean, side.variance * (1 + 1 / side.count), side.count - 1)
