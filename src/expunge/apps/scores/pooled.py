"""A verdict on scores of members and nonmembers."""

from __future__ import annotations

import math

import numpy as np

from expunge.apps.scores.answer import ALPHA, CHECK, NOT_ABSENCE, SWAPPED, Answer, Row, interval_of
from expunge.connect.scores import PooledScores
from expunge.core.errors import CheckBroken
from expunge.core.finding import Finding, Verdict
from expunge.stats.coins import audit_coins
from expunge.stats.epsilon import EpsilonBound, epsilon_lower_bound, one_run_epsilon
from expunge.stats.intervals import share_at_most
from expunge.stats.margins import margin_units, sd_of_auc
from expunge.stats.roc import auc, tpr_at_fpr
from expunge.stats.shift import Shift, shift_test

QUESTION = "Do these scores tell the records that were trained on from records that never were?"
RATES = (0.1, 0.01, 0.001)
LEAST = 20
"""Members and nonmembers from which on a verdict other than INCONCLUSIVE is given."""
_THRESHOLDS = 10
_DELTA = 1e-5


def judge_pooled(given: PooledScores, *, source: str, seed: int, coins: bool) -> Answer:
    """FAIL when membership is shown, at 5 % over two tests: a Mann-Whitney shift (2.5 %) or a split epsilon bound above
    0 (2.5 %), which sees the few exposed records that a mean hides. Otherwise INCONCLUSIVE; never PASS."""
    high, low = given.members, given.nonmembers
    area, shift = auc(high, low), shift_test(high, low)
    deciding = _epsilon(given, seed, level=1 - ALPHA, thresholds=1)
    verdict, reason = _verdict(given, shift, deciding)
    rows = [
        Row.of("AUC", area, high.size + low.size, _distance(area.estimate)),
        Row(what="p, members higher", estimate=shift.above, n=shift.n, note="Mann-Whitney, one-sided"),
        Row(what="p, members lower", estimate=shift.below, n=shift.n, note="small = direction swapped"),
        *(_tpr(given, rate) for rate in RATES),
        _epsilon_row("epsilon, split", deciding, 1 - ALPHA, "decides"),
        _epsilon_row("epsilon, split", _epsilon(given, seed, level=0.95, thresholds=1), 0.95),
        _epsilon_row("epsilon, Bonferroni", _epsilon(given, seed, level=0.95, thresholds=_THRESHOLDS), 0.95),
        *(_coins(given, seed) if coins else ()),
    ]
    finding = Finding(
        check=CHECK,
        question=QUESTION,
        statistic=f"area under the ROC curve, {given.meaning}",
        verdict=verdict,
        reason=reason,
        estimate=area.estimate,
        interval=interval_of(area),
        limit=0.5,
        n=high.size + low.size,
    )
    unread: tuple[str, ...] = ("epsilon bounds what this attack showed on these records; it is no privacy guarantee",)
    if not coins:
        unread += ("one-run bounds and the coin audit need --coins: members drawn by independent fair coins",)
    return Answer(source=source, finding=finding, rows=tuple(rows), notes=given.notes + unread)


def _verdict(given: PooledScores, shift: Shift, bound: EpsilonBound | None) -> tuple[Verdict, str]:
    if shift.below <= ALPHA:
        return Verdict.INCONCLUSIVE, f"{SWAPPED} (Mann-Whitney p = {shift.below:.3g})"
    if min(given.members.size, given.nonmembers.size) < LEAST:
        counts = f"{given.members.size} members and {given.nonmembers.size} nonmembers"
        return Verdict.INCONCLUSIVE, f"{counts}; at least {LEAST} of each are needed"
    shown = []
    if shift.above <= ALPHA:
        shown.append(f"members score higher (Mann-Whitney p = {shift.above:.3g})")
    if bound is not None and bound.epsilon > 0:
        shown.append(f"epsilon of this attack is at least {bound.epsilon:.3g} at {100 * bound.level:g} %")
    if shown:
        text = " and ".join(shown)
        return Verdict.FAIL, f"membership is visible: {text}; records said to be erased here are not, for this score"
    return Verdict.INCONCLUSIVE, f"no difference was shown; {NOT_ABSENCE}"


def _tpr(given: PooledScores, rate: float) -> Row:
    """TPR at a nominal FPR, with what the nonmembers can say about that FPR."""
    m, needed = given.nonmembers.size, math.ceil(math.log(0.05) / math.log1p(-rate))
    allowed = math.floor(rate * m + 1e-9)
    real = share_at_most(allowed, m)
    note = f"FPR up to {100 * real:.2g} % (95 %)"
    if m < needed:
        note = f"NOT RESOLVED: {note}; an FPR of {100 * rate:g} % takes {needed} nonmembers, there are {m}"
    bounds = tpr_at_fpr(given.members, given.nonmembers, rate)
    return Row.of(f"TPR at {100 * rate:g} % FPR", bounds, given.members.size, note)


def _epsilon(given: PooledScores, seed: int, *, level: float, thresholds: int) -> EpsilonBound | None:
    try:
        return epsilon_lower_bound(given.members, given.nonmembers, seed=seed, level=level, thresholds=thresholds)
    except CheckBroken:  # fewer than 20 of a side: no bound, and the verdict says so
        return None


def _epsilon_row(what: str, bound: EpsilonBound | None, level: float, note: str = "") -> Row:
    if bound is None:
        return Row(what=what, estimate=None, level=level, note="fewer than 20 members or nonmembers")
    said = "; ".join(part for part in (note, f"lower bound; {bound.method}") if part)
    return Row(what=what, estimate=bound.epsilon, low=bound.epsilon, level=level, n=bound.n, note=said)


def _coins(given: PooledScores, seed: int) -> tuple[Row, ...]:
    """One-run bounds. The records are shuffled first: ties go by position, and position must not know the coin."""
    trained = np.repeat([True, False], [given.members.size, given.nonmembers.size])
    order = np.random.default_rng(seed).permutation(trained.size)
    scores, trained = np.concatenate([given.members, given.nonmembers])[order], trained[order]
    if trained.size < 2:
        return ()
    audit = audit_coins(scores, trained)
    guesses = max(2, trained.size // 4 * 2)
    bound = one_run_epsilon(scores, trained, guesses=guesses, delta=_DELTA)
    note = f"{audit.correct} of {audit.coins} coins guessed; one-sided Clopper-Pearson limits"
    return (
        Row(
            what="coins guessed right",
            estimate=audit.accuracy,
            low=audit.low,
            high=audit.high,
            level=audit.level,
            n=audit.coins,
            note=note,
        ),
        _epsilon_row("epsilon, one run", bound, bound.level, f"{guesses} guesses, delta {_DELTA:g}"),
    )


def _distance(area: float | None) -> str:
    if area is None or not 0.5 <= area < 1:
        return ""
    return f"= {margin_units(sd_of_auc(area)).sd:.2f} SD if both were Gaussian"
