"""All that one signal says about one block: the three-arm test, its two controls, further bounds and the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats
from expunge.stats.block import BlockScores
from expunge.stats.bounds import absolute_distance, midpoint_share, variance_ratio
from expunge.stats.intervals import Bounds, constant
from expunge.stats.power import Design, measured, minimum_detectable, needed_pairs, out_draw
from expunge.stats.ratio import LikelihoodRatio, typical_ratio
from expunge.stats.threearm import PairArms, Rule, ThreeArm, contrast_test, no_op, placebo, three_arm
from expunge.stats.verdict import Further, SignalVerdict, judge

ASSUMED_CORRELATION = 0.5
"""Between signals, for planning, where only one was run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning:
    """What a plan is held to: power, number of signals that must all pass, their correlation, and the seed.

    `further` are the conditions beside r that a pass needs: planned for, and judged in `Reading.full`; None = r alone.
    """

    power: float
    signals: int
    correlation: float
    seed: int
    further: Further | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherBounds:
    """The conditions of VERDICTS section 3 beside r: |X − O| in SD of O, share beyond the midpoint, var(X)/var(O).

    `absolute` is at the level at which a breach fails; `Reading.full` has it at the alpha that a pass may spend.
    """

    absolute: Bounds
    share: Bounds
    variance: Bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a spike did: mean of (spiked − X) in SD of O, and the one-sided p-value against "no rise" on n pairs."""

    dose: int
    rise: float | None
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One signal on n pairs. `result`, `further` and `full` (the whole verdict) are None when no X arm was run.

    `control` is the no-op (X = I), `sham` the placebo (X = O of other pairs, n // 2 pairs). `needed` is the number of
    pairs at the upper 95 % limit of the gap (None: beyond the search, or no positive gap is compatible with the data);
    `detectable` the smallest gap, in SD of O, that these n pairs decide. `correlations` are of O-I, X-O, X-I.
    `odds` is IN:OUT at the median X, capped by n. `responses` come dose by dose; empty = no spikes were run.
    """

    name: str
    result: ThreeArm | None
    further: FurtherBounds | None
    control: ThreeArm
    sham: ThreeArm
    needed: int | None
    detectable: float | None
    correlations: tuple[float | None, float | None, float | None]
    odds: LikelihoodRatio | None = None
    responses: tuple[Response, ...] = ()
    full: SignalVerdict | None = None

    @property
    def gap(self) -> Bounds:
        """I − O in SD of O, 95 %."""
        return self.control.gap


def read_signal(name: str, scores: BlockScores, rule: Rule, planning: Planning, doses: Sequence[int] = ()) -> Reading:
    """Runs the tests, the controls and the plan on one signal's block statistics; `doses` name `scores.spiked`."""
    real = None
    if scores.unlearned is not None:
        real = PairArms.of(scores.out, scores.into, scores.unlearned)
    bank = PairArms.of(scores.out, scores.into, scores.into)
    control = no_op(bank, rule)
    needed, detectable = _plan(scores, rule, planning, control.gap)
    return Reading(
        name=name,
        result=None if real is None else three_arm(real, rule),
        further=None if real is None else _further(real, rule),
        control=control,
        sham=placebo(bank, rule, planning.seed),
        needed=needed,
        detectable=detectable,
        correlations=_correlations(scores),
        odds=_odds(scores),
        responses=tuple(_response(scores, spiked, dose) for dose, spiked in zip(doses, scores.spiked, strict=True)),
        full=None if real is None else judge(real, rule, planning.further or Further()),
    )


def _odds(scores: BlockScores) -> LikelihoodRatio | None:
    """None without an X arm, or where an arm does not vary."""
    if scores.unlearned is None or constant(scores.into) or constant(scores.out):
        return None
    return typical_ratio(scores.unlearned, scores.into, scores.out)


def _response(scores: BlockScores, spiked: Floats, dose: int) -> Response:
    if scores.unlearned is None:
        raise CheckBroken("spikes came without an X arm")
    risen = spiked - scores.unlearned
    rise = None if constant(scores.out) else float(risen.mean() / scores.out.std(ddof=1))
    return Response(dose=dose, rise=rise, p=contrast_test(risen).above)


def _further(arms: PairArms, rule: Rule) -> FurtherBounds:
    return FurtherBounds(
        absolute=absolute_distance(arms, rule.fail_alpha),
        share=midpoint_share(arms),
        variance=variance_ratio(arms),
    )


def _plan(scores: BlockScores, rule: Rule, planning: Planning, gap: Bounds) -> tuple[int | None, float | None]:
    """Pairs needed at the upper limit of the gap, and the gap that these pairs decide."""
    if constant(scores.out) or gap.high is None:
        return None, None
    covariance = out_draw(scores.out, scores.into)
    if scores.unlearned is not None and not constant(scores.unlearned - scores.into):
        covariance = measured(scores.out, scores.into, scores.unlearned)
    design = Design(
        margin=rule.margin,
        alpha=rule.alpha,
        power=planning.power,
        signals=planning.signals,
        correlation=planning.correlation,
        covariance=covariance,
        fail_alpha=rule.fail_alpha,
        further=planning.further,
    )
    pairs = scores.out.size
    needed = needed_pairs(design, gap=gap.high, seed=planning.seed)
    return needed, minimum_detectable(design, pairs=pairs, seed=planning.seed)


def _correlations(scores: BlockScores) -> tuple[float | None, float | None, float | None]:
    x = scores.unlearned
    if x is None:
        return _correlation(scores.out, scores.into), None, None
    return _correlation(scores.out, scores.into), _correlation(x, scores.out), _correlation(x, scores.into)


def _correlation(left: Floats, right: Floats) -> float | None:
    if constant(left) or constant(right):
        return None
    return float(np.corrcoef(left, right)[0, 1])


def signal_correlation(readings: Sequence[BlockScores]) -> float:
    """Mean correlation of the contrast I − O between signals over the pairs; assumed when it cannot be measured."""
    varying = [s.into - s.out for s in readings if not constant(s.into - s.out)]
    if len(varying) < 2:
        return ASSUMED_CORRELATION
    table = np.asarray(np.corrcoef(np.stack(varying)))
    return float(table[np.triu_indices(len(varying), 1)].mean())
