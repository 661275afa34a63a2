"""Relative membership-inference attack (RMIA)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken
from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.arrays import Floats, booleans, log_probabilities

_LEAST_POPULATION = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rmia:
    """Share of never-trained records z over which x stands out: Pr_z[ LR(x, z) ≥ γ ], in [0, 1].

    Zarifzadeh et al. 2024 (arXiv 2312.03262), eq. 1 to 5 and 10: LR(x, z) = (p(x|θ)/p(x)) / (p(z|θ)/p(z)), where p(·)
    is the mean probability over reference models that did NOT train on the record, corrected to
    ½((1 + a)·p_out + (1 − a)). Deviations: OUT means are plain means over exactly the OUT references of each record
    (the reference code keeps the largest half of the references of z, which biases every score upwards); a = 1, no
    correction, by default, which treats x and z alike.

    The probability is a count: ratios of z are sorted once and x is looked up, O((R + Z)·log Z) a target and no
    (R, Z) table. Unit: probability, resolved to 1/Z. Needs an OUT reference for each record and at least 20 records
    z; otherwise CheckBroken.
    """

    gamma: float = 1.0
    offline_a: float = 1.0

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        target = log_probabilities("target", job.target, (None, None))
        count, records = target.shape
        reference = log_probabilities("reference", job.reference, (None, records))
        member = booleans("member", job.member, (reference.shape[0], records))
        target_z = log_probabilities("target_population", job.target_population, (count, None))
        reference_z = log_probabilities(
            "reference_population", job.reference_population, (reference.shape[0], target_z.shape[1])
        )
        self._enough(member, target_z.shape[1])
        ratio_x = target - self._marginal(_log_mean(reference, ~member)) - math.log(self.gamma)
        ratio_z = np.sort(target_z - self._marginal(_log_mean(reference_z, np.ones(reference_z.shape, bool))), axis=1)
        values = np.stack([np.searchsorted(z, x, side="right") for x, z in zip(ratio_x, ratio_z, strict=True)])
        return MembershipScores(attack="rmia", values=values / target_z.shape[1], unit="probability")

    def _enough(self, member: NDArray[np.bool_], population: int) -> None:
        out = (~member).sum(axis=0)
        if not out.size or out.min() < 1:
            raise CheckBroken("rmia: a record has no OUT reference", expected="at least 1 a record")
        if population < _LEAST_POPULATION:
            raise CheckBroken(
                "rmia: too few never-trained records", expected=f"at least {_LEAST_POPULATION}", got=str(population)
            )

    def _marginal(self, log_out: Floats) -> Floats:
        """log p(·) from log p_out (eq. 10); exact for a = 1."""
        if self.offline_a == 1.0:
            return log_out
        return np.asarray(np.log(((1 + self.offline_a) * np.exp(log_out) + (1 - self.offline_a)) / 2), dtype=np.float64)


def _log_mean(log_p: Floats, use: NDArray[np.bool_]) -> Floats:
    """log of the mean probability over the used rows of each column, stable where every p is tiny."""
    largest = np.where(use, log_p, -np.inf).max(axis=0)
    total = (np.exp(np.where(use, log_p - largest, -np.inf))).sum(axis=0)
    return np.asarray(largest + np.log(total / use.sum(axis=0)), dtype=np.float64)
