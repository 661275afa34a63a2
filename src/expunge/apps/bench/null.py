"""Our own bounds and p-values under the same exact null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from expunge.apps.bench.drivers.loop import Method
from expunge.stats.arrays import Floats
from expunge.stats.bank_rates import RULES, per_record_p_values
from expunge.stats.coins import audit_coins
from expunge.stats.epsilon import epsilon_lower_bound, one_run_epsilon
from expunge.stats.shift import shift_test

ANCHORS = (8, 16, 64)
_CHUNK = 2_000


def our_methods() -> Mapping[str, Method]:
    """Everything of ours that claims membership at a nominal 5 %."""

    def two_sample(thresholds: int) -> Method:
        return lambda s, c, seed: epsilon_lower_bound(s[c], s[~c], seed=seed, thresholds=thresholds).epsilon > 0

    def one_run(delta: float) -> Method:
        return lambda s, c, _: one_run_epsilon(s, c, guesses=s.size // 4 * 2, delta=delta).epsilon > 0

    return {
        "epsilon, split": two_sample(1),
        "epsilon, Bonferroni over 10": two_sample(10),
        "one run, half guessed, delta 0": one_run(0.0),
        "one run, half guessed, delta 1e-5": one_run(1e-5),
        "coins above 1/2": lambda s, c, _: audit_coins(s, c).low > 0.5,
        "Mann-Whitney p": lambda s, c, _: shift_test(s[c], s[~c]).above <= 0.05,
    }


def per_record(repetitions: int, seed: int, alphas: tuple[float, ...] = (0.05, 0.01)) -> list[dict[str, Any]]:
    """One Gaussian value among n Gaussian anchors: how often each per-record rule calls it a member."""
    rows = []
    for anchors in ANCHORS:
        rng = np.random.default_rng([seed, anchors])
        parts: list[tuple[Floats, ...]] = []
        for start in range(0, repetitions, _CHUNK):
            table = rng.standard_normal((anchors + 1, min(_CHUNK, repetitions - start)))
            mask = np.zeros(table.shape, bool)
            mask[0] = True  # the value under test is no anchor
            parts.append(tuple(p[0] for p in per_record_p_values(table, mask)))
        for rule, p in zip(RULES, (np.concatenate(column) for column in zip(*parts, strict=True)), strict=True):
            for alpha in alphas:
                flagged = int((p <= alpha).sum())
                rows.append({"method": rule, "anchors": anchors, "alpha": alpha, "flagged": flagged, "runs": p.size})
    return rows
