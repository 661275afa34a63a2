"""Is the model still itself on everything else? Non-inferiority of accuracy, overall and per class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from expunge.core.codec import decimal
from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Interval, Verdict, worst
from expunge.core.protocols import CheckJob, Correctness
from expunge.stats.arrays import Bools, Floats, booleans, finite
from expunge.stats.intervals import Bounds, paired_bootstrap
from expunge.stats.rank import prediction_p_value
from expunge.stats.spending import spent_alpha

_STATISTIC = "holdout accuracy of the candidate minus that of the original, percentage points"
_POINTS = 100.0
_RESAMPLES = 20_000  # the failing tail of one class among ten is about 1 in 400, the passing one of attempt 4 1 in 600


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holdout:
    """Correctness (N,) of candidate and original, (M, N) of the references, class index (N,) and the class names."""

    labels: Floats
    candidate: Bools
    original: Bools
    references: Bools
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Margin:
    """`points` the candidate may lose; `alpha` per side for passing (spent by attempts), `fail_alpha` for failing."""

    points: float
    alpha: float
    fail_alpha: float
    power: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One comparison; `needed` is the number of holdout records that would resolve the margin at the wanted power."""

    name: str
    verdict: Verdict
    difference: Bounds | None
    margin: float
    needed: int | None
    n: int


class Utility:
    """Candidate against original on the same holdout records: FAIL when the interval lies wholly beyond the margin,
    PASS when wholly inside, INCONCLUSIVE when the test set cannot resolve it (and how many records would).

    Paired bootstrap over records, with one win and one loss added (Bonett and Price 2012): a class in which two
    models never disagree is not certainty at 36 records. Overall uses limits.accuracy_margin, each class
    limits.class_margin; passing needs all of them and spends alpha by attempts, failing is shared among them
    (Bonferroni) and the same at every attempt. References are honest models: their mean difference and spread are
    reported.
    """

    question: str = "Is the model still itself on everything else?"

    def run(self, job: CheckJob) -> Finding:
        """One Finding over overall and classes. Raises CheckBroken on malformed arrays."""
        if job.correctness is None:
            return self._finding_without("no holdout was scored")
        holdout = _holdout(job.correctness)
        if holdout.labels.size < 2:
            return self._finding_without("the holdout holds fewer than 2 records")
        judged = _all_judged(job, holdout)
        overall, spread = judged[0], _reference_differences(holdout)
        verdict = worst(tuple(item.verdict for item in judged))
        sd = _spread_sd(holdout)
        return Finding(
            check="utility",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=_reason(verdict, judged),
            estimate=None if overall.difference is None else overall.difference.estimate,
            interval=_interval(overall.difference),
            limit=float(job.limits.accuracy_margin),
            original=0.0,
            reference=float(spread.mean()) if spread.size else None,
            n=overall.n,
            mde=_resolvable(sd, overall.n, spent_alpha(job.limits.alpha, job.attempt), job.limits.power),
            conditions=(*map(_condition, judged), _among_references(holdout, spread)),
            details=_details(holdout, spread, judged),
        )

    def _finding_without(self, reason: str) -> Finding:
        return Finding(
            check="utility",
            question=self.question,
            statistic=_STATISTIC,
            verdict=Verdict.INCONCLUSIVE,
            reason=reason,
        )


def _holdout(job: Correctness) -> _Holdout:
    labels = finite("labels", job.labels, (None,))
    n = labels.size
    if n and not (np.equal(labels, np.rint(labels)).all() and labels.min() >= 0 and labels.max() < len(job.classes)):
        raise CheckBroken("labels do not index the classes", expected=f"integers 0 to {len(job.classes) - 1}")
    return _Holdout(
        labels=labels,
        candidate=booleans("candidate", job.candidate, (n,)),
        original=booleans("original", job.original, (n,)),
        references=booleans("references", job.references, (None, n)),
        classes=tuple(job.classes),
    )


def _all_judged(job: CheckJob, holdout: _Holdout) -> list[_Judged]:
    """Overall first, then one a class."""
    alpha = spent_alpha(job.limits.alpha, job.attempt)
    share = job.limits.alpha / (1 + len(holdout.classes))
    parts = [("overall", np.ones(holdout.labels.size, bool), job.limits.accuracy_margin)]
    for k, name in enumerate(holdout.classes):
        parts.append((f"class {name}", holdout.labels == k, job.limits.class_margin))
    return [
        _judge(
            name,
            holdout.candidate[rows].astype(np.float64) - holdout.original[rows],
            _Margin(points=float(m), alpha=alpha, fail_alpha=share, power=job.limits.power, seed=job.seed),
        )
        for name, rows, m in parts
    ]


def _judge(name: str, difference: Floats, margin: _Margin) -> _Judged:
    """Verdict on one mean of (N,) differences: 1 where only the candidate is right, −1 where only the original."""
    n = difference.size
    if n < 1:
        return _Judged(name=name, verdict=Verdict.INCONCLUSIVE, difference=None, margin=margin.points, needed=None, n=0)
    padded = np.concatenate([difference, [1.0, -1.0]]) * _POINTS
    shown = paired_bootstrap(
        padded, level=1 - 2 * margin.alpha, seed=margin.seed, method="percentile", resamples=_RESAMPLES
    )
    wide = paired_bootstrap(
        padded, level=1 - 2 * margin.fail_alpha, seed=margin.seed, method="percentile", resamples=_RESAMPLES
    )
    verdict = Verdict.INCONCLUSIVE
    if shown.low is not None and shown.low > -margin.points:
        verdict = Verdict.PASS
    elif wide.high is not None and wide.high < -margin.points:
        verdict = Verdict.FAIL
    needed = _records_needed(float(padded.std()), margin)
    measured = replace(shown, estimate=float(difference.mean()) * _POINTS)
    return _Judged(name=name, verdict=verdict, difference=measured, margin=margin.points, needed=needed, n=n)


def _records_needed(sd: float, margin: _Margin) -> int | None:
    """((z_α + z_power)·sd/margin)²: records that show "no loss" to be within the margin when nothing was lost."""
    if not margin.points > 0:
        return None
    z = float(special.ndtri(1 - margin.alpha) + special.ndtri(margin.power))
    return math.ceil((z * sd / margin.points) ** 2)


def _resolvable(sd: float, n: int, alpha: float, power: float) -> float:
    """Loss in points that n records tell from none with this power."""
    return float((special.ndtri(1 - alpha) + special.ndtri(power)) * sd / math.sqrt(n))


def _spread_sd(holdout: _Holdout) -> float:
    difference = holdout.candidate.astype(np.float64) - holdout.original
    return float(np.concatenate([difference, [1.0, -1.0]]).std()) * _POINTS


def _reference_differences(holdout: _Holdout) -> Floats:
    """Accuracy of each honest reference minus the original's, points, (M,)."""
    return np.asarray((holdout.references.mean(axis=1) - holdout.original.mean()) * _POINTS, dtype=np.float64)


def _among_references(holdout: _Holdout, spread: Floats) -> Condition:
    name, mine = (
        "within the spread of honest references",
        _POINTS * float(holdout.candidate.mean() - holdout.original.mean()),
    )
    p = prediction_p_value(mine, spread, "below")
    if p is None:
        note = f"reported; {spread.size} references, at least 2 that differ are needed"
        return Condition(name=name, verdict=Verdict.INCONCLUSIVE, estimate=mine, note=note)
    verdict = Verdict.PASS if p > 0.05 else Verdict.INCONCLUSIVE
    note = f"reported; one-sided t-prediction p = {p:.3g} among {spread.size} references"
    return Condition(name=name, verdict=verdict, estimate=mine, note=note)


def _condition(item: _Judged) -> Condition:
    return Condition(
        name=item.name,
        verdict=item.verdict,
        estimate=None if item.difference is None else item.difference.estimate,
        limit=item.margin,
        note=_note(item),
    )


def _note(item: _Judged) -> str:
    if item.difference is None or item.difference.low is None or item.difference.high is None:
        return "no holdout record of this class"
    text = f"[{item.difference.low:.2f}, {item.difference.high:.2f}] points on {item.n} records"
    if item.verdict is not Verdict.INCONCLUSIVE or item.needed is None:
        return text
    if item.needed > item.n:
        return f"{text}; about {item.needed} records would resolve {item.margin:g} points"
    return f"{text}; near the margin of {item.margin:g} points"


def _reason(verdict: Verdict, judged: list[_Judged]) -> str:
    named = [item for item in judged if item.verdict is verdict]
    if verdict is Verdict.PASS:
        return f"overall {_note(judged[0])}, and every class, lie inside their margins"
    what = "lost more than its margin" if verdict is Verdict.FAIL else "is not resolved"
    others = "" if len(named) == 1 else f" (and {len(named) - 1} more)"
    return f"{named[0].name} {what}: {_note(named[0])}{others}"


def _interval(bounds: Bounds | None) -> Interval | None:
    if bounds is None or bounds.low is None or bounds.high is None:
        return None
    return Interval(low=bounds.low, high=bounds.high, level=bounds.level, method=bounds.method)


def _details(holdout: _Holdout, spread: Floats, judged: list[_Judged]) -> Mapping[str, str]:
    numbers: dict[str, float] = {
        "accuracy_original": _POINTS * float(holdout.original.mean()),
        "accuracy_candidate": _POINTS * float(holdout.candidate.mean()),
        "references": spread.size,
    }
    if spread.size > 1:
        numbers["references_sd"] = float(spread.std(ddof=1))
    numbers |= {f"{item.name}.needed_records": item.needed for item in judged if item.needed is not None}
    return {key: decimal(float(f"{value:.6g}")) for key, value in numbers.items()}
