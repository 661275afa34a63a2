"""Attack on a recommender's users: members' own items stand further up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from expunge.core.finding import MembershipScores
from expunge.core.foldin import AnswersHistories
from expunge.core.protocols import AttackJob, ProbeJob
from expunge.stats.arrays import Floats
from expunge.stats.likelihood import as_measured, gaussian_ratio
from expunge.training.own_items import log_ranks, on_users


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRank:
    """Log-likelihood ratio of IN against OUT of where a user's own items stand, each left out of the fold-in in turn.

    That a recommender ranks what a member had too high: Zhang et al. 2021 (arXiv 2111.08045), who compare lists with
    histories. Deviations: ranks in the whole catalogue and no embedding of lists, because a list of popular items looks like
    anybody's history; the same history is folded into every model, so that what a popular item owes to its popularity is in
    both; and on minus the mean log rank, the Gaussian ratio of LiRA (Carlini et al. 2022, arXiv 2112.03570, eq. 4) with one
    variance pooled within IN and OUT over all records, which makes the score linear in the signal.

    `measure` gives minus the mean natural log of the ranks (1 = first) among the items not shown: whatever stretches or
    shifts all scores leaves it as it is. Unit of the score: nats. Needs a family that answers histories, 2 IN and 2 OUT
    references a record; otherwise CheckBroken, as on NaN and infinity. Cost: 5 answers a user and model.
    """

    requires = AnswersHistories

    def measure(self, job: ProbeJob) -> Mapping[str, Floats]:
        """`block` (R,) and `population` (Z,): minus the mean log rank; higher = more likely a member."""
        return on_users(job, log_ranks)

    def score(self, job: AttackJob) -> MembershipScores:
        """Scores (T, R); higher = more likely a member."""
        values = gaussian_ratio("own_rank", job, as_measured)
        return MembershipScores(attack="own_rank", values=values, unit="nats")
