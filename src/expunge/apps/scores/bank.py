"""A verdict on signals of many models with their membership: LiRA, RMIA and per-record p-values, re-scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from expunge.apps.scores.answer import ALPHA, CHECK, NOT_ABSENCE, SWAPPED, Answer, Row, interval_of
from expunge.apps.scores.pooled import QUESTION
from expunge.connect.scores import ModelSignals
from expunge.core import registry
from expunge.core.errors import CheckBroken
from expunge.core.finding import Finding, Verdict
from expunge.core.protocols import Attack, AttackJob, Probe
from expunge.stats.arrays import Floats
from expunge.stats.bank_rates import (
    MIN_OUT,
    Gap,
    Rates,
    complement_pairs,
    logit_of,
    membership_gap,
    out_rates,
    over_models,
    pair_correlation,
)
from expunge.stats.roc import auc, tpr_at_fpr

ATTACKS = ("lira", "rmia")
NOMINAL = (0.05, 0.01)
TARGETS = 8
RECORDS = 20_000
"""Records the p-values are calibrated on, evenly spaced; attacks score all."""
_LEAST_IN = 2
_RATES = (0.01, 0.001)


def judge_bank(given: ModelSignals, *, source: str, attacks: Sequence[str] = ATTACKS) -> Answer:
    """FAIL when members' signals lie above nonmembers' over the models (one-sided t, 2.5 %); else INCONCLUSIVE.

    Records with fewer than 3 OUT or 2 IN models are set aside and counted; without any others, INCONCLUSIVE. Never
    PASS: a bank of trained models says what can be seen, not what was erased.
    """
    usable = ((~given.member).sum(axis=0) >= MIN_OUT) & (given.member.sum(axis=0) >= _LEAST_IN)
    aside = int((~usable).sum())
    notes = given.notes
    if aside:
        notes += (f"{aside} of {usable.size} records have fewer than {MIN_OUT} OUT or {_LEAST_IN} IN models",)
    if not usable.any():
        return _nothing(given, source, notes)
    kept = ModelSignals(
        log_p=given.log_p[:, usable],
        member=given.member[:, usable],
        population=given.population,
        meaning=given.meaning,
    )
    phi, pairs = logit_of(kept.log_p), complement_pairs(kept.member)
    try:
        gap = membership_gap(phi, kept.member)
    except CheckBroken as broken:
        return _nothing(given, source, (*notes, f"{broken.message}"))
    sample = np.unique(np.linspace(0, phi.shape[1] - 1, min(RECORDS, phi.shape[1])).astype(np.int64))
    rates = out_rates(phi[:, sample], kept.member[:, sample], NOMINAL)
    rows = [
        Row.of("gap IN − OUT, SD", gap.gap, gap.n, f"logit-scaled; one-sided p = {gap.above:.3g}"),
        *(row for rate in rates for row in _rate_rows(rate, kept)),
        _pairs_row(phi, kept, pairs),
        *(row for attack in attacks for row in _attack_rows(attack, kept, dict(pairs))),
    ]
    return Answer(source=source, finding=_finding(kept, gap), rows=tuple(rows), notes=notes)


def _finding(given: ModelSignals, gap: Gap) -> Finding:
    models, records = given.log_p.shape
    verdict, reason = Verdict.INCONCLUSIVE, f"no difference was shown over {models} models; {NOT_ABSENCE}"
    if gap.below <= ALPHA:
        reason = f"{SWAPPED} (t over models, p = {gap.below:.3g})"
    elif gap.above <= ALPHA:
        verdict = Verdict.FAIL
        reason = (
            f"membership is visible: {models} models give their members {gap.gap.estimate:.3g} SD more on average over "
            f"{records} records (p = {gap.above:.3g}); records said to be erased here are not, for this signal"
        )
    return Finding(
        check=CHECK,
        question=QUESTION,
        statistic=f"mean gap IN − OUT in SD of a record's models, {given.meaning}",
        verdict=verdict,
        reason=reason,
        estimate=gap.gap.estimate,
        interval=interval_of(gap.gap),
        limit=0.0,
        n=models,
    )


def _nothing(given: ModelSignals, source: str, notes: tuple[str, ...]) -> Answer:
    models, records = given.log_p.shape
    finding = Finding(
        check=CHECK,
        question=QUESTION,
        statistic=f"mean gap IN − OUT in SD, {given.meaning}",
        verdict=Verdict.INCONCLUSIVE,
        reason=f"too few models: {models} models, {records} records, none with {MIN_OUT} OUT and {_LEAST_IN} IN models "
        "or fewer than 3 models with both",
        n=models,
    )
    return Answer(source=source, finding=finding, rows=(), notes=notes)


def _rate_rows(rate: Rates, given: ModelSignals) -> Iterator[Row]:
    models, out = given.log_p.shape[0], int((~given.member).sum(axis=0).min())
    note = f"{out - 1} or more anchors"
    if rate.rule == "rank" and 1 / out > rate.alpha:
        note += f"; a rank cannot fall below 1/{out} here"
    nominal = f"{100 * rate.alpha:g} %"
    yield Row.of(f"{rate.rule}: false alarms at {nominal}", rate.false_alarms, models, note)
    if rate.rule == "rank and t":
        yield Row.of(f"{rate.rule}: members found at {nominal}", rate.detections, models)


def _pairs_row(phi: Floats, given: ModelSignals, pairs: tuple[tuple[int, int], ...]) -> Row:
    correlation = pair_correlation(phi, given.member, pairs)
    note = f"{len(pairs)} complement pairs among {len(phi)} models"
    if pairs:
        note += "; with an X arm (IN models, then unlearned) they give a three-arm verdict"
    return Row(what="correlation O-I in pairs", estimate=correlation, n=len(pairs), note=note)


def _attack_rows(attack: str, given: ModelSignals, pairs: dict[int, int]) -> tuple[Row, ...]:
    """AUC and TPR of the attack on up to 8 models in turn, each scored by all models but itself and its complement."""
    plugin, models = registry.load("attacks", attack)(), len(given.log_p)
    if isinstance(plugin, Probe):
        return (Row(what=f"{attack}: AUC", estimate=None, note="not run: this attack looks at models, not at arrays"),)
    partner = pairs | {second: first for first, second in pairs.items()}
    targets = np.unique(np.linspace(0, models - 1, min(TARGETS, models)).astype(np.int64))
    try:
        scored = [_scores(plugin, given, int(target), partner.get(int(target))) for target in targets]
    except CheckBroken as broken:
        return (Row(what=f"{attack}: AUC", estimate=None, note=f"not run: {broken.message}"),)
    both = [(row[mask], row[~mask]) for row, mask in zip(scored, given.member[targets], strict=True)]
    both = [sides for sides in both if sides[0].size and sides[1].size]
    note = f"{len(both)} target models, which share references"
    areas = [auc(high, low).estimate for high, low in both]
    rows = [Row.of(f"{attack}: AUC", over_models([area for area in areas if area is not None]), len(both), note)]
    for rate in _RATES:
        hits = [tpr_at_fpr(high, low, rate).estimate for high, low in both]
        found = over_models([hit for hit in hits if hit is not None])
        rows.append(Row.of(f"{attack}: TPR at {100 * rate:g} % FPR", found, len(both)))
    return tuple(rows)


def _scores(attack: Attack, given: ModelSignals, target: int, partner: int | None) -> Floats:
    """(N,) scores of one model."""
    others = np.array([model for model in range(len(given.log_p)) if model not in (target, partner)], dtype=np.int64)
    unseen = np.zeros((len(given.log_p), 0)) if given.population is None else given.population
    job = AttackJob(
        target=given.log_p[[target]],
        reference=given.log_p[others],
        member=given.member[others],
        target_population=unseen[[target]],
        reference_population=unseen[others],
    )
    values: Floats = np.asarray(attack.score(job).values, dtype=np.float64)
    return np.asarray(values[0], dtype=np.float64)
