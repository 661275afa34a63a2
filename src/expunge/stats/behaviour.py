"""The judgement that behavioural checks share: one number a model, three arms on pairs, and the served file's rank.

A check measures a record-wise quantity on every model and a `Trait` turns that into one number a model, a mean over
the block. On pairs it is tested like a membership signal (VERDICTS section 3): X must be equivalent to O, relative to
a control that the test must catch. The control is the IN model, or one that is planted from the measured arms where
being trained on the block is not what the trait is about (a filter, a suppressed block, damage). The served file is
ranked among full-size OUT anchors, which can only fail it. Only contrasts and p-values are published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expunge.core.codec import decimal
from expunge.core.finding import Condition, Finding, Guarantee, Interval, Verdict
from expunge.core.protocols import Array, CheckJob, Measured
from expunge.stats.arrays import Floats
from expunge.stats.block import BlockScores
from expunge.stats.bounds import MIDPOINT_GAP, SHARE_LIMIT, VARIANCE_BAND
from expunge.stats.intervals import Bounds
from expunge.stats.power import MAX_PAIRS
from expunge.stats.rank import MIN_ANCHORS, Ranked, detectable_shift, leave_one_out, ranked
from expunge.stats.signal import Planning, Reading, read_signal, signal_correlation
from expunge.stats.spending import spent_alpha
from expunge.stats.threearm import Outcome, Rule, ThreeArm
from expunge.stats.trait import Inquiry, Looked, Role, Trait

FAMILY = 7
"""Behavioural checks that may each raise the alarm on one honest model: they share the alpha of failing."""
LEAST_PAIRS = 6
"""The placebo control runs on half of them and needs three."""
CANARY_POWER = 0.9
"""Power on planted canaries below which a blind probe may not blame the block."""
_HIGH_SHARE = 0.8  # of the rank's budget, for the side of the control; the rest watches the other side
_SMALLEST = 1e-6
_STATISTIC = "r = mean(X - O) / mean(C - O) over complement pairs, of the trait that speaks; C is its control"
_ORDER = (Verdict.FAIL, Verdict.UNVERIFIABLE, Verdict.INCONCLUSIVE, Verdict.PASS)  # as core.finding.worst


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A file among OUT anchors, both sides; `p` spends the budget .8 on the side of the control and .2 on the other."""

    high: Ranked
    low: Ranked

    @classmethod
    def of(cls, value: float, anchors: Floats) -> _Place:
        return cls(high=ranked(value, anchors, "above"), low=ranked(value, anchors, "below"))

    @property
    def p(self) -> float:
        return min(1.0, self.high.p / _HIGH_SHARE, self.low.p / (1 - _HIGH_SHARE))

    @property
    def is_high(self) -> bool:
        return self.high.p / _HIGH_SHARE <= self.low.p / (1 - _HIGH_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What one trait says. `reading` is None with too few pairs, `place` without a served file and 19 anchors."""

    trait: Trait
    reading: Reading | None
    place: _Place | None
    original: _Place | None
    alarms: int
    verdict: Verdict
    reason: str


def judge(inquiry: Inquiry, job: CheckJob) -> Finding:
    """One Finding over all traits. Raises CheckBroken on malformed measurements.

    FAIL: on any trait that may fail, X is demonstrably on the control's side or beyond the other margin, or further
    than the absolute bound from O, or the served file lies beyond every OUT anchor; at alpha / (FAMILY · traits), at
    every attempt. PASS, as `membership`: every deciding trait is equivalent at the alpha this attempt may spend and
    meets the absolute bound, the variance band and the share of bad runs; its control is caught, its placebo is not,
    and for EMPIRICAL a trait whose control is IN responds to the spikes. Without an X arm never PASS. UNVERIFIABLE: the
    pairs needed at the upper 95 % limit of the gap exceed the policy's largest bank. Otherwise INCONCLUSIVE.
    """
    measured = job.measured.get(f"checks/{inquiry.check}")
    if measured is None:
        return _nothing(inquiry, f"nothing was measured: {_unable(inquiry, job)}")
    looked = Looked.of(measured, _spikes(inquiry, job, measured))
    if not looked.out and looked.candidate is None:
        return _nothing(inquiry, "no model was measured")
    scores = {trait.name: trait.scores(looked) for trait in inquiry.traits} if len(looked.out) >= LEAST_PAIRS else {}
    answers = [_answer(trait, looked, scores, inquiry, job) for trait in inquiry.traits]
    return _finding(inquiry, job, answers, len(looked.out), len(looked.anchors))


def _unable(inquiry: Inquiry, job: CheckJob) -> str:
    if job.bank_refusal is not None:
        return f"the bank cannot judge this: {job.bank_refusal}"
    return job.unable.get(f"checks/{inquiry.check}", "there are no IN and OUT models to compare with")


def _spikes(inquiry: Inquiry, job: CheckJob, measured: Measured) -> list[tuple[int, Sequence[Mapping[str, Array]]]]:
    """(dose, models) of the spikes that this probe was run on."""
    if measured.unlearned is None:
        return []
    found = [(spike.dose, spike.measured.get(f"checks/{inquiry.check}", ())) for spike in job.spikes]
    return [(dose, models) for dose, models in found if models]


def _nothing(inquiry: Inquiry, reason: str) -> Finding:
    return Finding(
        check=inquiry.check,
        question=inquiry.question,
        statistic=_STATISTIC,
        verdict=Verdict.INCONCLUSIVE,
        reason=reason,
    )


def fail_level(inquiry: Inquiry, job: CheckJob) -> float:
    """Alpha of failing one trait; attempts do not make it smaller, so a retry cannot hide a residue."""
    return float(job.limits.alpha) / (FAMILY * max(1, inquiry.alarms))


# ------------------------------------------------------------------------------------------------------------ one trait


def _answer(
    trait: Trait, looked: Looked, scores: Mapping[str, BlockScores], inquiry: Inquiry, job: CheckJob
) -> _Answer:
    level = fail_level(inquiry, job)
    reading = _read(trait, scores, looked.doses, inquiry, job) if scores else None
    place, original, alarms = None, None, 0
    if len(looked.anchors) >= MIN_ANCHORS and trait.ranks:
        anchors = trait.of(looked.anchors)
        place = None if looked.candidate is None else _Place.of(trait.value(looked.candidate), anchors)
        original = None if looked.original is None else _Place.of(trait.value(looked.original), anchors)
        sides = zip(leave_one_out(anchors, "above"), leave_one_out(anchors, "below"), strict=True)
        alarms = sum(_Place(high=high, low=low).p <= level for high, low in sides)
    verdict, reason = _verdict(trait, reading, place, level, job)
    if trait.role is Role.REPORTED:
        reason = _told(reading)
    return _Answer(
        trait=trait,
        reading=reading,
        place=place,
        original=original,
        alarms=alarms,
        verdict=verdict,
        reason=f"{trait.name}: {reason}",
    )


def _read(
    trait: Trait, scores: Mapping[str, BlockScores], doses: Sequence[int], inquiry: Inquiry, job: CheckJob
) -> Reading:
    deciding = [scores[t.name] for t in inquiry.traits if t.role is Role.DECIDES]
    rule = Rule(
        margin=job.limits.margin, alpha=spent_alpha(job.limits.alpha, job.attempt), fail_alpha=fail_level(inquiry, job)
    )
    planning = Planning(
        power=job.limits.power,
        signals=max(1, len(deciding)),
        correlation=signal_correlation(deciding),
        seed=job.seed,
    )
    block = scores[trait.name]
    return read_signal(trait.name, block, rule, planning, doses if block.spiked else ())


def _verdict(
    trait: Trait, reading: Reading | None, place: _Place | None, level: float, job: CheckJob
) -> tuple[Verdict, str]:
    if place is not None and place.p <= level:
        words = trait.more if place.is_high else trait.less
        return Verdict.FAIL, f"{words}: the served file lies beyond every OUT anchor, p = {_rounded(place.p):.2g}"
    if reading is None:
        return Verdict.INCONCLUSIVE, f"at least {LEAST_PAIRS} complement pairs are needed"
    if reading.result is not None:
        shown = _demonstrated(trait, reading, job)
        if shown is not None:
            return Verdict.FAIL, shown
        if _equivalent(trait, reading.result, spent_alpha(job.limits.alpha, job.attempt)):
            objection = _objection(trait, reading, job)
            if objection is not None:
                return Verdict.INCONCLUSIVE, objection
            if reading.responses and not _responds(reading, job):
                return Verdict.UNVERIFIABLE, "the block was put back and was not seen: the method has blinded the probe"
            return Verdict.PASS, f"r = {_shown(reading.result.residual)}, margin {job.limits.margin:g}"
    return _blind_or_open(reading, job)


def _demonstrated(trait: Trait, reading: Reading, job: CheckJob) -> str | None:
    """What X was shown to be, beyond the margin on r or beyond the absolute bound; None when nothing was."""
    if reading.result is None or reading.further is None:
        return None
    shown = f"r = {_shown(reading.result.residual)}, margin {job.limits.margin:g}"
    if reading.result.outcome is Outcome.RESIDUE:
        return f"{trait.more}: {shown}"
    if reading.result.outcome is Outcome.OVER_UNLEARNED and not trait.harmless_below:
        return f"{trait.less}: {shown}"
    side = _breach(trait, reading, job)
    shown = f"X - O = {_shown(reading.further.absolute)} SD of O, beyond ±{job.limits.absolute_margin:g}"
    return None if side == 0 else f"{trait.more if side > 0 else trait.less}: {shown}"


def _equivalent(trait: Trait, result: ThreeArm, alpha: float) -> bool:
    """Equivalence, or where only the control's side matters non-inferiority: the assay and the one contrast."""
    if not trait.harmless_below:
        return result.outcome is Outcome.EQUIVALENT
    return result.gap.known and result.assay.above <= alpha and result.minus.below <= alpha


def _told(reading: Reading | None) -> str:
    if reading is None or reading.result is None:
        return "no X arm was measured"
    return f"r = {_shown(reading.result.residual)}"


def _blind_or_open(reading: Reading, job: CheckJob) -> tuple[Verdict, str]:
    """The needed-pairs rule: more models than any bank may hold is UNVERIFIABLE, fewer is INCONCLUSIVE."""
    gap = reading.gap
    if gap.high is None:
        return Verdict.INCONCLUSIVE, f"no gap can be measured: {gap.reason}"
    sees = "sees" if reading.control.outcome is not Outcome.BLIND else "does not see"
    what = f"the assay {sees} its control, gap {_shown(gap)} SD of O on {reading.control.n} pairs"
    if reading.result is None:
        what = f"no X arm was run, so nothing can pass: {what}"
    models = None if reading.needed is None else 2 * reading.needed
    takes = f"{models}" if models is not None else f"more than {2 * MAX_PAIRS}" if gap.high > 0 else "no number of"
    what += f"; at the upper 95 % limit of the gap power {job.limits.power:g} takes {takes} bank models"
    if models is not None and models <= job.limits.max_bank:
        return Verdict.INCONCLUSIVE, what
    what += f"; the policy's largest bank is {job.limits.max_bank}"
    if job.canary_power is not None and job.canary_power < CANARY_POWER:
        return Verdict.INCONCLUSIVE, f"{what}; planted canaries were found at power {job.canary_power:g} only"
    return Verdict.UNVERIFIABLE, what


def _objection(trait: Trait, reading: Reading, job: CheckJob) -> str | None:
    """Why an equivalent trait may still not pass: a control misbehaved, or a further condition is not met."""
    if reading.control.outcome is not Outcome.RESIDUE:
        return "the control was not caught, so equivalence shows nothing"
    if _flagged(trait, reading):
        return "the placebo (X = O of other pairs) was flagged, so the test is not calibrated here"
    if job.guarantee is Guarantee.EMPIRICAL and trait.rises_with_the_block and not reading.responses:
        return "no spikes were run, so a method that blinds the probe would look the same"
    missed = [name for name, verdict, _, _ in _further(trait, reading, job) if verdict is not Verdict.PASS]
    return f"r is inside the margin, and not met: {', '.join(missed)}" if missed else None


def _responds(reading: Reading, job: CheckJob) -> bool:
    """Whether the largest dose was seen, at the policy's alpha."""
    return bool(max(reading.responses, key=lambda item: item.dose).p <= job.limits.alpha)


def _flagged(trait: Trait, reading: Reading) -> bool:
    """Whether the placebo would have failed."""
    outcome = reading.sham.outcome
    return outcome is Outcome.RESIDUE or (outcome is Outcome.OVER_UNLEARNED and not trait.harmless_below)


def _further(trait: Trait, reading: Reading, job: CheckJob) -> list[tuple[str, Verdict, Bounds, float]]:
    """Conditions of a pass beside r: absolute distance, variance, and where the gap allows it the share of bad runs."""
    full, delta, (low, high) = reading.full, float(job.limits.absolute_margin), VARIANCE_BAND
    if full is None:
        return []
    near, spread, share = full.absolute, full.variance, full.share
    met = near.high is not None and near.high < delta if trait.harmless_below else near.inside(-delta, delta)
    rows = [("absolute distance X - O, SD of O", _either(met, _breach(trait, reading, job) != 0), near, delta)]
    if not trait.harmless_below:  # non-inferiority does not ask X to vary as its comparator does
        varies = _either(spread.inside(low, high), spread.outside(low, high))
        rows.append(("variance ratio X/O", varies, spread, high))
    if (reading.gap.estimate or 0.0) >= MIDPOINT_GAP:  # else honest runs cross the midpoint: on average only
        few = share.high is not None and share.high <= SHARE_LIMIT
        many = share.low is not None and share.low > SHARE_LIMIT
        rows.append(("share of runs beyond the midpoint", _either(few, many), share, SHARE_LIMIT))
    return rows


def _breach(trait: Trait, reading: Reading, job: CheckJob) -> int:
    """1 or -1 where X is demonstrably further than the absolute bound above or below O, else 0."""
    if reading.further is None:
        return 0
    absolute, delta = reading.further.absolute, float(job.limits.absolute_margin)
    if absolute.low is not None and absolute.low > delta:
        return 1
    below = absolute.high is not None and absolute.high < -delta
    return -1 if below and not trait.harmless_below else 0


def _either(met: bool, violated: bool) -> Verdict:
    return Verdict.PASS if met else Verdict.FAIL if violated else Verdict.INCONCLUSIVE


# ---------------------------------------------------------------------------------------------------------- one finding


def _finding(inquiry: Inquiry, job: CheckJob, answers: Sequence[_Answer], pairs: int, anchors: int) -> Finding:
    speaker = _speaker(answers)
    reading = speaker.reading
    residual = None if reading is None or reading.result is None else reading.result.residual
    verdict, reason = speaker.verdict, speaker.reason
    if verdict is Verdict.PASS:
        passed = [answer.reason for answer in answers if answer.trait.role is Role.DECIDES]
        reason = f"on {pairs} retrainings, on average over retrainings: {'; '.join(passed)}"
    level = fail_level(inquiry, job)
    mde = None if reading is None else reading.detectable
    if reading is None and anchors >= MIN_ANCHORS:
        mde = detectable_shift(anchors, alpha=_HIGH_SHARE * level, power=job.limits.power, seed=job.seed)
    return Finding(
        check=inquiry.check,
        question=inquiry.question,
        statistic=_STATISTIC,
        verdict=verdict,
        reason=reason,
        estimate=None if residual is None else residual.estimate,
        interval=_interval(residual),
        limit=float(job.limits.margin),
        original=None if reading is None else reading.control.residual.estimate,
        reference=None if reading is None else reading.sham.residual.estimate,
        n=pairs or anchors,
        mde=mde,
        conditions=tuple(row for answer in answers for row in _conditions(answer, level, anchors, job)),
        details=_details(answers, level, job),
    )


def _speaker(answers: Sequence[_Answer]) -> _Answer:
    """A trait that failed; else the deciding one that is furthest from a pass (without an X arm: the one that sees)."""
    failed = [a for a in answers if a.verdict is Verdict.FAIL and a.trait.role is not Role.REPORTED]
    if failed:
        return failed[0]

    def weakness(answer: _Answer) -> tuple[int, float]:
        reading = answer.reading
        if reading is None or reading.result is None:
            gap = None if reading is None else reading.gap.estimate
            return _ORDER[::-1].index(answer.verdict), -(gap or 0.0)
        return _ORDER.index(answer.verdict), -abs(reading.result.residual.estimate or 0.0)

    return min((a for a in answers if a.trait.role is Role.DECIDES), key=weakness)


def _conditions(answer: _Answer, level: float, anchors: int, job: CheckJob) -> list[Condition]:
    name, role = answer.trait.name, answer.trait.role
    verdict = Verdict.INCONCLUSIVE if role is Role.REPORTED else answer.verdict
    rows = [Condition(name=name, verdict=verdict, note=f"{role.value}; {answer.reason}")]
    if answer.reading is not None:
        rows += _controls(answer.trait, answer.reading, job)
    if answer.trait.ranks:
        rows += _ranks(answer, level, anchors)
    return rows


def _controls(trait: Trait, reading: Reading, job: CheckJob) -> list[Condition]:
    name, margin = trait.name, float(job.limits.margin)
    sees, flagged = reading.control.outcome is not Outcome.BLIND, _flagged(trait, reading)
    caught = reading.control.outcome is Outcome.RESIDUE
    rows = [
        Condition(
            name=f"{name}: assay sensitivity",
            verdict=_either(sees, False),
            estimate=reading.gap.estimate,
            note=f"C - O in SD of O; one-sided p = {reading.control.assay.above:.3g}",
        ),
        Condition(
            name=f"{name}: the control is caught",
            verdict=_either(caught, False),
            estimate=reading.control.residual.estimate,
            limit=margin,
            note="the identical test with X = C must fail",
        ),
        Condition(
            name=f"{name}: placebo control",
            verdict=_either(not flagged, flagged),
            estimate=reading.sham.residual.estimate,
            limit=margin,
            note="the identical test with X = O of other pairs, on half the pairs, must not fail",
        ),
    ]
    rows += [
        Condition(name=f"{name}: {what}", verdict=v, estimate=b.estimate, limit=limit, note=b.reason or _shown(b))
        for what, v, b, limit in _further(trait, reading, job)
    ]
    rows += [
        Condition(
            name=f"{name}: spike, dose {item.dose}",
            verdict=_either(item.p <= job.limits.alpha, False),
            estimate=item.rise,
            note=f"rise over X in SD of O when the block is shown {item.dose} more times; one-sided p = {item.p:.3g}",
        )
        for item in reading.responses
    ]
    return rows


def _ranks(answer: _Answer, level: float, anchors: int) -> list[Condition]:
    name = answer.trait.name
    if answer.place is None:
        note = f"not ranked: {anchors} full-size OUT anchors, {MIN_ANCHORS} needed, and a served file"
        return [Condition(name=f"{name}: the file among OUT anchors", verdict=Verdict.INCONCLUSIVE, note=note)]
    failed = answer.place.p <= level
    note = f"can only fail; the same test alarms on {answer.alarms} of {anchors} OUT anchors, each left out in turn"
    rows = [
        Condition(
            name=f"{name}: the file among OUT anchors",
            verdict=Verdict.FAIL if failed else Verdict.INCONCLUSIVE,
            estimate=_rounded(answer.place.p),
            limit=level,
            note=note,
        )
    ]
    if answer.original is not None:
        rows.append(
            Condition(
                name=f"{name}: the original among OUT anchors",
                verdict=_either(answer.original.p <= level, False),
                estimate=_rounded(answer.original.p),
                limit=level,
                note="control: the same test on the file before deletion",
            )
        )
    return rows


def _details(answers: Sequence[_Answer], level: float, job: CheckJob) -> Mapping[str, str]:
    """Contrasts and p-values only, as decimal strings; no score of any single model."""
    numbers: dict[str, float | None] = {
        "alpha_fail": level,
        "alpha_spent": spent_alpha(job.limits.alpha, job.attempt),
    }
    for answer in answers:
        numbers |= {f"{answer.trait.name}.{key}": value for key, value in _numbers(answer).items()}
    return {key: decimal(float(f"{value:.6g}")) for key, value in numbers.items() if value is not None}


def _numbers(answer: _Answer) -> dict[str, float | None]:
    rows: dict[str, float | None] = {
        "served_p": None if answer.place is None else _rounded(answer.place.p),
        "original_p": None if answer.original is None else _rounded(answer.original.p),
    }
    item = answer.reading
    if item is None:
        return rows
    rows |= {
        "gap": item.gap.estimate,
        "gap_low": item.gap.low,
        "gap_high": item.gap.high,
        "needed_pairs": item.needed,
        "detectable_gap": item.detectable,
        "p_assay": item.control.assay.above,
        "placebo_r": item.sham.residual.estimate,
        "correlation_OC": item.correlations[0],
    }
    if item.result is not None and item.further is not None:
        r = item.result
        rows |= {"r": r.residual.estimate, "r_low": r.residual.low, "r_high": r.residual.high}
        rows |= {"p_residue_excluded": r.minus.below, "p_over_excluded": r.plus.above}
        rows |= {"p_residue_shown": r.minus.above, "p_over_shown": r.plus.below}
        rows |= {"distance": item.further.absolute.estimate}
    return rows


def _rounded(p: float) -> float:
    """Three significant digits and nothing below 1e-6: finer would place one file's number."""
    return float(f"{max(p, _SMALLEST):.3g}")


def _interval(bounds: Bounds | None) -> Interval | None:
    if bounds is None or bounds.low is None or bounds.high is None:
        return None
    return Interval(low=bounds.low, high=bounds.high, level=bounds.level, method=bounds.method)


def _shown(bounds: Bounds) -> str:
    if bounds.estimate is None:
        return f"unknown ({bounds.reason})"
    limits = "unbounded" if bounds.low is None or bounds.high is None else f"{bounds.low:.3g}, {bounds.high:.3g}"
    return f"{bounds.estimate:.3g} [{limits}]"
