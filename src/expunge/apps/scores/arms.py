"""A three-arm verdict on somebody's OUT, IN and unlearned scores."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.apps.scores.answer import CHECK, Answer, Row, interval_of
from expunge.connect.scores import ScoreArms
from expunge.core.errors import InputError
from expunge.core.finding import Finding, Verdict, worst
from expunge.core.policy import EMPIRICAL_SIGNALS, FLOORS, Limits
from expunge.stats.block import BlockScores
from expunge.stats.bounds import MIDPOINT_GAP, SHARE_LIMIT, VARIANCE_BAND
from expunge.stats.signal import Planning, Reading, read_signal, signal_correlation
from expunge.stats.spending import spent_alpha
from expunge.stats.threearm import Outcome, Rule

LEAST_PAIRS = 6
"""The placebo runs on half the pairs and needs three."""
QUESTION = "Is the unlearned arm equivalent to never having seen the block, on every signal?"
_SWAP_ALPHA = 0.025
_WORDS = {Outcome.RESIDUE: "residue", Outcome.OVER_UNLEARNED: "over-unlearned, which shows too"}


def judge_arms(arms: ScoreArms, *, source: str, seed: int, margin: float | None = None) -> Answer:
    """VERDICTS section 3 on given block statistics: PASS needs three signals, assay sensitivity, |r| < margin, the no-op
    caught, the placebo not flagged and |X − O| inside 1 SD of O, on every signal. Signals are given, so that nobody
    here knows whether they are different attacks or were fitted on the pairs they judge: the notes say so.
    """
    limits = Limits() if margin is None else Limits(margin=_margin(margin))
    names = sorted(arms.out)
    pairs = arms.out[names[0]].size
    if pairs < LEAST_PAIRS:
        return _answer(source, Verdict.INCONCLUSIVE, f"{pairs} pairs; at least {LEAST_PAIRS} are needed", pairs)
    readings = _read(arms, names, limits, seed)
    judged = [_judge(reading, limits) for reading in readings]
    verdict = worst(tuple(item[0] for item in judged))
    speaker = next(k for k, item in enumerate(judged) if item[0] is verdict)
    reason = f"{readings[speaker].name}: {judged[speaker][1]}"
    if verdict is Verdict.PASS:
        reason = "; ".join(f"{r.name}: {item[1]}" for r, item in zip(readings, judged, strict=True))
    if verdict is Verdict.PASS and len(names) < EMPIRICAL_SIGNALS:
        verdict = Verdict.INCONCLUSIVE
        reason = f"{len(names)} of {EMPIRICAL_SIGNALS} signals were given and passed: {reason}"
    return _answer(source, verdict, reason, pairs, readings, readings[speaker], limits)


def _margin(margin: float) -> float:
    low, high = FLOORS["margin"]
    if not low <= margin <= high:
        raise InputError("the margin is outside what may be asked", expected=f"{low} to {high}", got=str(margin))
    return margin


def _read(arms: ScoreArms, names: Sequence[str], limits: Limits, seed: int) -> list[Reading]:
    blocks = {
        name: BlockScores(
            out=arms.out[name],
            into=arms.into[name],
            unlearned=None if arms.unlearned is None else arms.unlearned[name],
        )
        for name in names
    }
    rule = Rule(margin=limits.margin, alpha=spent_alpha(limits.alpha, 1), fail_alpha=limits.alpha / len(names))
    correlation = signal_correlation(list(blocks.values()))
    wanted = max(len(names), EMPIRICAL_SIGNALS)
    planning = Planning(power=limits.power, signals=wanted, correlation=correlation, seed=seed)
    return [read_signal(name, block, rule, planning) for name, block in blocks.items()]


def _judge(reading: Reading, limits: Limits) -> tuple[Verdict, str]:
    if reading.control.assay.below <= _SWAP_ALPHA:
        p = reading.control.assay.below
        return Verdict.INCONCLUSIVE, f"IN scores significantly LOWER than OUT (p = {p:.3g}): the scores look negated"
    result, further = reading.result, reading.further
    if result is None or further is None:
        return _undecided(reading, limits, "no unlearned arm was given")
    delta = limits.absolute_margin
    if result.outcome in _WORDS:
        return Verdict.FAIL, f"{_WORDS[result.outcome]}: r = {_shown(result.residual.estimate)}"
    if further.absolute.outside(-delta, delta):
        return Verdict.FAIL, f"X − O is {_shown(further.absolute.estimate)} SD of O, beyond ±{delta:g}"
    if result.outcome is not Outcome.EQUIVALENT:
        return _undecided(reading, limits, "neither equivalence nor a residue was shown")
    objection = _objection(reading, delta)
    if objection:
        return Verdict.INCONCLUSIVE, objection
    return Verdict.PASS, f"on average over {result.n} retrainings r = {_shown(result.residual.estimate)}"


def _objection(reading: Reading, delta: float) -> str | None:
    """Why an equivalent signal does not pass all the same."""
    further = reading.further
    if reading.control.outcome is not Outcome.RESIDUE:
        return "the no-op control (X = I) was not caught, so equivalence shows nothing"
    if reading.sham.outcome in _WORDS:
        return "the placebo (X = O of other pairs) was flagged, so the test is not calibrated here"
    if further is None or not further.absolute.inside(-delta, delta):
        return f"|X − O| below {delta:g} SD of O was not shown"
    if further.variance.outside(*VARIANCE_BAND):
        return "X varies differently from O"
    wide = (reading.gap.estimate or 0.0) >= MIDPOINT_GAP
    if wide and further.share.low is not None and further.share.low > SHARE_LIMIT:
        return f"more than {100 * SHARE_LIMIT:g} % of runs lie beyond the midpoint of IN and OUT"
    return None


def _undecided(reading: Reading, limits: Limits, what: str) -> tuple[Verdict, str]:
    """UNVERIFIABLE when no bank that policy allows would do, else INCONCLUSIVE, with the number of models."""
    sees = "sees" if reading.control.outcome is not Outcome.BLIND else "does not see"
    models = None if reading.needed is None else 2 * reading.needed
    plan = "no bank of any size would do" if models is None else f"power {limits.power:g} takes {models} models"
    text = f"{what}; this score {sees} the block, gap {_shown(reading.gap.estimate)} SD of O; {plan}"
    possible = models is not None and models <= limits.max_bank
    return (Verdict.INCONCLUSIVE if possible else Verdict.UNVERIFIABLE), text


def _answer(
    source: str,
    verdict: Verdict,
    reason: str,
    pairs: int,
    readings: Sequence[Reading] = (),
    speaker: Reading | None = None,
    limits: Limits | None = None,
) -> Answer:
    residual = None if speaker is None or speaker.result is None else speaker.result.residual
    finding = Finding(
        check=CHECK,
        question=QUESTION,
        statistic="residual influence r = mean(X − O) / mean(I − O) over complement pairs",
        verdict=verdict,
        reason=reason,
        estimate=None if residual is None else residual.estimate,
        interval=None if residual is None else interval_of(residual),
        limit=(limits or Limits()).margin,
        original=None if speaker is None else speaker.control.residual.estimate,
        reference=None if speaker is None else speaker.sham.residual.estimate,
        n=pairs,
        mde=None if speaker is None else speaker.detectable,
    )
    notes = (
        "signals were given: whether they are different attacks, and were fitted on other pairs, is the giver's word",
        "a first look is assumed; the served file itself was not tested",
    )
    return Answer(source=source, finding=finding, rows=tuple(row for r in readings for row in _rows(r)), notes=notes)


def _rows(reading: Reading) -> tuple[Row, ...]:
    name, n = reading.name, reading.control.n
    rows = [
        Row.of(f"{name}: gap I − O, SD of O", reading.gap, n, f"assay p = {reading.control.assay.above:.3g}"),
        Row.of(f"{name}: r of the no-op", reading.control.residual, n, "must fail"),
        Row.of(f"{name}: r of the placebo", reading.sham.residual, reading.sham.n, "must not fail"),
    ]
    if reading.result is not None and reading.further is not None:
        p = f"equivalence p = {reading.result.equivalence_p:.3g}"
        rows.append(Row.of(f"{name}: r", reading.result.residual, n, p))
        rows.append(Row.of(f"{name}: X − O, SD of O", reading.further.absolute, n))
        rows.append(Row.of(f"{name}: runs beyond the midpoint", reading.further.share, n))
        rows.append(Row.of(f"{name}: var(X)/var(O)", reading.further.variance, n))
    return tuple(rows)


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
