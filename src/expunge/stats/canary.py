"""The power at which planted canaries are found: what a bank of this size can see at a gap of d = 3 SD.

A check may call a block UNVERIFIABLE only where canaries at this gap are found with power .9 or more; otherwise bank or
attack are too weak to blame the block (VERDICTS section 3).
"""

from __future__ import annotations

import numpy as np

from expunge.core.errors import CheckBroken
from expunge.stats.block import BlockScores
from expunge.stats.intervals import constant
from expunge.stats.threearm import Outcome, PairArms, Rule, no_op

CANARY_GAP = 3.0
RESAMPLES = 200


def canary_power(scores: BlockScores, rule: Rule, *, seed: int, resamples: int = RESAMPLES) -> float:
    """Share of bootstrap resamples of the n pairs in which the no-op (X = I) of the canary block is caught.

    I is moved down by what the measured gap exceeds d = 3 SD of O, pair by pair alike, so that covariance and skew stay
    those of the bank; a smaller gap is taken as it is. A resample without spread catches nothing. In [0, 1].
    Raises CheckBroken on arms that are not finite or fewer than 3 pairs.
    """
    arms = PairArms.of(scores.out, scores.into, scores.into)
    if constant(arms.out):
        raise CheckBroken("canaries cannot be measured: the OUT models all say the same")
    excess = float((arms.into - arms.out).mean()) - CANARY_GAP * float(arms.out.std(ddof=1))
    moved = arms.into - max(excess, 0.0)
    draws = np.random.default_rng(seed).integers(0, arms.out.size, (resamples, arms.out.size))
    return float(np.mean([_caught(PairArms.of(arms.out[row], moved[row], moved[row]), rule) for row in draws]))


def _caught(arms: PairArms, rule: Rule) -> bool:
    if constant(arms.out) or constant(arms.into - arms.out):
        return False
    return no_op(arms, rule).outcome is Outcome.RESIDUE
