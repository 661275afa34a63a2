"""Realised error rates of the statistics floor, with Clopper-Pearson intervals.

    nice -n 10 python benchmarks/null_rates/run.py [--cache FOLDER] [--quick] [--out result.json]

Each cell is published to the cache as one JSON line file when it is finished; a killed run continues where it was. The
cells only count; `summary.py` says what the counts show.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
from arms import SHAPES, SPREADS, Truth, agrees, feasible, noise, pass_p, placed  # noqa: E402
from hardware import hardware  # noqa: E402
from many import deployed_p_values, e_process_crossings, epsilon_alarms, multiplicity, sequential_price  # noqa: E402
from summary import summarised  # noqa: E402

from expunge.stats.spending import spent_alpha  # noqa: E402
from expunge.stats.threearm import PairArms, Rule  # noqa: E402
from expunge.stats.verdict import Further, judge  # noqa: E402

ALPHA = 0.025
LEVELS = {"0.025": 0.025, "0.0125": spent_alpha(ALPHA, 1)}
MARGIN = 0.2
WIDE, NEAR = 10.0, 4.0  # SD: a gap at which r alone decides, and one at which the absolute bound lets r = t through
TRIPLES = ((0.0, 0.0, 0.0), (0.6, -0.3, -0.3), (-0.3, -0.3, 0.3), (0.3, 0.6, 0.6))
FURTHER = Further()


def count_passes(arms: np.ndarray, p: np.ndarray, alpha: float, margin: float) -> dict[str, int]:
    """How many runs the whole rule passes (judged by the product wherever the screen lets the contrasts through)."""
    rule, whole, per_run = Rule(margin=margin, alpha=alpha, fail_alpha=ALPHA), 0, 0
    for run in np.flatnonzero(p <= alpha):
        found = [judge(PairArms.of(*signal), rule, FURTHER) for signal in arms[run]]
        whole += all(item.passed for item in found)
        per_run += all(item.passed and item.per_run for item in found)
    return {"whole": whole, "per_run": per_run}


def margin_cell(truth: Truth, runs: int, seed: int, whole: bool) -> dict[str, Any]:
    """False passes at r = +t and r = −t: Student's and guarded contrasts at a wide gap, the whole rule at 4 SD."""
    rng, rows = np.random.default_rng(seed), {"runs": runs, "compared": 0}
    for name, residual in (("+t", MARGIN), ("-t", -MARGIN)):
        drawn = noise(truth, runs, rng)
        arms = placed(drawn, WIDE, residual)
        student, guarded = pass_p(arms, MARGIN)
        rows["compared"] += agrees(arms, guarded, MARGIN, ALPHA)
        for label, alpha in LEVELS.items():
            row = {"student": int((student <= alpha).sum()), "guarded": int((guarded <= alpha).sum())}
            if whole:
                near = placed(drawn, NEAR, residual)
                row |= count_passes(near, pass_p(near, MARGIN)[1], alpha, MARGIN)
            rows[f"{name} {label}"] = row
    return rows


def attempts_cell(truth: Truth, runs: int, seed: int, attempts: int = 10) -> dict[str, Any]:
    """One bank, ten attempts with new X at r = +t, each at the alpha it may spend: is any of them passed?"""
    rng, passed, whole = np.random.default_rng(seed), np.zeros(runs, bool), np.zeros(runs, bool)
    bank = noise(truth, runs, rng)
    for attempt in range(1, attempts + 1):
        alpha = spent_alpha(ALPHA, attempt)
        drawn = noise(truth, runs, rng)
        drawn[:, :, :2] = bank[:, :, :2]
        passed |= pass_p(placed(drawn, WIDE, MARGIN), MARGIN)[1] <= alpha
        near = placed(drawn, NEAR, MARGIN)
        rule = Rule(margin=MARGIN, alpha=alpha, fail_alpha=ALPHA)
        for run in np.flatnonzero((pass_p(near, MARGIN)[1] <= alpha) & ~whole):
            whole[run] = all(judge(PairArms.of(*signal), rule, FURTHER).passed for signal in near[run])
    return {"runs": runs, "attempts": attempts, "guarded": int(passed.sum()), "whole": int(whole.sum())}


def cheat_cell(cheat: str, truth: Truth, gap: float, margin: float, runs: int, seed: int) -> dict[str, Any]:
    """How often the whole rule certifies a cheat, at each level; `attempts` = at least once in four attempts."""
    rng, rows, tried = np.random.default_rng(seed), {"runs": runs}, np.zeros(runs, bool)
    bank = noise(truth, runs, rng)
    for attempt in range(1, 5):
        drawn = noise(truth, runs, rng)
        drawn[:, :, :2] = bank[:, :, :2]
        arms = CHEATS[cheat](placed(drawn, gap, 0.0), gap, rng)
        p = pass_p(arms, margin)[1]
        if attempt == 1:
            for label, alpha in LEVELS.items():
                contrast = int((p <= alpha).sum())
                rows[label] = {"contrasts": contrast, **count_passes(arms, p, alpha, margin)}
        rule = Rule(margin=margin, alpha=spent_alpha(ALPHA, attempt), fail_alpha=ALPHA)
        for run in np.flatnonzero((p <= rule.alpha) & ~tried):
            tried[run] = all(judge(PairArms.of(*signal), rule, FURTHER).passed for signal in arms[run])
    return rows | {"four attempts": int(tried.sum())}


def _copy_in(arms: np.ndarray, gap: float, rng: np.random.Generator) -> np.ndarray:
    arms[:, :, 2] = arms[:, :, 1]
    return arms


def _fails_in_a_tenth(arms: np.ndarray, gap: float, rng: np.random.Generator) -> np.ndarray:
    failed = rng.random((len(arms), 1, arms.shape[-1])) < 0.1  # a run fails for all its signals
    arms[:, :, 2] = np.where(failed, arms[:, :, 1], arms[:, :, 2])
    return arms


def _clamped(arms: np.ndarray, gap: float, rng: np.random.Generator) -> np.ndarray:
    arms[:, :, 2] = arms[:, :, 0].mean(-1, keepdims=True) + 0.2 * rng.standard_normal(arms[:, :, 2].shape)
    return arms


def _moved(residual: float) -> Callable[..., np.ndarray]:
    def move(arms: np.ndarray, gap: float, rng: np.random.Generator) -> np.ndarray:
        arms[:, :, 2] += residual * gap
        return arms

    return move


CHEATS: dict[str, Callable[..., np.ndarray]] = {
    "no-op": _copy_in,
    "retrained with the data": _moved(1.0),
    "does nothing in 1 run of 10": _fails_in_a_tenth,
    "clamp at the OUT mean": _clamped,
    "gradient ascent, r = -.6": _moved(-0.6),
    "gradient ascent, r = -.3": _moved(-0.3),
    "1 SD from never seen": lambda arms, gap, rng: _moved(1 / gap)(arms, gap, rng),
}


def cells(scale: float) -> Iterator[tuple[str, Callable[[int], Any]]]:
    """(name, work(seed)) of every cell, cheap families first."""

    def n_runs(count: int) -> int:
        return max(20, int(count * scale))

    for pairs in (16, 32, 64):
        for triple in feasible():
            truth = Truth(pairs, correlations=triple)
            yield f"grid|{pairs}|{triple}", lambda s, t=truth: margin_cell(t, n_runs(2000), s, False)
    for shape in SHAPES:
        for spread in SPREADS:
            for pairs in (16, 32, 64):
                for signals in (1, 2, 3):
                    for triple in TRIPLES if signals == 1 else TRIPLES[:2]:
                        truth = Truth(pairs, signals, triple, shape, spread)
                        name = f"shape|{shape}|{spread}|{pairs}|{signals}|{triple}"
                        runs = 2000 if signals == 1 else 1000
                        yield (
                            name,
                            lambda s, t=truth, r=runs: margin_cell(t, n_runs(r), s, t.correlations in TRIPLES[:2]),
                        )
    for shape in ("gaussian", "t3", "lognormal 1", "X lognormal 1"):
        for pairs, signals in ((16, 1), (32, 1), (64, 1), (32, 3)):
            truth = Truth(pairs, signals, TRIPLES[1], shape, "X twice" if shape.startswith("X") else "equal")
            yield f"attempts|{shape}|{pairs}|{signals}", lambda s, t=truth: attempts_cell(t, n_runs(1000), s)
    for cheat in CHEATS:
        for gap, margin, pairs in ((1.0, 0.2, 32), (2.1, 0.5, 60), (3.9, 0.2, 72), (5.0, 0.2, 48), (8.0, 0.2, 48)):
            truth = Truth(pairs, 3, (0.0, -0.3, -0.3))
            name = f"cheat|{cheat}|{gap}|{margin}|{pairs}"
            runs = 2000 if cheat.startswith("does nothing") else 1000
            yield name, lambda s, c=cheat, t=truth, g=gap, m=margin, r=runs: cheat_cell(c, t, g, m, n_runs(r), s)
    for name, work in (
        ("deployed", deployed_p_values),
        ("epsilon", epsilon_alarms),
        ("e-process", e_process_crossings),
        ("multiplicity", multiplicity),
        ("sequential", sequential_price),
    ):
        yield from ((f"{name}|{label}", part) for label, part in work(n_runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "expunge-null-rates")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the runs, to try the script")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for number, (name, work) in enumerate(cells(0.02 if options.quick else 1.0)):
        file = options.cache / f"{'quick' if options.quick else 'full'}-{number:05d}.json"
        if file.exists() and json.loads(file.read_text())["name"] == name:
            found[name] = json.loads(file.read_text())
            continue
        start = time.process_time()
        found[name] = {"name": name, **work(1000 + number), "cpu_seconds": 0.0}
        found[name]["cpu_seconds"] = round(time.process_time() - start, 3)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(found[name]))
        os.replace(temporary, file)
        print(name, found[name]["cpu_seconds"], flush=True)
    result = {
        "command": "python benchmarks/null_rates/run.py" + (" --quick" if options.quick else ""),
        "cpu_seconds": round(sum(cell["cpu_seconds"] for cell in found.values()), 1),
        "hardware": hardware(),
        **summarised(found),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
