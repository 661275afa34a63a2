"""The power at which planted canaries are found, against a slow twin and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from expunge.core.errors import CheckBroken
from expunge.stats.block import BlockScores
from expunge.stats.canary import CANARY_GAP, canary_power
from expunge.stats.threearm import Rule

RULE = Rule(margin=0.2, alpha=0.025, fail_alpha=0.025)


def scores(pairs: int, gap: float, seed: int = 0) -> BlockScores:
    rng = np.random.default_rng(seed)
    return BlockScores(out=rng.normal(size=pairs), into=rng.normal(gap, 1, pairs), unlearned=None)


def slow(arms: BlockScores, seed: int, resamples: int) -> float:
    """Resample by resample with scipy's own t-test of (1 - t)(I - O), which is what the no-op's contrast is."""
    excess = (arms.into - arms.out).mean() - CANARY_GAP * arms.out.std(ddof=1)
    moved = arms.into - max(excess, 0.0)
    rows = np.random.default_rng(seed).integers(0, len(arms.out), (resamples, len(arms.out)))
    hits = 0
    for row in rows:
        gap = moved[row] - arms.out[row]
        assay = stats.ttest_1samp(gap, 0, alternative="greater").pvalue
        residue = stats.ttest_1samp((1 - RULE.margin) * gap, 0, alternative="greater").pvalue
        hits += assay <= RULE.alpha and residue <= RULE.fail_alpha
    return hits / resamples


@pytest.mark.parametrize(("pairs", "gap"), [(6, 1.0), (8, 3.0), (16, 0.8), (16, 9.0)])
def test_equals_the_slow_twin(pairs: int, gap: float) -> None:
    arms = scores(pairs, gap)
    assert canary_power(arms, RULE, seed=3, resamples=60) == pytest.approx(slow(arms, 3, 60), abs=0.02)


def test_a_large_bank_sees_three_sd_and_a_tiny_one_does_not_always() -> None:
    assert canary_power(scores(24, 3.0), RULE, seed=0) > 0.95
    assert canary_power(scores(3, 3.0), RULE, seed=0) < canary_power(scores(24, 3.0), RULE, seed=0)


def test_canaries_farther_out_than_three_sd_are_moved_in() -> None:
    rng = np.random.default_rng(1)
    out, noise = rng.normal(size=4), rng.normal(scale=3, size=4)
    far = BlockScores(out=out, into=out + noise + 50, unlearned=None)
    assert canary_power(far, RULE, seed=0) < 0.9


def test_canaries_that_leave_no_trace_are_not_found() -> None:
    assert canary_power(scores(16, 0.0), RULE, seed=0) < 0.5


def test_malformed_arms_are_refused() -> None:
    with pytest.raises(CheckBroken):
        canary_power(BlockScores(out=np.ones(8), into=np.arange(8.0), unlearned=None), RULE, seed=0)
    with pytest.raises(CheckBroken):
        canary_power(BlockScores(out=np.array([1.0, np.nan, 2]), into=np.arange(3.0), unlearned=None), RULE, seed=0)
