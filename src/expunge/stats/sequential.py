"""The three-arm test in chunks of complement pairs, with stopping that is legal at any chunk.

Each contrast is an e-process over chunks; crossing 1/alpha at any time has probability at most alpha under its null, so
training may stop as soon as the question is decided. The price against a fixed n is printed by `benchmarks/null_rates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.core.errors import CheckBroken
from expunge.stats.arrays import Floats
from expunge.stats.evalues import e_process
from expunge.stats.intervals import constant
from expunge.stats.threearm import Outcome, PairArms, Rule, contrasts, copied

LEAST_CHUNK = 4
_LARGEST_GAP = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialPlan:
    """Fixed before the first pair: pairs a chunk, the most chunks, and the gap (SD of O) that the bets start from."""

    chunk: int
    most: int
    gap: float

    def __post_init__(self) -> None:
        if self.chunk < LEAST_CHUNK or self.most < 1 or not 0 < self.gap < _LARGEST_GAP:
            raise CheckBroken(f"chunks of at least {LEAST_CHUNK} pairs and a positive gap expected", got=str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequential:
    """Where it stopped. Running e-values, (C,) each: assay I > O, residue and over-unlearning absent, and present."""

    outcome: Outcome
    chunks: int
    pairs: int
    assay: Floats
    below: Floats
    above: Floats
    residue: Floats
    over: Floats


def sequential_three_arm(arms: PairArms, rule: Rule, plan: SequentialPlan) -> Sequential:
    """Reads whole chunks in the order of the pairs and stops at the first decision.

    Pairs must come in the order they were planned in: choosing an order after seeing scores is choosing the result.
    EQUIVALENT needs assay, c⁻ < 0 and c⁺ > 0 each to have crossed 1/alpha once; RESIDUE and OVER_UNLEARNED need assay
    and the opposite contrast beyond 1/fail_alpha. Undecided at the end: BLIND when the assay never crossed, else OPEN.
    """
    count = min(arms.out.size // plan.chunk, plan.most)
    if not count:
        raise CheckBroken("not one whole chunk of pairs", expected=f"{plan.chunk} pairs", got=str(arms.out.size))
    minus, plus = contrasts(arms, rule.margin)
    spread = (1 + (1 - rule.margin) ** 2 + rule.margin**2) ** 0.5
    effect = rule.margin * plan.gap / spread
    paths = [
        e_process(_chunks(values, plan.chunk, count), bet)
        for values, bet in (
            (arms.into - arms.out, plan.gap / 2**0.5),
            (-minus, effect),
            (plus, effect),
            (minus, effect),
            (-plus, effect),
        )
    ]
    outcome, stop = _first_decision(paths, rule, count)
    read = slice(0, stop * plan.chunk)
    seen = PairArms(out=arms.out[read], into=arms.into[read], unlearned=arms.unlearned[read])
    if outcome is Outcome.EQUIVALENT and (constant(seen.out) or copied(seen) or copied(arms)):
        outcome = Outcome.OPEN  # as in `three_arm`: such arms may fail a method and cannot earn a pass
    assay, below, above, residue, over = (path[:stop] for path in paths)
    return Sequential(
        outcome=outcome,
        chunks=stop,
        pairs=stop * plan.chunk,
        assay=assay,
        below=below,
        above=above,
        residue=residue,
        over=over,
    )


def _chunks(values: Floats, size: int, count: int) -> list[Floats]:
    return [values[k * size : (k + 1) * size] for k in range(count)]


def _first_decision(paths: Sequence[Floats], rule: Rule, count: int) -> tuple[Outcome, int]:
    assay, below, above, residue, over = paths
    for stop in range(1, count + 1):
        top = [float(path[:stop].max()) for path in (assay, below, above, residue, over)]
        if top[0] * rule.fail_alpha >= 1 and top[3] * rule.fail_alpha >= 1:
            return Outcome.RESIDUE, stop
        if top[0] * rule.fail_alpha >= 1 and top[4] * rule.fail_alpha >= 1:
            return Outcome.OVER_UNLEARNED, stop
        if min(top[:3]) * rule.alpha >= 1:
            return Outcome.EQUIVALENT, stop
    return (Outcome.OPEN if float(assay.max()) * rule.alpha >= 1 else Outcome.BLIND), count
