"""Likelihood-ratio attack (LiRA), online, with one variance for all records."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.likelihood import gaussian_ratio, logit_scaled


@dataclass(frozen=True, slots=True, kw_only=True)
class Lira:
    """Log-likelihood ratio of IN against OUT of the logit-scaled confidence, per record (online LiRA, fixed variance).

    Carlini et al. 2022 (arXiv 2112.03570), Algorithm 1 and eq. 4, in its fixed-variance form:
    φ = log p − log(1 − p), Gaussians fitted to the φ of the reference models that did and did not train on the record.
    Deviations: the fixed variance is one number pooled within IN and OUT (the reference code uses the IN variance for
    both); each record uses all its own references, counts are not cut to the smallest. The shared variance makes the
    score linear in φ, so that the residual r has the same meaning everywhere; `lira_own` has the paper's own variances.

    φ comes from log p alone, exactly, with log p clipped to [−50, −10⁻⁶]; outside, the score is flat. The variance is at
    least 10⁻⁶. A record on which IN and OUT references agree scores 0. Unit: nats. Needs at least 2 IN and 2 OUT
    references a record; otherwise CheckBroken, as on NaN, infinity and values above 0. One pass over the references.
    """

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        return MembershipScores(attack="lira", values=gaussian_ratio("lira", job, logit_scaled), unit="nats")
