"""White-box attack: members have smaller gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob, HasWhiteBox, ProbeJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import as_measured, gaussian_ratio, on_both

_LEAST_NORM = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientNorm:
    """Log-likelihood ratio of IN against OUT of minus the log norm of the record's own gradient.

    The gradient norm as a membership signal: Nasr et al. 2019 (arXiv 1812.00910). Deviations: the norm of
    the whole gradient, no attack network; on its logarithm, the Gaussian ratio of LiRA (Carlini et al. 2022, arXiv
    2112.03570, eq. 4) with one variance pooled within IN and OUT over all records, which makes the score linear in the
    signal. For a confident answer the norm is proportional to 1 − p, so −ln norm runs with LiRA's φ, without its
    ceiling, and adds what the layers below say.

    `measure` gives −ln |∇_θ loss(x, y)| at test time (augmentation off, BatchNorm frozen), norms below 10⁻¹² counted as
    that. Unit of the score: nats. A record on which IN and OUT references agree scores 0. Needs an adapter with
    HasWhiteBox, 2 IN and 2 OUT references a record; otherwise CheckBroken, as on NaN and infinity. Cost: one forward
    and backward pass a record and model.
    """

    requires = HasWhiteBox

    def measure(self, job: ProbeJob) -> Mapping[str, Floats]:
        """`block` (R,) and `population` (Z,): −ln of the gradient norm; higher = more likely a member."""

        def signal(images: Floats, labels: Floats) -> Floats:
            norms = np.asarray(job.adapter.gradient_norms(job.model, images, labels), np.float64)
            return np.asarray(-np.log(np.maximum(norms, _LEAST_NORM)), dtype=np.float64)

        return on_both(job, signal)

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        values = gaussian_ratio("gradient_norm", job, as_measured)
        return MembershipScores(attack="gradient_norm", values=values, unit="nats")
