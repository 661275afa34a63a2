"""Relative membership-inference attack (RMIA)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from expunge.core.errors import CheckBroken
from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.arrays import Floats, log_probabilities
from expunge.stats.likelihood import over_targets, reference_spans, spans, table

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
    (R, Z) table; references are streamed. Saturates at 0 and 1, so block statistics average its empirical logit. Unit:
    probability, resolved to 1/Z. Needs an OUT reference for each record and at least 20 records
    z; otherwise CheckBroken.
    """

    gamma: float = 1.0
    offline_a: float = 1.0

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        target = table("target", job.target, (None, None))
        log_out = self._marginal(_log_out(job, target.shape[1]))
        sorted_z = np.sort(self._population_ratios(job, len(target)), axis=1)

        def share(log_p: Floats, span: slice) -> Floats:
            ratio_x = log_p - log_out[span] - math.log(self.gamma)
            hits = [np.searchsorted(z, x, side="right") for x, z in zip(ratio_x, sorted_z, strict=True)]
            return np.asarray(np.stack(hits) / sorted_z.shape[1], dtype=np.float64)

        values = over_targets("target", target, log_probabilities, share)
        return MembershipScores(attack="rmia", values=values, unit="probability")

    def _population_ratios(self, job: AttackJob, targets: int) -> Floats:
        """log p(z|θ) − log p(z), (T, Z)."""
        target_z = log_probabilities("target_population", job.target_population, (targets, None))
        count = target_z.shape[1]
        if count < _LEAST_POPULATION:
            raise CheckBroken(
                "rmia: too few never-trained records", expected=f"at least {_LEAST_POPULATION}", got=str(count)
            )
        reference = table("reference_population", job.reference_population, (len(job.reference), count))
        means = []
        for span in spans(count, len(reference)):
            log_p = log_probabilities("reference_population", reference[:, span], (len(reference), None))
            means.append(_log_mean(log_p, np.ones(log_p.shape, np.bool_)))
        return np.asarray(target_z - self._marginal(np.concatenate(means)), dtype=np.float64)

    def _marginal(self, log_out: Floats) -> Floats:
        """log p(·) from log p_out (eq. 10); exact for a = 1."""
        if self.offline_a == 1.0:
            return log_out
        return np.asarray(np.log(((1 + self.offline_a) * np.exp(log_out) + (1 - self.offline_a)) / 2), dtype=np.float64)


def _log_out(job: AttackJob, records: int) -> Floats:
    """log of the mean probability of each record over the references that did not train on it, (R,)."""
    parts = []
    for log_p, member in reference_spans(job, log_probabilities):
        if (~member).sum(axis=0).min() < 1:
            raise CheckBroken("rmia: a record has no OUT reference", expected="at least 1 a record")
        parts.append(_log_mean(log_p, ~member))
    if not parts:
        raise CheckBroken("rmia: there is no record", expected="at least 1")
    return np.concatenate(parts)


def _log_mean(log_p: Floats, use: NDArray[np.bool_]) -> Floats:
    """log of the mean probability over the used rows of each column, stable where every p is tiny."""
    largest = np.where(use, log_p, -np.inf).max(axis=0)
    total = (np.exp(np.where(use, log_p - largest, -np.inf))).sum(axis=0)
    return np.asarray(largest + np.log(total / use.sum(axis=0)), dtype=np.float64)
