"""Honest models that no check may refuse: leave-one-out over the bank's own, and what planted canaries show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import Arms, CheckJob, Deployed
from expunge.core.selftest import Alarms, Dose
from expunge.farm.bank import Bank
from expunge.farm.probing import output_attacks
from expunge.stats.block import pair_scores
from expunge.stats.canary import canary_power
from expunge.stats.intervals import share_at_least, share_at_most
from expunge.stats.rank import MIN_ANCHORS
from expunge.stats.threearm import Rule
from expunge.workflow.selftest.rehearsal import Rehearsal

LEAST_PAIRS = 12  # membership asks for six, and a placebo lends the other half its OUT models
_SPIKE = ": spike, dose "


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One honest model, or arm, before one check: its verdict, and which models it was made of."""

    verdict: Verdict
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Peers:
    """Models of one kind by row: numbers of those OUT of and IN a block, scores on the block and on unseen records."""

    out: list[int]
    into: list[int]
    train: NDArray[np.float32]
    test: NDArray[np.float32]
    name: str


def alarms(check: str, source: str, signals: Sequence[str], judged: Sequence[Judged], skipped: str = "") -> Alarms:
    """Count FAIL verdicts on honest models."""
    count, hits = len(judged), sum(item.verdict is Verdict.FAIL for item in judged)
    return Alarms(
        check=check,
        source=source,
        signals=tuple(signals),
        trials=count,
        models=len({model for item in judged for model in item.models}),
        alarms=hits,
        lower=share_at_least(hits, count) if count else None,
        upper=share_at_most(hits, count) if count else None,
        skipped="" if count else skipped,
    )


def deployed_alarms(workspace: Rehearsal, bank: Bank | None, blocks: Iterable[Sequence[int]]) -> tuple[Alarms, ...]:
    """Each OUT model of each block, left out in turn and judged as if it were the served file: among the full-size
    anchors, and, where the bank is large enough, among its own half-size models."""
    signals, found = output_attacks(workspace.policy.attacks), []
    for source, peers in (("anchors", _anchors), ("half-size bank models", _members)):
        groups = [peers(bank, slots) for slots in blocks] if bank is not None else []
        judged = [item for group in groups for item in _left_out(workspace, signals, group)]
        named = f"leave-one-out over OUT {source} of planted blocks"
        found.append(alarms("deployed", named, signals, judged, f"too few {source}: {MIN_ANCHORS + 1} OUT are needed"))
    return tuple(found)


def _anchors(bank: Bank, slots: Sequence[int]) -> _Peers:
    sketches, block = bank.sketches("anchors"), list(slots)
    if not bank.spec.anchors:
        return _Peers(out=[], into=[], train=sketches.train, test=sketches.test, name="anchor")
    saw = sketches.inside[:, block[0]]
    return _Peers(
        out=np.flatnonzero(~saw).tolist(),
        into=np.flatnonzero(saw).tolist(),
        train=sketches.train[:, block],
        test=sketches.test,
        name="anchor",
    )


def _members(bank: Bank, slots: Sequence[int]) -> _Peers:
    sketches, sides = bank.sketches(), bank.sides(slots)
    out, into = [side[0] for side in sides], [side[1] for side in sides]
    return _Peers(out=out, into=into, train=sketches.train[:, list(slots)], test=sketches.test, name="bank")


def _left_out(workspace: Rehearsal, signals: tuple[str, ...], peers: _Peers) -> list[Judged]:
    if len(peers.out) <= MIN_ANCHORS or len(peers.into) < 3:
        return []
    check, judged = registry.load("checks", "deployed")(), []
    original, members = peers.into[:1], peers.into[1:]
    for number in peers.out:
        others = [other for other in peers.out if other != number]
        deployed = Deployed(
            candidate=peers.train[[number]],
            original=peers.train[original],
            out_anchors=peers.train[others],
            in_anchors=peers.train[members],
            candidate_population=peers.test[[number]],
            original_population=peers.test[original],
            out_population=peers.test[others],
            in_population=peers.test[members],
        )
        verdict = check.run(_job(workspace.policy.limits, signals, deployed=deployed)).verdict
        judged.append(Judged(verdict=verdict, models=(f"{peers.name} {number}",)))
    return judged


def membership_alarms(workspace: Rehearsal, bank: Bank | None, blocks: Sequence[Sequence[int]], seed: int) -> Alarms:
    """Per block, half of the pairs judged with the other half's OUT models in the place of X."""
    source, signals = (
        "OUT models of one half of the pairs as X of the other half, a block a trial",
        output_attacks(workspace.policy.attacks),
    )
    if bank is None or bank.spec.pairs < LEAST_PAIRS:
        return alarms("membership", source, signals, [], f"a bank of {LEAST_PAIRS} pairs is needed")
    check, generator = registry.load("checks", "membership")(), np.random.default_rng(seed)
    judged = []
    for slots in blocks:
        arms, sides = bank.arms(slots), bank.sides(slots)
        order = generator.permutation(len(sides))
        half = len(order) // 2
        mine, lent = order[:half], order[half : 2 * half]
        verdict = check.run(_job(workspace.policy.limits, signals, arms=_lent(arms, mine, lent))).verdict
        judged.append(Judged(verdict=verdict, models=tuple(f"bank {sides[k][0]}" for k in lent)))
    return alarms("membership", source, signals, judged)


def _lent(arms: Arms, mine: NDArray[np.int64], lent: NDArray[np.int64]) -> Arms:
    return Arms(
        out=arms.out[mine],
        into=arms.into[mine],
        unlearned=arms.out[lent],
        out_population=arms.out_population[mine],
        into_population=arms.into_population[mine],
        unlearned_population=arms.out_population[lent],
    )


def _job(limits: Limits, signals: tuple[str, ...], **looked_at: Arms | Deployed) -> CheckJob:
    job = CheckJob(limits=limits, guarantee=Guarantee.EXACT, seed=0, signals=signals)
    return replace(job, **looked_at)  # type: ignore[arg-type]


def power_of_canaries(workspace: Rehearsal, bank: Bank | None, slots: Sequence[int] | None) -> tuple[float | None, str]:
    """Power at d = 3 SD of the weakest signal on a planted block, and the reason where there is none."""
    if bank is None or slots is None:
        return None, "no bank" if bank is None else "no planted block that the bank can judge"
    limits, signals = workspace.policy.limits, output_attacks(workspace.policy.attacks)
    rule = Rule(
        margin=limits.margin, alpha=limits.alpha, fail_alpha=limits.alpha / max(len(workspace.policy.attacks), 1)
    )
    arms = bank.arms(slots)
    powers = [canary_power(pair_scores(registry.load("attacks", name)().score, arms), rule, seed=0) for name in signals]
    return (min(powers), "") if powers else (None, "no signal that needs outputs alone")


def doses(findings: Sequence[Finding]) -> tuple[Dose, ...]:
    """What the membership check says of the spikes: honest unlearned models that were shown the block again."""
    rows = [row for item in findings if item.check == "membership" for row in item.conditions if _SPIKE in row.name]
    found = []
    for row in rows:
        signal, _, dose = row.name.partition(_SPIKE)
        found.append(Dose(signal=signal, dose=int(dose), rise=row.estimate, seen=row.verdict is Verdict.PASS))
    return tuple(found)
