"""V1. Are the sums that the model is a formula of those of the retained users, integer for integer?"""

from __future__ import annotations

import math
from collections.abc import Mapping

from expunge.core.codec import decimal
from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Verdict, worst
from expunge.core.ladder import Algebra as Evidence
from expunge.core.protocols import CheckJob
from expunge.stats.rungs import coarse, unmeasured, whole

_STATISTIC = "entries of the model's sums that differ from sums added up from the retained histories alone"
_ROUNDING = 1e-9  # a leverage of 1 may come out of float64 a little above


class Algebra:
    """The sums of the candidate against those of the retained histories; they are integers, so there is no tolerance.

    A model that is a formula of sums is the model without the users exactly when the sums are those without the users
    (Cao and Yang 2015, Towards making systems forget with machine unlearning).
    Of a family that is trained, not summed, every weight is held against those of the same recipe and seed, run again.
    FAIL: a sum differs, or what is kept beside the sums (an inverse, lists) deviates from them by more than its limit or
    is not finite. UNVERIFIABLE: random vectors do not see that the original's inverse is another one; or the original's
    sums are those of the retained users too, and the comparison was not seen to tell anybody. PASS otherwise.
    Sums that were right before: the users' events weigh nothing (they have decayed), so the model without them is the
    model there was. Equal is equal, and EXACT asks for no more; that the comparison is not blind is shown on somebody
    who stays, without whom the same sums must differ, and an inverse must be seen to be another. Any model at all passes
    there that has these very sums.
    Derived lists that are compared entry by entry (`probes` 0) may be the same before and after: equality is a fact there.
    """

    question: str = "Is the model made of the retained histories alone, to the last integer or bit?"

    def run(self, job: CheckJob) -> Finding:
        """One Finding. Raises CheckBroken on counts that cannot be."""
        found = None if job.ladder is None else job.ladder.algebra
        if found is None:
            reason = unmeasured(job, "algebra")
            return Finding(
                check="algebra",
                question=self.question,
                statistic=_STATISTIC,
                verdict=Verdict.INCONCLUSIVE,
                reason=reason,
            )
        _check(found)
        conditions = (_sums(found), *_derived(found))
        return Finding(
            check="algebra",
            question=self.question,
            statistic=_STATISTIC,
            verdict=worst(tuple(condition.verdict for condition in conditions)),
            reason="; ".join(condition.note for condition in conditions),
            estimate=float(found.wrong),
            limit=0.0,
            original=float(coarse(found.original_wrong)),
            n=found.entries,
            conditions=conditions,
            details=_details(found),
        )


def _check(found: Evidence) -> None:
    whole(entries=found.entries, wrong=found.wrong, original_wrong=found.original_wrong, probes=found.probes)
    whole(control_wrong=0 if found.control_wrong is None else found.control_wrong)
    if not (math.isfinite(found.derived_limit) and found.derived_limit >= 0):
        raise CheckBroken("a limit is a finite number from 0", got=str(found.derived_limit))
    if any(value is not None and value < 0 for value in (found.derived, found.original_derived)):
        raise CheckBroken("a deviation is at least 0", got=f"{found.derived} and {found.original_derived}")
    if found.leverage is not None and not -_ROUNDING <= found.leverage <= 1 + _ROUNDING:
        raise CheckBroken("a leverage lies in [0, 1]", got=str(found.leverage))


def _sums(found: Evidence) -> Condition:
    control = f"the original's differ in {coarse(found.original_wrong)} or more"
    if not found.original_wrong and found.control_wrong:
        seen = f"without one user who stays, {coarse(found.control_wrong)} or more differ"
        control = f"and so were the original's: the {found.unit} did not have to change; {seen} (control)"
    if found.wrong:
        verdict, note = (
            Verdict.FAIL,
            f"{found.wrong} of {found.entries} {found.unit} differ from those of the retained histories",
        )
    elif not (found.entries and (found.original_wrong or found.control_wrong)):
        verdict, note = (
            Verdict.UNVERIFIABLE,
            f"the original's {found.unit} are those of the retained histories, so nothing is seen",
        )
    else:
        verdict, note = Verdict.PASS, f"all {found.entries} {found.unit} are those of the retained histories, {control}"
    return Condition(
        name="sums", verdict=verdict, estimate=float(found.wrong), limit=0.0, note=f"{note} ({found.what})"
    )


def _derived(found: Evidence) -> tuple[Condition, ...]:
    """Nothing where nothing is kept beside the sums."""
    value, limit = found.derived, found.derived_limit
    if value is None:
        return ()
    blind = value > 0 and not any(seen is not None and seen > limit for seen in _controls(found))
    control = "was not measured" if found.original_derived is None else f"deviates by {found.original_derived:.3g}"
    note = f"what follows from the sums deviates by {value:.3g} (limit {limit:.3g}), the original's {control}"
    if not value <= limit:  # NaN is not
        verdict = Verdict.FAIL
    elif blind:
        verdict, note = Verdict.UNVERIFIABLE, f"{note}: the probe is blind"
    else:
        verdict = Verdict.PASS
    estimate = value if math.isfinite(value) else None
    return (Condition(name="derived", verdict=verdict, estimate=estimate, limit=limit, note=note),)


def _controls(found: Evidence) -> tuple[float | None, ...]:
    """Deviations that have to be seen: the original's; or, where its sums did not have to change, and what follows from them
    neither, those from sums without one user who stays."""
    return (found.original_derived, None if found.original_wrong else found.control_derived)


def _details(found: Evidence) -> Mapping[str, str]:
    numbers = {
        "probes": float(found.probes),
        "leverage": found.leverage,
        "residual": found.derived,
        "residual_original": found.original_derived,
    }
    return {name: decimal(n) for name, n in numbers.items() if n is not None and math.isfinite(n)}
