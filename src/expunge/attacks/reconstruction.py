"""Attack on a recommender's users: members' whole histories are given back better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from expunge.core.finding import MembershipScores
from expunge.core.foldin import AnswersHistories
from expunge.core.protocols import AttackJob, ProbeJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import as_measured, gaussian_ratio
from expunge.training.own_items import on_users, reconstructions


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconstruction:
    """Log-likelihood ratio of IN against OUT of how well a history comes back when all of it is shown.

    Members have the smaller loss: Yeom et al. 2018 (arXiv 1709.01604, section 3.2), for the multinomial likelihood of a
    history (Liang et al. 2018, arXiv 1802.05814, eq. 2). Deviations: any family's scores are taken for logits; the mean over
    the history's items, so that long ones do not weigh more; and on it the Gaussian ratio of LiRA (Carlini et al. 2022, arXiv
    2112.03570, eq. 4) with one variance pooled within IN and OUT over all records. What `lira` is given here leaves items out;
    this shows all of them, so it also sees what a model keeps of a history as a whole.

    `measure` gives the mean natural-log probability of the history's items. Unit of the score: nats. Needs a family that
    answers histories, 2 IN and 2 OUT references a record; otherwise CheckBroken, as on NaN and infinity. Cost: one answer a
    user and model.
    """

    requires = AnswersHistories

    def measure(self, job: ProbeJob) -> Mapping[str, Floats]:
        """`block` (R,) and `population` (Z,): mean log-probability of the own items; higher = more likely a member."""
        return on_users(job, reconstructions)

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        values = gaussian_ratio("reconstruction", job, as_measured)
        return MembershipScores(attack="reconstruction", values=values, unit="nats")
