"""Quantile-regression attack: a threshold for each record, learned on records nobody trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from expunge.core.errors import CheckBroken
from expunge.core.finding import MembershipScores
from expunge.core.protocols import AttackJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import Side, logit_scaled, outside_only, over_targets, population_side, table

_LEAST_POPULATION = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """How far the logit-scaled confidence lies above the quantile predicted for a record nobody trained on.

    Bertran et al. 2023 (arXiv 2307.03694): a quantile regressor q(x), fitted with the pinball loss to the
    target's scores on unseen records, gives a threshold per record; score = φ(x) − q(x), φ = log p − log(1 − p).
    Deviations: the features of a record are 1, the mean and the standard deviation of its φ over the references that did
    not train on it (the paper feeds the record to a network and needs no reference), and q is linear in them, fitted
    exactly as a linear programme (Koenker and Bassett 1978); one level, .9 by default.

    Fitted anew on each target, so a target that is sharper on everything is not taken for a member. Linear in φ, all
    records in one unit. log p is clipped to [−50, −10⁻⁶]. Unit: logits. Needs at least 2 OUT references a record and 20
    unseen records; otherwise CheckBroken, as on NaN, infinity and values above 0.
    """

    level: float = 0.9

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        target = table("target", job.target, (None, None))
        features = _features(outside_only("quantile", job, logit_scaled))
        unseen = table("target_population", job.target_population, (len(target), None))
        if unseen.shape[1] < _LEAST_POPULATION:
            raise CheckBroken(
                "quantile: too few unseen records", expected=f"at least {_LEAST_POPULATION}", got=str(unseen.shape[1])
            )
        known = _features(population_side("quantile", job, logit_scaled))
        if len(known) != unseen.shape[1]:
            raise CheckBroken("the populations of target and references differ in shape", got=str(unseen.shape))
        fits = np.stack(
            [_fit(known, row, self.level) for row in logit_scaled("target_population", unseen, (None, None))]
        )
        values = over_targets("target", target, logit_scaled, lambda phi, span: phi - fits @ features[span].T)
        return MembershipScores(attack="quantile", values=values, unit="logits")


def _features(side: Side) -> Floats:
    """(R, 3): 1, mean and standard deviation of φ over the references."""
    return np.stack([np.ones_like(side.mean), side.mean, np.sqrt(side.variance)], axis=1)


def _fit(features: Floats, phi: Floats, level: float) -> Floats:
    """Coefficients (3,) that minimise the pinball loss of phi (Z,): the dual linear programme of Koenker and Bassett
    1978, which has 3 constraints; the coefficients are their prices."""
    found = optimize.linprog(
        -phi, A_eq=features.T, b_eq=(1 - level) * features.sum(axis=0), bounds=(0, 1), method="highs-ds"
    )
    if not found.success:
        raise CheckBroken("quantile: the regression on the population failed", got=str(found.message)[:120])
    return np.asarray(-found.eqlin.marginals, dtype=np.float64)
