"""Power: is an honest retrain certified at the planned n, how many pairs that takes, and user blocks on real digits.

nice -n 10 python benchmarks/power/run.py [--folder FOLDER] [--part plan digits] [--out result.json]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[:0] = [
    str(Path(__file__).parents[1]),
    str(Path(__file__).parent),
    str(Path(__file__).parents[1] / "null_rates"),
]

import digits  # noqa: E402
import numpy as np  # noqa: E402
from arms import TRIPLE_OF_A_BANK, Truth, noise, placed  # noqa: E402
from hardware import hardware  # noqa: E402

from expunge.stats.anchors import AnchorDesign, anchor_rates  # noqa: E402
from expunge.stats.intervals import clopper_pearson  # noqa: E402
from expunge.stats.power import Design, minimum_detectable, needed_pairs  # noqa: E402
from expunge.stats.threearm import PairArms, Rule  # noqa: E402
from expunge.stats.verdict import Further, judge  # noqa: E402

SIZES = ((3.9, 0.2, 56), (2.1, 0.5, 46), (3.9, 0.3, 30), (5.0, 0.2, None), (7.8, 0.2, None))
SIGNALS, RUNS = 3, 1000


def design(margin: float, alpha: float, *, whole: bool, covariance: float = -0.3) -> Design:
    """Three signals that correlate by .5; pairs whose O correlates with I and X by `covariance`."""
    table = np.array([[1.0, covariance, covariance], [covariance, 1.0, 0.0], [covariance, 0.0, 1.0]])
    further = Further() if whole else None
    return Design(
        margin=margin, alpha=alpha, power=0.8, signals=SIGNALS, correlation=0.5, covariance=table, further=further
    )


def published() -> list[dict[str, Any]]:
    """The sizes of VERDICTS section 3 beside what the plan says, over the range of covariances it names."""
    rows = []
    for gap, margin, pairs in SIZES:
        row: dict[str, Any] = {"gap": gap, "margin": margin, "verdicts_page": pairs}
        for alpha in (0.025, 0.0125):
            for whole in (False, True):
                key = f"alpha {alpha}, {'whole rule' if whole else 'contrasts'}"
                row[key] = {
                    str(c): needed_pairs(design(margin, alpha, whole=whole, covariance=c), gap=gap, seed=0)
                    for c in (0.0, -0.1, -0.3, -0.5)
                }
        rows.append(row)
    return rows


def honest() -> list[dict[str, Any]]:
    """Honest retrains judged by the product at the planned n, Gaussian and not; the sizes of the page beside them."""
    rows = []
    for gap, margin, page in SIZES:
        for alpha in (0.025, 0.0125):
            planned = needed_pairs(design(margin, alpha, whole=True), gap=gap, seed=0)
            row: dict[str, Any] = {"gap": gap, "margin": margin, "alpha": alpha, "planned_pairs": planned}
            for shape in ("gaussian", "t3", "lognormal .5"):
                row[shape] = certified(planned, gap, margin, alpha, shape)
            if page is not None:
                row[f"gaussian at the page's {page} pairs"] = certified(page, gap, margin, alpha, "gaussian")
            rows.append(row)
    return rows


def certified(pairs: int, gap: float, margin: float, alpha: float, shape: str) -> dict[str, Any]:
    """Share of honest runs that pass on all signals: contrasts alone, and the whole rule; what withheld the rest."""
    rng, rule = np.random.default_rng(pairs), Rule(margin=margin, alpha=alpha, fail_alpha=alpha)
    arms = placed(noise(Truth(pairs, SIGNALS, TRIPLE_OF_A_BANK, shape), RUNS, rng), gap, 0.0)
    contrasts, whole, missing = 0, 0, dict.fromkeys(("equivalence", "absolute", "share", "variance"), 0)
    for run in arms:
        found = [judge(PairArms.of(*signal), rule, Further()) for signal in run]
        absent = {name for item in found for name in item.missing}
        contrasts += "equivalence" not in absent
        whole += not absent
        for name in absent:
            missing[name] += 1
    bounds = clopper_pearson(whole, RUNS)
    return {
        "whole_rule": whole / RUNS,
        "interval": [round(bounds.low, 4), round(bounds.high, 4)],
        "contrasts": contrasts / RUNS,
        "missing": {name: count / RUNS for name, count in missing.items()},
        "n": RUNS,
    }


def table() -> dict[str, Any]:
    """Pairs for power .8 on three signals by gap and margin (alpha .0125: a first attempt; covariance −.3)."""
    gaps, margins = (1.0, 1.5, 2.1, 3.0, 3.9, 5.0, 7.8, 12.0), (0.2, 0.3, 0.5)
    rows: dict[str, Any] = {}
    for whole in (False, True):
        for margin in margins:
            plan = design(margin, 0.0125, whole=whole)
            key = f"{'whole rule' if whole else 'contrasts'}, t = {margin}"
            rows[key] = {str(gap): needed_pairs(plan, gap=gap, seed=0) for gap in gaps}
            rows[f"{key}, smallest gap by pairs"] = {
                str(n): minimum_detectable(plan, pairs=n, seed=0) for n in (24, 48, 96, 192)
            }
    return rows


def anchors() -> list[dict[str, Any]]:
    """The deployed condition: how often it lets an honest file pass and fails one that still holds the block."""
    rows = []
    for gap in (2.1, 3.9, 5.0, 7.8, 12.0):
        for count in (19, 40, 60):
            plan = AnchorDesign(
                out=count, into=count, gap=gap, fail=0.025 / SIGNALS, still_in=0.0125, signals=SIGNALS, correlation=0.5
            )
            found = anchor_rates(plan, seed=0, runs=4000)
            rows.append({"gap": gap, "anchors_a_side": count, "n": 4000, **{
                name: round(getattr(found, name), 4)
                for name in ("honest_passes", "honest_fails", "member_fails", "member_passes")
            }})  # fmt: skip
    return rows


def cpu() -> float:
    """CPU seconds of this process and of its finished children."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "expunge-power")
    parser.add_argument("--part", nargs="*", default=["plan", "digits"])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    options = parser.parse_args()
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    result |= {"command": "python benchmarks/power/run.py", "hardware": hardware()}
    parts = {
        "plan": {"published_sizes": published, "honest_at_the_planned_n": honest, "pairs": table, "anchors": anchors},
        "digits": {"digits_users": lambda: digits.run(options.folder / "digits")},
    }
    for part in options.part:
        for name, work in parts[part].items():
            start = cpu()
            result[name] = work()
            result.setdefault("cpu_seconds_of_the_last_run", {})[name] = round(cpu() - start, 1)
            options.out.write_text(json.dumps(result, indent=1) + "\n")
            print(name, result["cpu_seconds_of_the_last_run"][name], flush=True)


if __name__ == "__main__":
    main()
