"""Does the model still rank as well for everybody else: as a retraining does, and as it did before?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from expunge.core.codec import decimal
from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Guarantee, Interval, Verdict, worst
from expunge.core.ladder import Ranking as Evidence
from expunge.core.protocols import CheckJob
from expunge.stats.arrays import booleans, finite
from expunge.stats.ranking import PerUser
from expunge.stats.ranking_difference import (
    LEAST_USERS,
    NonInferiority,
    PairedDifference,
    differences,
    noninferior,
    paired_difference,
    resolvable_margin,
)
from expunge.stats.ranking_quality import activity_gap, coverage, gini, novelty
from expunge.stats.rungs import unmeasured
from expunge.stats.spending import spent_alpha
from expunge.stats.threearm import contrast_test

_STATISTIC = "mean NDCG@100 of test users, candidate minus original, paired"
_JUDGED = ("NDCG@100", "Recall@20")
_HEADLINE = _JUDGED[0]
_LEAST, _MOST = "activity low", "activity high"  # segments whose means are compared, where both are given
_SMALL = 10  # a mean over fewer test users says too much about each of them
_ROUNDING = 1e-9

_Metrics = Mapping[str, PerUser]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Models:
    """A metric by name of the three models on the same T test users; `reference` None without a retraining."""

    candidate: _Metrics
    original: _Metrics
    reference: _Metrics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """`margin` that may be lost against before; `alpha` per side for passing (spent by attempts), `fail_alpha` for failing
    (shared among the comparisons, the same at every attempt); `exact`: a retraining has to be met to the last bit."""

    margin: float
    alpha: float
    fail_alpha: float
    power: float
    seed: int
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """One comparison; `needed` test users would resolve the margin at the wanted power."""

    name: str
    verdict: Verdict
    note: str
    margin: float
    test: NonInferiority | None = None
    difference: PairedDifference | None = None
    needed: int | None = None


class Ranking:
    """NDCG@100 and Recall@20 of test users, paired, against a retraining and against before.

    Against the retraining an exact guarantee has margin 0: PASS when the metric is the same for every user (to 1e-12),
    FAIL when the mean is significantly lower, INCONCLUSIVE otherwise. Any other guarantee has `limits.ranking_margin`,
    which is also the margin against before: FAIL when the interval lies wholly beyond it, PASS when wholly inside,
    INCONCLUSIVE when these users cannot resolve it (and how many would) or there was no retraining. UNVERIFIABLE: the
    original's own mean is no larger than the margin, so there is nothing that could be lost.
    Student's t, one-sided, passing guarded against skewness (`stats.ranking_difference`); the bootstrap stands beside it.
    Passing needs all comparisons and spends alpha by attempts, failing is shared among them (Bonferroni) and the same at
    every attempt. Segments, coverage, the Gini index of exposure and the gap between active and inactive users (compare
    CURE4Rec, Chen et al. 2024) are reported. `reference` is what the retraining gained or lost.
    """

    question: str = "Are other people's recommendations as good as a retraining's, and as before?"

    def run(self, job: CheckJob) -> Finding:
        """One Finding over both metrics. Raises CheckBroken on values outside [0, 1] and on unequal users."""
        found = None if job.ladder is None else job.ladder.ranking
        if found is None:
            return self._without(unmeasured(job, "ranking"))
        models = _models(found)
        if not any(name in models.candidate for name in _JUDGED):
            return self._without(f"neither {' nor '.join(_JUDGED)} was measured")
        rules = _rules(job)
        compared = [_against(models, name, rules, before) for before in (False, True) for name in _JUDGED]
        verdict = worst(tuple(item.verdict for item in compared))
        before = compared[len(_JUDGED)]  # the headline
        return Finding(
            check="ranking",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=_reason(verdict, compared),
            estimate=None if before.test is None else _rounded(before.test.mean),
            interval=_interval(before),
            limit=rules.margin,
            original=0.0,
            reference=_of_retraining(models),
            n=0 if before.test is None else before.test.n,
            mde=None if before.test is None else _rounded(before.test.resolvable),
            conditions=tuple(map(_condition, compared)),
            details=_details(found, models, compared),
        )

    def _without(self, reason: str) -> Finding:
        return Finding(
            check="ranking", question=self.question, statistic=_STATISTIC, verdict=Verdict.INCONCLUSIVE, reason=reason
        )


# ------------------------------------------------------------------------------------------------------------- evidence


def _models(found: Evidence) -> _Models:
    if found.candidate.keys() != found.original.keys():
        raise CheckBroken("candidate and original have other metrics", expected="the same names")
    if found.reference is not None and found.reference.keys() != found.candidate.keys():
        raise CheckBroken("candidate and retraining have other metrics", expected="the same names")
    users = next((np.asarray(values).size for values in found.candidate.values()), 0)
    return _Models(
        candidate=_per_users("candidate", found.candidate, users),
        original=_per_users("original", found.original, users),
        reference=None if found.reference is None else _per_users("reference", found.reference, users),
    )


def _per_users(model: str, metrics: Mapping[str, Any], users: int) -> _Metrics:
    return {name: _per_user(f"{name} of the {model}", values, users) for name, values in metrics.items()}


def _per_user(name: str, values: Any, users: int) -> PerUser:
    """(T,) with NaN for users without a held-out item."""
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CheckBroken(f"{name} is not an array of numbers", got=str(error)[:120]) from error
    if column.shape != (users,):
        raise CheckBroken(f"{name} has the wrong shape", expected=f"({users},)", got=str(column.shape))
    measured = np.flatnonzero(~np.isnan(column))
    known = finite(name, column[measured], (None,))
    if known.size and not (known.min() >= -_ROUNDING and known.max() <= 1 + _ROUNDING):
        raise CheckBroken(f"{name} lies outside [0, 1]", got=f"{known.min():.3g} to {known.max():.3g}")
    return PerUser(values=known, users=measured.astype(np.int64), left_out=users - measured.size)


def _rules(job: CheckJob) -> _Rules:
    return _Rules(
        margin=float(job.limits.ranking_margin),
        alpha=spent_alpha(job.limits.alpha, job.attempt),
        fail_alpha=job.limits.alpha / (2 * len(_JUDGED)),
        power=job.limits.power,
        seed=job.seed,
        exact=job.guarantee is Guarantee.EXACT,
    )


# -------------------------------------------------------------------------------------------------------------- judging


def _against(models: _Models, metric: str, rules: _Rules, before: bool) -> _Compared:
    """Candidate minus original, or minus the retraining."""
    name = f"{metric} against {'before' if before else 'a retraining'}"
    margin = 0.0 if rules.exact and not before else rules.margin
    base = models.original if before else models.reference
    if base is None:
        return _Compared(name=name, verdict=Verdict.INCONCLUSIVE, note="no retraining was made", margin=margin)
    if metric not in models.candidate:
        return _Compared(name=name, verdict=Verdict.INCONCLUSIVE, note="was not measured", margin=margin)
    change = differences(models.candidate[metric], base[metric])
    if change.values.size < LEAST_USERS:
        note = f"{change.values.size} test users with held-out items, at least {LEAST_USERS} are needed"
        return _Compared(name=name, verdict=Verdict.INCONCLUSIVE, note=note, margin=margin)
    compared = _judge(name, change, margin, rules)
    if before and compared.verdict is not Verdict.FAIL and base[metric].mean <= margin:
        note = f"the original's own mean is {base[metric].mean:.4f}: nothing could be lost beyond {margin:g} (control)"
        return _Compared(
            name=name, verdict=Verdict.UNVERIFIABLE, note=note, margin=margin, test=compared.test,
            difference=compared.difference,
        )  # fmt: skip
    return compared


def _judge(name: str, change: PerUser, margin: float, rules: _Rules) -> _Compared:
    test = noninferior(change.values, margin, alpha=rules.alpha, power=rules.power)
    # noninferior fails at the alpha that passes; failing has an alpha of its own
    lost = test.verdict is not Verdict.PASS and contrast_test(change.values + margin).below <= rules.fail_alpha
    shown = paired_difference(change.values, seed=rules.seed, alpha=2 * rules.alpha)
    verdict = Verdict.FAIL if lost else Verdict.INCONCLUSIVE if test.verdict is Verdict.FAIL else test.verdict
    needed = _users_needed(shown.sd, margin, rules)
    return _Compared(
        name=name,
        verdict=verdict,
        note=_note(verdict, test, shown, needed),
        margin=margin,
        test=test,
        difference=shown,
        needed=needed,
    )


def _users_needed(sd: float, margin: float, rules: _Rules) -> int | None:
    """Test users that show "no loss" to be within the margin with this power when nothing was lost, to 1 %."""
    if not margin > 0:
        return None
    z = float(special.ndtri(1 - rules.alpha) + special.ndtri(rules.power))
    n = max(LEAST_USERS, math.ceil((z * sd / margin) ** 2))  # Gaussian, so a little low
    while resolvable_margin(sd=sd, n=n, alpha=rules.alpha, power=rules.power) > margin:
        n += max(1, n // 100)
    return n


def _note(verdict: Verdict, test: NonInferiority, shown: PairedDifference, needed: int | None) -> str:
    text = f"{shown.mean:+.4f} [{shown.t.low:+.4f}, {shown.t.high:+.4f}] on {test.n} users"
    if verdict is Verdict.FAIL:
        return f"{text}: a mean loss of more than {test.margin:g} is shown"
    if verdict is Verdict.PASS:
        return f"{text}: {test.reason}"
    if needed is None:
        return f"{text}: differs for {shown.changed} users, and only equality shows that nothing is lost"
    if needed > test.n:
        return f"{text}: about {needed} test users would resolve {test.margin:g}"
    return f"{text}: near the margin of {test.margin:g}"


# ------------------------------------------------------------------------------------------------------------ the finding


def _reason(verdict: Verdict, compared: list[_Compared]) -> str:
    named = [item for item in compared if item.verdict is verdict]
    if verdict is Verdict.PASS:
        return "; ".join(f"{item.name} {item.note}" for item in compared if item.name.startswith(_HEADLINE))
    others = "" if len(named) == 1 else f" (and {len(named) - 1} more)"
    return f"{named[0].name}: {named[0].note}{others}"


def _condition(item: _Compared) -> Condition:
    return Condition(
        name=item.name,
        verdict=item.verdict,
        estimate=None if item.test is None else _rounded(item.test.mean),
        limit=item.margin,
        note=item.note,
    )


def _interval(item: _Compared) -> Interval | None:
    bounds = None if item.difference is None else item.difference.t
    if bounds is None or bounds.low is None or bounds.high is None:
        return None
    return Interval(low=bounds.low, high=bounds.high, level=bounds.level, method=bounds.method)


def _of_retraining(models: _Models) -> float | None:
    """What the retraining gained or lost against before: what an honest deletion costs."""
    if models.reference is None or _HEADLINE not in models.reference:
        return None
    change = differences(models.reference[_HEADLINE], models.original[_HEADLINE])
    return _rounded(change.mean) if change.values.size else None


def _details(found: Evidence, models: _Models, compared: list[_Compared]) -> Mapping[str, str]:
    numbers = dict(_means(models)) | dict(_tests(compared)) | dict(_shown(found)) | dict(_segments(found, models))
    numbers |= dict(_of_items(found))
    return {"split": found.split} | {name: decimal(_rounded(value)) for name, value in numbers.items()}


def _means(models: _Models) -> Iterator[tuple[str, float]]:
    for model, metrics in (("candidate", models.candidate), ("original", models.original)):
        yield from ((f"{model}.{name}", found.mean) for name, found in metrics.items() if found.values.size)
    for name, found in (models.reference or {}).items():
        if found.values.size:
            yield f"retraining.{name}", found.mean


def _tests(compared: list[_Compared]) -> Iterator[tuple[str, float]]:
    for item in compared:
        if item.needed is not None:
            yield f"{item.name}.needed_users", float(item.needed)
        if item.difference is not None and item.difference.bootstrap.low is not None:
            yield f"{item.name}.bootstrap_floor", item.difference.bootstrap_floor
        if item.test is not None:
            yield f"{item.name}.unseen_share", item.test.unseen_share


def _shown(found: Evidence) -> Iterator[tuple[str, float]]:
    """What is shown to anybody, of I items, by each of the three models."""
    for model in ("candidate", "original", "reference"):
        counts = finite(f"exposure by {model}", found.lists.get(model, ()), (None,))
        if counts.size > 1 and counts.min() >= 0 and counts.sum() > 0:
            yield f"{model}.coverage", coverage(counts)
            yield f"{model}.gini", gini(counts)
            if len(found.popularity) == counts.size and found.users:
                yield f"{model}.novelty", novelty(counts, found.popularity, found.users)


def _of_items(found: Evidence) -> Iterator[tuple[str, float]]:
    """The change of the headline metric where only rare, middling or popular items count, over users who hold some out."""
    for name, values in found.by_items.items():
        users = len(values["candidate"])
        mine, before = (_per_user(f"{name}, {model}", values[model], users) for model in ("candidate", "original"))
        change = differences(mine, before).values
        yield f"segment.{name}.users", float(change.size)
        if change.size >= _SMALL:
            yield f"segment.{name}.difference", float(change.mean())


def _segments(found: Evidence, models: _Models) -> Iterator[tuple[str, float]]:
    """The change of the headline metric by segment, and the gap between active and inactive users."""
    metric = _HEADLINE if _HEADLINE in models.candidate else _JUDGED[1]
    candidate, original = models.candidate[metric], models.original[metric]
    change = differences(candidate, original)
    masks = {
        name: booleans(f"segment {name}", mask, (change.users.size + change.left_out,))
        for name, mask in found.segments.items()
    }
    for name, mask in masks.items():
        mine = change.values[mask[change.users]]
        yield f"segment.{name}.users", float(mine.size)
        if mine.size >= _SMALL:
            yield f"segment.{name}.difference", float(mine.mean())
    if _LEAST in masks and _MOST in masks:
        if (masks[_LEAST] & masks[_MOST]).any():
            raise CheckBroken("a test user is both active and inactive")
        label = np.where(masks[_LEAST], 0, np.where(masks[_MOST], 2, 1))
        for name, values in (("candidate", candidate), ("original", original), ("change", change)):
            gap = activity_gap(values, label, 3)
            if min(gap.n_least, gap.n_most) >= _SMALL and gap.gap.estimate is not None:
                yield f"activity_gap.{name}", gap.gap.estimate


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
