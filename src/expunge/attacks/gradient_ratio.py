"""White-box attack: the record's gradient against the spread of gradients of records nobody trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from expunge.core.errors import CheckBroken
from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob, HasWhiteBox, ProbeJob
from expunge.stats.arrays import Floats, finite
from expunge.stats.likelihood import as_measured, gaussian_ratio

_LEAST_POPULATION = 20
_LEAST_LENGTH = 1e-24


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientRatio:
    """Log-likelihood ratio of IN against OUT of minus the log length of the gradient, in units of unseen gradients.

    Gradient likelihood ratio (GLiR, Leemann et al. 2023, arXiv 2306.07273): under "not trained on", a gradient
    is Gaussian with the covariance that gradients of unseen records have, and the test statistic is its squared length
    in the inverse of that covariance; the same inverse stands for the inverse Hessian of Suri et al. 2024 (arXiv
    2406.11544), of which it is the Fisher estimate. Deviations: one fitted model instead of every training step, so
    members have short gradients rather than large products with the update; gradients are projected to 64 seeded sums
    (count sketch); the second moment F about 0, damped by a tenth of its mean eigenvalue λ; unseen records are
    measured without their own contribution (exact, by Sherman and Morrison); on −½ ln gᵀ(F + λ)⁻¹g, the Gaussian ratio of
    LiRA (Carlini et al. 2022, arXiv 2112.03570, eq. 4), one variance pooled over all records: linear in the signal.

    Because lengths are relative, a model that is sharper on everything is not taken for one that saw the record. Unit of
    the score: nats. A record on which IN and OUT references agree scores 0. Needs an adapter with HasWhiteBox, 20
    unseen records, 2 IN and 2 OUT references a record; otherwise CheckBroken, as on NaN, infinity and where no unseen
    record has a gradient. Cost: one forward and backward pass a record and model.
    """

    requires = HasWhiteBox

    size: int = 64
    damping: float = 0.1

    def measure(self, job: ProbeJob) -> Mapping[str, Floats]:
        """`block` (R,) and `population` (Z,): −½ ln of the squared length; higher = more likely a member."""
        train, test = job.data.train, job.data.test
        block, population = np.array(job.block, np.int64), np.array(job.population, np.int64)
        if population.size < _LEAST_POPULATION:
            raise CheckBroken(
                "gradient_ratio: too few unseen records", expected=f"{_LEAST_POPULATION}", got=str(population.size)
            )
        mine = self._gradients(job, train.images[block], train.labels[block])
        theirs = self._gradients(job, test.images[population], test.labels[population])
        moment = theirs.T @ theirs / len(theirs)
        if not np.trace(moment) > 0:
            raise CheckBroken("gradient_ratio: no unseen record has a gradient", expected="one that does")
        damped = moment + self.damping * np.trace(moment) / self.size * np.eye(self.size)
        unseen = _lengths(damped, theirs)
        return {"block": _signal(_lengths(damped, mine)), "population": _signal(unseen / (1 - unseen / len(theirs)))}

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        values = gaussian_ratio("gradient_ratio", job, as_measured)
        return MembershipScores(attack="gradient_ratio", values=values, unit="nats")

    def _gradients(self, job: ProbeJob, images: Floats, labels: Floats) -> Floats:
        found = job.adapter.gradients(job.model, images, labels, project=self.size, seed=job.seed)
        return finite("gradients", found, (len(labels), self.size))


def _lengths(damped: Floats, gradients: Floats) -> Floats:
    """gᵀ A⁻¹ g of each row g."""
    return np.asarray(np.einsum("zk,kz->z", gradients, np.linalg.solve(damped, gradients.T)), dtype=np.float64)


def _signal(lengths: Floats) -> Floats:
    return np.asarray(-0.5 * np.log(np.maximum(lengths, _LEAST_LENGTH)), dtype=np.float64)
