"""V3. Does the model answer the deleted users' own items as the model that never had them?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge.core.codec import decimal
from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Verdict, worst
from expunge.core.ladder import LeftOut as Evidence
from expunge.core.protocols import CheckJob
from expunge.stats.arrays import LARGEST, Floats, finite
from expunge.stats.ranking import integers
from expunge.stats.rungs import unmeasured

_STATISTIC = (
    "largest difference to the model that never had what was deleted, over all items of the histories as they were"
)
_NOISE = 1e-9  # of the scale: float64 leaves 9e-14 (measured); an inverse is built anew when its residual passes 1e-9
_TOLD_APART = 1e3  # times the limit that the original must differ by, for each user


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """Per user (n,): largest difference to the exact model of the candidate (infinite where it is no number) and of the
    original; `absent` users have no item that could be asked."""

    candidate: Floats
    original: Floats
    absent: int
    limit: float

    @property
    def users(self) -> int:
        """All deleted users."""
        return self.candidate.size + self.absent

    @property
    def beyond(self) -> int:
        """Users whose candidate is not the exact model."""
        return int((self.candidate > self.limit).sum())

    @property
    def blind(self) -> int:
        """Users whose original is not told apart from the exact model."""
        return int((self.original <= _TOLD_APART * self.limit).sum()) + self.absent


class LeftOut:
    """Every own item of every deleted user, with the same history folded in for candidate, original and exact model.

    The exact answer of the model that never had the user is known: for a linear recommender in closed form from the one
    that had (rank-one update, Sherman and Morrison 1950), otherwise from a retraining. So this compares numbers and
    needs no attack, no shadow models and no AUC, which says little about one user. The answers come from weights with
    the history folded in: a user who is unknown to the service gets popularity lists, which are the same whether or not
    the weights still hold the history, and show nothing. Where only events of a history were deleted, the history as it
    was is folded in, and the exact model is the one that had the shorter history.
    FAIL: an answer differs by more than 1e-9 of the scale, or is no number. UNVERIFIABLE: a user is not told apart, the
    original differing by no more than 1e-6 of the scale. PASS: neither, for every user. `reference` is 0 by definition.
    """

    question: str = "Are the histories' own items answered as by the model that never had what was deleted?"

    def run(self, job: CheckJob) -> Finding:
        """One Finding over all users. Raises CheckBroken on shapes, on a scale that is none, and on NaN anywhere but in
        the candidate."""
        found = None if job.ladder is None else job.ladder.left_out
        if found is None:
            return self._finding(Verdict.INCONCLUSIVE, unmeasured(job, "left_out"))
        judged = _judge(found)
        if not judged.candidate.size:
            return self._finding(Verdict.UNVERIFIABLE, "there is no item that could be asked")
        conditions = (_equal(judged), _told_apart(judged))
        verdict = worst(tuple(condition.verdict for condition in conditions))
        return self._finding(verdict, _reason(verdict, judged, found.reference), judged, conditions)

    def _finding(
        self, verdict: Verdict, reason: str, judged: _Judged | None = None, conditions: tuple[Condition, ...] = ()
    ) -> Finding:
        return Finding(
            check="left_out",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=reason,
            estimate=None if judged is None else _rounded(judged.candidate.max()),
            limit=None if judged is None else _rounded(judged.limit),
            original=None if judged is None else _rounded(judged.original.max()),
            reference=None if judged is None else 0.0,
            n=0 if judged is None else judged.users,
            conditions=conditions,
            details={} if judged is None else _details(judged),
        )


def _judge(found: Evidence) -> _Judged:
    exact = finite("exact", found.exact, (None,))
    original = finite("original", found.original, (exact.size,))
    user = integers("user", found.user)
    if user.size != exact.size or user.min(initial=0) < 0:
        raise CheckBroken("one user from 0 an item expected", expected=f"({exact.size},)", got=str(user.shape))
    if not (math.isfinite(found.scale) and found.scale > 0):
        raise CheckBroken("a scale is a finite number above 0", got=str(found.scale))
    numbers, place = np.unique(user, return_inverse=True)
    return _Judged(
        candidate=_largest(_distance(found.candidate, exact), place, numbers.size),
        original=_largest(np.abs(original - exact), place, numbers.size),
        absent=int(user.max(initial=-1)) + 1 - numbers.size,
        limit=_NOISE * found.scale,
    )


def _distance(candidate: Any, exact: Floats) -> Floats:
    """|candidate - exact| (E,), infinite where the candidate is no number: that is an answer, and a wrong one."""
    try:
        array = np.asarray(candidate, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CheckBroken("candidate is not an array of numbers", got=str(error)[:120]) from error
    if array.shape != exact.shape:
        raise CheckBroken("candidate has the wrong shape", expected=str(exact.shape), got=str(array.shape))
    sane = np.abs(array) <= LARGEST  # NaN is not
    return np.where(sane, np.abs(np.where(sane, array, 0.0) - exact), np.inf)


def _largest(distance: Floats, place: NDArray[np.intp], users: int) -> Floats:
    top = np.zeros(users)
    np.maximum.at(top, place, distance)
    return top


def _equal(judged: _Judged) -> Condition:
    return Condition(
        name="every user is answered as by the exact model",
        verdict=Verdict.FAIL if judged.beyond else Verdict.PASS,
        estimate=_rounded(judged.candidate.max()),
        limit=_rounded(judged.limit),
        note=f"{judged.beyond} of {judged.users} users beyond the limit",
    )


def _told_apart(judged: _Judged) -> Condition:
    least = 0.0 if judged.absent else float(judged.original.min())
    return Condition(
        name="every user is told apart in the original",
        verdict=Verdict.UNVERIFIABLE if judged.blind else Verdict.PASS,
        estimate=_rounded(least),
        limit=_rounded(_TOLD_APART * judged.limit),
        note=f"control: the least difference of any user; {judged.blind} of {judged.users} users are not told apart",
    )


def _reason(verdict: Verdict, judged: _Judged, reference: str) -> str:
    top = float(judged.candidate.max())
    mine = f"differs by {top:.2g}" if math.isfinite(top) else "answers with something that is no number"
    against = f"the original by {judged.original.max():.2g}, {judged.users} users, reference: {reference}"
    if verdict is Verdict.FAIL:
        return f"{judged.beyond} users are not answered as by the exact model: the candidate {mine}, {against}"
    if verdict is Verdict.UNVERIFIABLE:
        return f"{judged.blind} users cannot be told apart in the original and the exact model: the candidate {mine}, {against}"
    return f"the candidate {mine} at most, {against}"


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _details(judged: _Judged) -> Mapping[str, str]:
    counts = {"users": judged.users, "users_beyond": judged.beyond, "users_not_told_apart": judged.blind}
    return {name: decimal(count) for name, count in counts.items()}
