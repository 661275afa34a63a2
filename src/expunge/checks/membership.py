"""Does the procedure leave the block's influence in models? The three-arm test on the bank (VERDICTS section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.core import registry
from expunge.core.codec import decimal
from expunge.core.errors import CheckBroken
from expunge.core.finding import Condition, Finding, Guarantee, Interval, Verdict
from expunge.core.policy import EMPIRICAL_SIGNALS
from expunge.core.protocols import CheckJob
from expunge.stats.block import arms_of, inputs_of, pair_scores, spiked_arms
from expunge.stats.bounds import SHARE_LIMIT, VARIANCE_BAND
from expunge.stats.intervals import Bounds
from expunge.stats.margins import margin_units
from expunge.stats.multiplicity import ELond
from expunge.stats.power import MAX_PAIRS
from expunge.stats.signal import Planning, Reading, read_signal, signal_correlation
from expunge.stats.spending import spent_alpha
from expunge.stats.threearm import Outcome, Rule
from expunge.stats.verdict import Further

_LEAST_PAIRS = 6  # the placebo control is run on half of them and needs three
_CANARY_POWER = 0.9
_STATISTIC = "residual influence r = mean(X - O) / mean(I - O) over complement pairs, of the signal that decides"
_ORDER = (Verdict.FAIL, Verdict.UNVERIFIABLE, Verdict.INCONCLUSIVE, Verdict.PASS)  # as core.finding.worst
_DEMONSTRATED = (Outcome.RESIDUE, Outcome.OVER_UNLEARNED)


class Membership:
    """Three-arm equivalence of unlearned and never-trained models, on every signal (intersection-union).

    FAIL is a demonstrated residue, over-unlearning or breach of the absolute bound, at alpha/S per signal and the same
    at every attempt. PASS needs, on every signal and at the alpha this attempt may spend: r inside the margin and X - O
    inside the absolute bound; the variance ratio inside its band; where the gap is 4 SD or more, the bound on the share
    of runs beyond the midpoint; the measured no-op control caught and the placebo not flagged; for EMPIRICAL also a
    response to the spikes, without which the method has blinded the attack (UNVERIFIABLE); and as many signals as the
    policy asks for. UNVERIFIABLE: the pairs needed at the upper 95 % limit of the gap exceed the policy's largest bank.
    Anything else is INCONCLUSIVE. Without an X arm it never passes, and the signal with the largest gap says whether
    the block can be seen at all.

    Where the workspace's planted d = 3 canaries were detected at a power below .9 the check may not blame the block, and
    says INCONCLUSIVE instead of UNVERIFIABLE.
    """

    question: str = "Does the procedure leave this block's influence in models, on average over retrainings?"

    def run(self, job: CheckJob) -> Finding:
        """One Finding over all signals of the job. Raises CheckBroken on malformed arms or a signal named twice."""
        if len(set(job.signals)) != len(job.signals):
            raise CheckBroken("a signal is named twice", got=", ".join(job.signals), hint="repeating is no evidence")
        if job.arms is None:
            if job.bank_refusal is not None:
                return self._undecided(f"the bank cannot judge this: {job.bank_refusal}")
            return self._undecided("no bank: there are no IN and OUT models to compare with")
        pairs = len(arms_of(job.arms)[0])
        if not job.signals:
            return self._undecided("no signal was named, so nothing was measured", pairs)
        if pairs < _LEAST_PAIRS:
            return self._undecided(f"the bank has {pairs} complement pairs; at least {_LEAST_PAIRS} are needed", pairs)
        readings, correlation = _read(job)
        if not readings:
            return self._undecided(f"no signal could be run: {_not_run(job, readings)}", pairs)
        return self._finding(job, readings, correlation)

    def _undecided(self, reason: str, pairs: int = 0) -> Finding:
        return Finding(
            check="membership",
            question=self.question,
            statistic=_STATISTIC,
            verdict=Verdict.INCONCLUSIVE,
            reason=reason,
            n=pairs,
        )

    def _finding(self, job: CheckJob, readings: Sequence[Reading], correlation: float) -> Finding:
        judged = [(reading, *self._judge(job, reading)) for reading in readings]
        speaker = min(judged, key=lambda item: _weakness(item[0], item[1]))
        verdict, reason = speaker[1], f"{speaker[0].name}: {speaker[2]}"
        wanted = _wanted_signals(job)
        if verdict is Verdict.PASS:
            reason = _passed(readings)
            if len(readings) < wanted:
                verdict = Verdict.INCONCLUSIVE
                missing = f" ({_not_run(job, readings)})" if len(readings) < len(job.signals) else ""
                reason = f"{len(readings)} of {wanted} signals were run and passed{missing}: {reason}"
        reading = speaker[0]
        r = None if reading.result is None else reading.result.residual
        return Finding(
            check="membership",
            question=self.question,
            statistic=_STATISTIC,
            verdict=verdict,
            reason=reason,
            estimate=None if r is None else r.estimate,
            interval=_interval(r),
            limit=float(job.limits.margin),
            original=reading.control.residual.estimate,
            reference=reading.sham.residual.estimate,
            n=reading.control.n,
            mde=reading.detectable,
            conditions=tuple(c for item in readings for c in _conditions(item, job)),
            details=_details(readings, correlation, job),
        )

    def _judge(self, job: CheckJob, reading: Reading) -> tuple[Verdict, str]:
        """Verdict and reason of one signal."""
        result = reading.result
        if result is not None and result.outcome in _DEMONSTRATED:
            return Verdict.FAIL, f"{result.outcome.value}: r = {_shown(result.residual)}, margin {job.limits.margin:g}"
        if reading.further is not None and _outside(reading.further.absolute, job):
            shown = _shown(reading.further.absolute)
            return Verdict.FAIL, f"X - O = {shown} SD of O, beyond ±{job.limits.absolute_margin:g}"
        if result is not None and result.outcome is Outcome.EQUIVALENT:
            objection = _objection(reading, job)
            if objection is not None:
                return Verdict.INCONCLUSIVE, objection
            if reading.responses and not _responds(reading, job):
                return Verdict.UNVERIFIABLE, _blinded(reading)
            return Verdict.PASS, f"r = {_shown(result.residual)}, margin {job.limits.margin:g}"
        return self._blind_or_open(job, reading)

    def _blind_or_open(self, job: CheckJob, reading: Reading) -> tuple[Verdict, str]:
        if reading.gap.high is None:
            return Verdict.INCONCLUSIVE, f"no gap can be measured: {reading.gap.reason}"
        sees = "sees" if reading.control.outcome is not Outcome.BLIND else "does not see"
        models = None if reading.needed is None else 2 * reading.needed
        shown = _bank_size(reading)
        plan = (
            f"at the upper 95 % limit of the gap, {reading.gap.high:.2f} SD, power {job.limits.power:g} takes {shown}"
        )
        what = f"the assay {sees} this block, gap {_shown(reading.gap)} SD of O on {reading.control.n} pairs; {plan}"
        if reading.result is None:
            what = f"no X arm was run: {what}; the candidate file itself is judged by other checks"
        if models is not None and models <= job.limits.max_bank:
            return Verdict.INCONCLUSIVE, what
        what += f"; the policy's largest bank is {job.limits.max_bank}"
        if job.canary_power is not None and job.canary_power < _CANARY_POWER:
            return Verdict.INCONCLUSIVE, f"{what}; planted canaries were found at power {job.canary_power:g} only"
        return Verdict.UNVERIFIABLE, what


def _bank_size(reading: Reading) -> str:
    if reading.needed is not None:
        return f"{2 * reading.needed} bank models ({reading.needed} pairs)"
    high = reading.gap.high
    return f"more than {2 * MAX_PAIRS} bank models" if high is not None and high > 0 else "no bank of any size"


def _read(job: CheckJob) -> tuple[list[Reading], float]:
    """One reading a signal that could be run, and the signals' mean correlation."""
    scores = {}
    for name in job.signals:
        attack = registry.load("attacks", name)()
        arms = inputs_of(job, name, attack)[0]
        if arms is not None:
            spikes = [spiked_arms(spike, name, attack) for spike in job.spikes]
            scores[name] = pair_scores(attack.score, arms, spikes)
    correlation = signal_correlation(list(scores.values()))
    spent, shared = spent_alpha(job.limits.alpha, job.attempt), job.limits.alpha / len(job.signals)
    rule = Rule(margin=job.limits.margin, alpha=spent, fail_alpha=shared)
    planning = Planning(
        power=job.limits.power,
        signals=_wanted_signals(job),
        correlation=correlation,
        seed=job.seed,
        further=Further(absolute=float(job.limits.absolute_margin)),
    )
    doses = [spike.dose for spike in job.spikes]
    return [read_signal(name, block, rule, planning, doses) for name, block in scores.items()], correlation


def _not_run(job: CheckJob, readings: Sequence[Reading]) -> str:
    """Every signal that was named and not run, with its reason."""
    run = {reading.name for reading in readings}
    return "; ".join(
        f"{name} was not run: {job.unable.get(f'attacks/{name}', 'it was not measured')}"
        for name in job.signals
        if name not in run
    )


def _wanted_signals(job: CheckJob) -> int:
    floor = EMPIRICAL_SIGNALS if job.guarantee is Guarantee.EMPIRICAL else 1
    return max(len(job.signals), int(job.limits.signals), floor)


def _objection(reading: Reading, job: CheckJob) -> str | None:
    """Why an equivalent signal may still not pass: a control misbehaved, or a further condition is not met."""
    if reading.control.outcome is not Outcome.RESIDUE:
        return "the no-op control (X = I) was not caught, so equivalence shows nothing"
    if reading.sham.outcome in _DEMONSTRATED:
        return "the placebo (X = O of other pairs) was flagged, so the test is not calibrated here"
    if job.guarantee is Guarantee.EMPIRICAL and not reading.responses:
        return "no spikes were run, so a method that blinds the attack would look the same"
    missed = [c.name for c in _further_conditions(reading, job) if c.verdict is not Verdict.PASS]
    return f"r is inside the margin, and not met: {', '.join(missed)}" if missed else None


def _responds(reading: Reading, job: CheckJob) -> bool:
    """Whether the largest dose was seen, at the policy's alpha."""
    return bool(max(reading.responses, key=lambda item: item.dose).p <= job.limits.alpha)


def _blinded(reading: Reading) -> str:
    top = max(reading.responses, key=lambda item: item.dose)
    return f"the block was put back {top.dose} times and the attack did not see it: the method has blinded the attack"


def _outside(bounds: Bounds, job: CheckJob) -> bool:
    return bounds.outside(-job.limits.absolute_margin, job.limits.absolute_margin)


def _weakness(reading: Reading, verdict: Verdict) -> tuple[int, float]:
    """Sort key of the signal that speaks. With an X arm the worst verdict, then the largest |r|: all must pass.

    Without one nothing can pass, and the question is only whether the block can be seen: the largest gap speaks.
    """
    if reading.result is None:
        return _ORDER[::-1].index(verdict), -(reading.gap.estimate or 0.0)
    return _ORDER.index(verdict), -abs(reading.result.residual.estimate or 0.0)


def _passed(readings: Sequence[Reading]) -> str:
    parts = ", ".join(f"{r.name} r = {_shown(r.result.residual)}" for r in readings if r.result is not None)
    return f"on {readings[0].control.n} retrainings, on average over retrainings: {parts}"


def _conditions(reading: Reading, job: CheckJob) -> list[Condition]:
    """What the verdict of this signal rests on: its controls, the further conditions and the spikes."""
    sees = reading.control.outcome is not Outcome.BLIND
    caught = reading.control.outcome is Outcome.RESIDUE
    flagged = reading.sham.outcome in _DEMONSTRATED
    rows = [
        Condition(
            name=f"{reading.name}: assay sensitivity",
            verdict=Verdict.PASS if sees else Verdict.INCONCLUSIVE,
            estimate=reading.gap.estimate,
            note=f"I - O in SD of O; one-sided p = {reading.control.assay.above:.3g}",
        ),
        Condition(
            name=f"{reading.name}: no-op control",
            verdict=Verdict.PASS if caught else Verdict.INCONCLUSIVE,
            estimate=reading.control.residual.estimate,
            limit=float(job.limits.margin),
            note="the identical test with X = I must fail",
        ),
        Condition(
            name=f"{reading.name}: placebo control",
            verdict=Verdict.FAIL if flagged else Verdict.PASS,
            estimate=reading.sham.residual.estimate,
            limit=float(job.limits.margin),
            note="the identical test with X = O of other pairs, on half the pairs, must not fail",
        ),
    ]
    return rows + _further_conditions(reading, job) + _spike_conditions(reading, job)


def _further_conditions(reading: Reading, job: CheckJob) -> list[Condition]:
    """Absolute bound, variance band, and where the gap may reach 4 SD the share of bad runs: all to be shown."""
    further, full = reading.further, reading.full
    if further is None or full is None:
        return []
    delta = float(job.limits.absolute_margin)
    rows = [
        ("absolute", "absolute distance X - O, SD of O", full.absolute, delta, _outside(further.absolute, job)),
        ("variance", "variance ratio X/O", full.variance, VARIANCE_BAND[1], full.variance.outside(*VARIANCE_BAND)),
    ]
    if full.per_run or "share" in full.missing:  # elsewhere the words are "on average over retrainings"
        many = full.share.low is not None and full.share.low > SHARE_LIMIT
        rows.append(("share", "share of runs beyond the midpoint", full.share, SHARE_LIMIT, many))
    return [
        _needed(f"{reading.name}: {words}", bounds, limit, name not in full.missing, violated)
        for name, words, bounds, limit, violated in rows
    ]


def _needed(name: str, bounds: Bounds, limit: float, met: bool, violated: bool) -> Condition:
    """A condition of a pass: it has to be met, not merely not violated."""
    verdict = Verdict.PASS if met else Verdict.FAIL if violated else Verdict.INCONCLUSIVE
    return Condition(
        name=name, verdict=verdict, estimate=bounds.estimate, limit=limit, note=bounds.reason or _shown(bounds)
    )


def _spike_conditions(reading: Reading, job: CheckJob) -> list[Condition]:
    return [
        Condition(
            name=f"{reading.name}: spike, dose {item.dose}",
            verdict=Verdict.PASS if item.p <= job.limits.alpha else Verdict.INCONCLUSIVE,
            estimate=item.rise,
            note=f"rise over X in SD of O when the block is shown {item.dose} more times; one-sided p = {item.p:.3g}",
        )
        for item in reading.responses
    ]


def _details(readings: Sequence[Reading], correlation: float, job: CheckJob) -> Mapping[str, str]:
    """Contrasts and p-values only, as decimal strings, and words; no score of any single model."""
    numbers: dict[str, float | None] = {
        "alpha_spent": spent_alpha(job.limits.alpha, job.attempt),
        "signals_correlation": correlation,
        "earlier_requests_on_this_bank": float(job.looks),
        "e_lond_level": ELond(alpha=job.limits.alpha, seen=job.looks, rejected=job.found).level,
    }
    for item in readings:
        numbers |= {f"{item.name}.{key}": value for key, value in _numbers(item).items()}
    shown = {key: decimal(float(f"{value:.6g}")) for key, value in numbers.items() if value is not None}
    words = {f"{item.name}.odds_IN_OUT": item.odds.words() for item in readings if item.odds is not None}
    return {**shown, **words, "absolute_margin": margin_units(float(job.limits.absolute_margin)).sentence()}


def _numbers(item: Reading) -> dict[str, float | None]:
    rows: dict[str, float | None] = {
        "gap": item.gap.estimate,
        "gap_low": item.gap.low,
        "gap_high": item.gap.high,
        "needed_pairs": item.needed,
        "needed_models": None if item.needed is None else 2 * item.needed,
        "detectable_gap": item.detectable,
        "p_assay": item.control.assay.above,
        "p_noop_residue": item.control.minus.above,
        "placebo_r": item.sham.residual.estimate,
        "correlation_OI": item.correlations[0],
        "correlation_XO": item.correlations[1],
        "correlation_XI": item.correlations[2],
    }
    if item.result is not None:
        r = item.result
        rows |= {"r": r.residual.estimate, "r_low": r.residual.low, "r_high": r.residual.high}
        rows |= {"p_residue_excluded": r.minus.below, "p_over_excluded": r.plus.above}
        rows |= {"p_residue_shown": r.minus.above, "p_over_shown": r.plus.below}
    return rows


def _interval(bounds: Bounds | None) -> Interval | None:
    if bounds is None or bounds.low is None or bounds.high is None:
        return None
    return Interval(low=bounds.low, high=bounds.high, level=bounds.level, method=bounds.method)


def _shown(bounds: Bounds) -> str:
    if bounds.estimate is None:
        return f"unknown ({bounds.reason})"
    limits = "unbounded" if bounds.low is None or bounds.high is None else f"{bounds.low:.3g}, {bounds.high:.3g}"
    return f"{bounds.estimate:.3g} [{limits}]"
