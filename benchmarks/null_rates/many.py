"""Cells beside the three-arm test: ranks, epsilon bounds, e-processes, multiplicity, sequential reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from arms import TRIPLE_OF_A_BANK, Truth, noise, placed, shaped
from scipy import special

from expunge.stats.epsilon import epsilon_lower_bound, one_run_epsilon
from expunge.stats.evalues import calibrated, e_process
from expunge.stats.multiplicity import ELond, e_bh, holm
from expunge.stats.power import Design, needed_pairs
from expunge.stats.rank import rank_p_values, ranked_p_values
from expunge.stats.sequential import SequentialPlan, sequential_three_arm
from expunge.stats.threearm import Outcome, PairArms, Rule

Runs = Callable[[int], int]
Parts = Iterator[tuple[str, Callable[[int], dict[str, Any]]]]
ANCHORS = (8, 16, 19, 32, 40, 60)


def deployed_p_values(runs: Runs) -> Parts:
    """Alarms of an honest file at nominal 5 % and 1 %, by shape of the scores and number of anchors."""
    for shape in ("gaussian", "t3", "lognormal .5", "lognormal 1"):
        for anchors in ANCHORS:
            yield f"{shape}|{anchors}", lambda s, k=shape, n=anchors: _ranks(k, n, runs(20_000), s)


def _ranks(shape: str, anchors: int, runs: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    drawn = shaped(shape, rng.standard_normal((runs, anchors + 1)), rng)
    value, table = drawn[:, 0], drawn[:, 1:]
    deciding, rank = ranked_p_values(value, table), rank_p_values(value, table.T)
    t = (value - table.mean(1)) / (table.std(1, ddof=1) * np.sqrt(1 + 1 / anchors))
    columns = {"deciding": deciding, "rank": rank, "prediction": special.stdtr(anchors - 1, -t)}
    counts = {name: {str(a): int((p <= a + 1e-12).sum()) for a in (0.05, 0.01)} for name, p in columns.items()}
    return {"runs": runs, **counts}


def epsilon_alarms(runs: Runs) -> Parts:
    """How often a bound is above 0 although the scores know nothing, for m canaries in all."""
    for m, count in ((100, 3000), (1000, 2000), (5000, 1000)):
        for name in ("split", "bonferroni", "one run"):
            yield f"{name}|{m}", lambda s, k=name, z=m, r=runs(count): _epsilon(k, z, r, s)


def _epsilon(name: str, m: int, runs: int, seed: int) -> dict[str, Any]:
    rng, alarms, values = np.random.default_rng(seed), 0, []
    for run in range(runs):
        scores = rng.standard_normal(m)
        if name == "one run":
            found = one_run_epsilon(scores, rng.random(m) < 0.5, guesses=m // 4 * 2, delta=1e-6)
        else:
            many = 1 if name == "split" else 8
            found = epsilon_lower_bound(scores[: m // 2], scores[m // 2 :], seed=seed + run, thresholds=many)
        alarms += found.epsilon > 0
        values.append(found.epsilon)
    return {"runs": runs, "alarms": alarms, "largest": max(values)}


def e_process_crossings(runs: Runs) -> Parts:
    """Crossing 1/alpha at any of 12 looks with the mean at exactly 0, beside a t-test that looks as often."""
    for shape in ("gaussian", "t3", "lognormal .5", "minus lognormal .5"):
        for chunk in (4, 8):
            yield f"{shape}|{chunk}", lambda s, k=shape, c=chunk: _crossings(k, c, runs(1000), s)


def _crossings(shape: str, chunk: int, runs: int, seed: int, looks: int = 12) -> dict[str, Any]:
    rng, alpha = np.random.default_rng(seed), 0.05
    crossed = peeked = 0
    sign = -1 if shape.startswith("minus") else 1
    for _ in range(runs):
        values = sign * shaped(shape.removeprefix("minus "), rng.standard_normal(chunk * looks), rng)
        crossed += e_process(list(values.reshape(looks, chunk)), 0.5).max() >= 1 / alpha
        heads = [values[: (k + 1) * chunk] for k in range(looks)]
        t = [head.mean() / (head.std(ddof=1) / np.sqrt(head.size)) for head in heads]
        peeked += any(special.stdtr(head.size - 1, -x) <= alpha for head, x in zip(heads, t, strict=True))
    return {"runs": runs, "alpha": alpha, "crossed": int(crossed), "t_test_that_peeks": int(peeked)}


def multiplicity(runs: Runs) -> Parts:
    """20 requests on one bank, 5 of them with a residue; the others' tests depend on each other and on theirs."""
    for correlation in (-0.05, 0.0, 0.5, 0.9):
        for name in ("holm", "e-BH", "e-LOND"):
            yield f"{name}|{correlation}", lambda s, k=name, c=correlation: _family(k, c, runs(2000), s)


def _family(name: str, correlation: float, runs: int, seed: int, requests: int = 20) -> dict[str, Any]:
    rng, alpha = np.random.default_rng(seed), 0.05
    matrix = np.full((requests, requests), correlation)
    np.fill_diagonal(matrix, 1.0)
    shift = np.where(np.arange(requests) % 4 == 0, 4.0, 0.0)
    z = rng.standard_normal((runs, requests)) @ np.linalg.cholesky(matrix).T
    rows: dict[str, Any] = {"runs": runs, "alpha": alpha}
    for label, moved in (("all honest", 0.0), ("5 residues", shift)):
        wrong, share, found = 0, 0.0, 0
        for row in special.ndtr(-(z + moved)):
            hits = _rejected(name, row, alpha)
            false = int((hits & ((shift == 0) | (label == "all honest"))).sum())
            wrong += false > 0
            share += false / max(int(hits.sum()), 1)
            found += int(hits.sum()) - false
        rows[label] = {"any_false": wrong, "false_discovery_rate": share / runs, "found_of_5": found / runs}
    return rows


def _rejected(name: str, p: np.ndarray, alpha: float) -> np.ndarray:
    if name == "holm":
        return holm(p) <= alpha
    e_values = [calibrated(float(value)) for value in p]
    if name == "e-BH":
        return e_bh(e_values, alpha)
    state, hits = ELond(alpha=alpha), []
    for e in e_values:
        hit, state = state.after(e)
        hits.append(hit)
    return np.array(hits)


def sequential_price(runs: Runs) -> Parts:
    """Chunks of 8 with legal stopping: what it passes at r = ±t, and pairs it reads against a fixed n of power .8."""
    for gap, margin in ((5.0, 0.3), (8.0, 0.2)):
        for residual in (0.0, margin, -margin, 1.0):
            name = f"{gap}|{margin}|{residual}"
            yield name, lambda s, g=gap, m=margin, r=residual: _sequential(g, m, r, runs(300), s)


def _sequential(gap: float, margin: float, residual: float, runs: int, seed: int) -> dict[str, Any]:
    rng, rule = np.random.default_rng(seed), Rule(margin=margin, alpha=0.025, fail_alpha=0.025)
    plan = SequentialPlan(chunk=8, most=20, gap=gap)
    arms = placed(noise(Truth(160, correlations=TRIPLE_OF_A_BANK), runs, rng), gap, residual)[:, 0]
    found = [sequential_three_arm(PairArms.of(*run), rule, plan) for run in arms]
    xi, xo, oi = TRIPLE_OF_A_BANK
    covariance = np.array([[1.0, oi, xo], [oi, 1.0, xi], [xo, xi, 1.0]])
    design = Design(margin=margin, alpha=0.025, power=0.8, signals=1, correlation=0.0, covariance=covariance)
    pairs = np.array([item.pairs for item in found])
    return {
        "runs": runs,
        "outcomes": {kind.value: sum(item.outcome is kind for item in found) for kind in Outcome},
        "pairs_mean": float(pairs.mean()),
        "pairs_median": float(np.median(pairs)),
        "pairs_at_power_80": float(np.quantile(pairs, 0.8)),
        "fixed_n": needed_pairs(design, gap=gap, seed=seed),
    }
