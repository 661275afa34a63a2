"""V4. Do probe profiles get the lists and scores that a retraining on the retained users gives them?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from expunge.core.codec import decimal
from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Verdict
from expunge.core.ladder import Behaviour as Evidence
from expunge.core.protocols import Array, CheckJob
from expunge.stats.ranking import Ints, overlap, recommended
from expunge.stats.rungs import unmeasured, whole

_STATISTIC = "largest difference of any score to a retraining on the retained histories"
_SAME = 1e-9  # of the largest score: rounding of float64, and what an inverse may be off before it is built anew
_OTHER = 1e-6  # of the largest score: a thousand times more, no rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lists:
    """Two models' lists of the same n profiles: how many are equal, how many hold the same items in any order, and the
    mean share of common items, None where all are empty."""

    equal: int
    same_items: int
    shared: float | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """Lists: candidate and original against the retraining (None without one), and `changed`, candidate to original."""

    candidate: _Lists | None
    original: _Lists | None
    changed: _Lists


class Behaviour:
    """Scores and lists for profiles of people who were not deleted, against the retraining on the retained users.

    FAIL: a score differs by more than 1e-6 of the largest one. UNVERIFIABLE: no score of the original differs by more
    than 1e-9, so the deletion shows in none of these profiles. INCONCLUSIVE: between the two, no retraining, or scores
    that agree with lists that do not: more of them the original's than the retraining's, or unequal though no score
    differs at all. PASS: every score within 1e-9; lists that differ then do so among items whose scores are equal to
    twice that, which are ties. How many other people's lists the deletion changed is reported (caches hold those), and the
    residual ratio: the candidate's distance to the retraining over all scores in units of the original's.
    `reference` is 0 by definition.
    """

    question: str = "Are people answered as by a model retrained without what was deleted?"

    def run(self, job: CheckJob) -> Finding:
        """One Finding over all profiles. Raises CheckBroken on lists that are none, or of unequal shapes."""
        found = None if job.ladder is None else job.ladder.behaviour
        if found is None:
            return self._finding(Verdict.INCONCLUSIVE, unmeasured(job, "behaviour"))
        compared = _compare(found)
        if not compared.changed.n:
            return self._finding(Verdict.UNVERIFIABLE, "there is no probe profile")
        verdict, reason = _decide(found, compared)
        return self._finding(verdict, f"{reason}; {_changed(compared.changed)}", found, compared)

    def _finding(
        self, verdict: Verdict, reason: str, found: Evidence | None = None, compared: _Compared | None = None
    ) -> Finding:
        if found is None or compared is None:
            return Finding(
                check="behaviour", question=self.question, statistic=_STATISTIC, verdict=verdict, reason=reason
            )
        judged = found.reference is not None
        return Finding(
            check="behaviour",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=reason,
            estimate=_rounded(found.largest) if judged else None,
            limit=_rounded(_SAME * found.scale),
            original=_rounded(found.original_largest) if judged else None,
            reference=0.0 if judged else None,
            n=compared.changed.n,
            conditions=_conditions(found, compared),
            details=_details(found, compared),
        )


def _compare(found: Evidence) -> _Compared:
    whole(items=found.items)
    if not (math.isfinite(found.scale) and found.scale >= 0):
        raise CheckBroken("a scale is a finite number from 0", got=str(found.scale))
    if found.residual is not None and not 0 <= found.residual < math.inf:
        raise CheckBroken("a residual ratio is a finite number from 0", got=str(found.residual))
    if found.largest is not None and found.largest < 0:
        raise CheckBroken("a largest difference is at least 0", got=str(found.largest))
    if found.original_largest is not None and not 0 <= found.original_largest < math.inf:
        raise CheckBroken(
            "the original's largest difference is no finite number from 0", got=str(found.original_largest)
        )
    candidate, original = (_table(found, lists) for lists in (found.candidate, found.original))
    changed = _alike(candidate, original, found.items)
    if found.reference is None:
        return _Compared(candidate=None, original=None, changed=changed)
    reference = _table(found, found.reference)
    return _Compared(
        candidate=_alike(candidate, reference, found.items),
        original=_alike(original, reference, found.items),
        changed=changed,
    )


def _table(found: Evidence, lists: Array) -> Ints:
    return recommended(lists, found.items)


def _alike(one: Ints, two: Ints, items: int) -> _Lists:
    shared = overlap(one, two, items).mean_shared  # refuses unequal shapes
    return _Lists(
        equal=int((one == two).all(axis=1).sum()),
        same_items=int((np.sort(one, axis=1) == np.sort(two, axis=1)).all(axis=1).sum()),
        shared=shared,
        n=one.shape[0],
    )


def _decide(found: Evidence, compared: _Compared) -> tuple[Verdict, str]:
    mine, stale = compared.candidate, compared.changed
    if mine is None:
        return Verdict.INCONCLUSIVE, f"no retraining to compare with: {found.why_not or 'no reason is given'}"
    if found.largest is None:
        return Verdict.INCONCLUSIVE, "scores were not compared with the retraining"
    scores = f"scores differ from the retraining by {found.largest:.2g} of {found.scale:.3g} at most"
    if not found.largest <= _OTHER * found.scale:  # NaN is not
        return Verdict.FAIL, f"{scores}, and {mine.equal} of {mine.n} lists are equal{_left(found)}"
    if _blind(found):
        return Verdict.UNVERIFIABLE, f"the original's scores are not seen to differ from the retraining's; {scores}"
    if found.largest > _SAME * found.scale:
        return Verdict.INCONCLUSIVE, f"{scores}: more than rounding, less than another model"
    unequal = mine.n - mine.equal
    if unequal and (found.largest == 0 or stale.equal > mine.equal):
        return Verdict.INCONCLUSIVE, f"{scores}, but {unequal} of {mine.n} lists are not those of these scores"
    ties = f"; {unequal} differ among equal scores" if unequal else ""
    return (
        Verdict.PASS,
        f"{scores} (the original's by {found.original_largest:.2g}); {mine.equal} of {mine.n} lists are equal{ties}",
    )


def _blind(found: Evidence) -> bool:
    """Without the original's scores nobody knows what could have been seen."""
    return found.original_largest is None or found.original_largest <= _SAME * found.scale


def _left(found: Evidence) -> str:
    """How far an approximate deletion is from the retraining, between 1 (nothing was done) and 0; more is worse than nothing."""
    if found.residual is None:
        return ""
    return f"; residual ratio {found.residual:.2g} (0: the retraining, 1: as if nothing had been done)"


def _changed(lists: _Lists) -> str:
    moved, replaced = lists.n - lists.equal, lists.n - lists.same_items
    return f"the deletion changed {moved} of {lists.n} other people's lists, {replaced} of them in what they hold"


def _conditions(found: Evidence, compared: _Compared) -> tuple[Condition, ...]:
    changed = compared.changed
    others = Condition(
        name="lists of other people that the deletion changed",
        verdict=Verdict.PASS,
        estimate=_share(changed.n - changed.equal, changed.n),
        note=f"reported; with other items: {_share(changed.n - changed.same_items, changed.n):g} of all",
    )
    mine, original = compared.candidate, compared.original
    if mine is None or original is None:
        return (others,)
    return (_scores(found), _control(found, original), _equal_lists(mine), others)


def _scores(found: Evidence) -> Condition:
    verdict = Verdict.INCONCLUSIVE
    if found.largest is not None and not found.largest <= _OTHER * found.scale:
        verdict = Verdict.FAIL
    elif found.largest is not None and found.largest <= _SAME * found.scale:
        verdict = Verdict.PASS
    return Condition(
        name="scores are those of the retraining",
        verdict=verdict,
        estimate=_rounded(found.largest),
        limit=_rounded(_SAME * found.scale),
        note=f"fails beyond {_OTHER * found.scale:.3g}",
    )


def _control(found: Evidence, original: _Lists) -> Condition:
    return Condition(
        name="the original's scores are not",
        verdict=Verdict.UNVERIFIABLE if _blind(found) else Verdict.PASS,
        estimate=_rounded(found.original_largest),
        limit=_rounded(_SAME * found.scale),
        note=f"control: {original.equal} of {original.n} of the original's lists equal the retraining's",
    )


def _equal_lists(mine: _Lists) -> Condition:
    return Condition(
        name="lists are those of the retraining",
        verdict=Verdict.PASS if mine.equal == mine.n else Verdict.INCONCLUSIVE,
        estimate=_share(mine.equal, mine.n),
        limit=1.0,
        note="reported; ties may stand in another order",
    )


def _details(found: Evidence, compared: _Compared) -> Mapping[str, str]:
    changed = compared.changed
    numbers: dict[str, float | None] = {
        "profiles": float(changed.n),
        "lists_reordered": _share(changed.n - changed.equal, changed.n),
        "lists_with_other_items": _share(changed.n - changed.same_items, changed.n),
        "residual_ratio": _rounded(found.residual),
    }
    for name, lists in (("candidate", compared.candidate), ("original", compared.original)):
        if lists is not None:
            numbers[f"{name}_lists_equal"] = _share(lists.equal, lists.n)
            numbers[f"{name}_items_shared"] = _rounded(lists.shared)
    return {name: decimal(number) for name, number in numbers.items() if number is not None}


def _share(part: int, of: int) -> float:
    return float(f"{part / of:.4g}")


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None
