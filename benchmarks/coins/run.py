"""The one-run audit by coins on digits: what exact methods, fine-tuning and nothing at all get, over many coin keys.

    python benchmarks/coins/run.py [--seeds 40] [--out result.json]

Every seed plants other canaries with other coins and trains another model. `retrain` and `replay` give the same weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from expunge.checks.coins import Coins as Check
from expunge.core import registry
from expunge.core.finding import Guarantee, Verdict
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob, Coins
from expunge.data.digits import Digits
from expunge.farm.member import true_log_probabilities
from expunge.stats.coins import coin_power
from expunge.stats.intervals import clopper_pearson
from expunge.testing.world import make_world
from expunge.training.recipe import load_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

COINS = 162
METHODS = ("nothing", "retrain", "replay", "finetune")


def audit(seed: int, recipe: dict[str, Any]) -> dict[str, Any]:
    """One key, one original, every method; the findings by method."""
    key = f"{seed:064x}"
    data = Digits(canaries=0, coins=COINS, coins_key=key).open()
    settings = {name: value for name, value in recipe.items() if name not in ("name", "family", "threads")}
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), family="mlp", data=data, seed=key[-32:], **settings)
        world.fit("nothing")
        forget, row = frozenset(data.train.in_block("coins")), {}
        kept: dict[str, Any] = {}
        for name in METHODS:
            if name != "nothing":
                registry.load("methods", name)().unlearn(world.unlearn_job(name, forget, source="nothing"))
            model = world.adapter.load(world.folder / name / "model.safetensors")
            scores = true_log_probabilities(world.adapter, model, data.coins.images, data.coins.labels)
            kept.setdefault("original", scores)  # of "nothing", which comes first
            found = Check().run(
                CheckJob(
                    limits=Limits(),
                    guarantee=Guarantee.EXACT,
                    seed=seed,
                    coins=Coins(trained=data.coins.trained, candidate=scores, original=kept["original"]),
                )
            )
            right = (world.adapter.outputs(model, data.test.images).argmax(1) == data.test.labels).mean()
            row[name] = {
                "verdict": found.verdict.name,
                "correct": int(found.details["correct"]),
                "even": int(found.details["even_correct"]),
                "test accuracy": round(float(right), 4),
            }
    return {"heads": int(data.coins.trained.sum()), **row}


def summary(rows: list[dict[str, Any]], method: str) -> dict[str, Any]:
    mine = [row[method] for row in rows]
    correct = [item["correct"] for item in mine]
    verdicts = {v.name: sum(item["verdict"] == v.name for item in mine) for v in Verdict}
    return {
        "verdicts": verdicts,
        "share": {name: [round(x or 0, 4) for x in _cp(hits, len(mine))] for name, hits in verdicts.items()},
        "accuracy": {
            "mean": round(float(np.mean(correct)) / COINS, 4),
            "min": round(min(correct) / COINS, 4),
            "max": round(max(correct) / COINS, 4),
        },
        "test accuracy": round(float(np.mean([item["test accuracy"] for item in mine])), 4),
    }


def _cp(hits: int, trials: int) -> tuple[float | None, float | None, float | None]:
    bounds = clopper_pearson(hits, trials)
    return bounds.estimate, bounds.low, bounds.high


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    arguments = parser.parse_args()
    recipe, start = load_recipe("digits").model_dump(), time.process_time()
    rows = [audit(seed, recipe) for seed in range(arguments.seeds)]
    result = {
        "coins": COINS,
        "seeds": arguments.seeds,
        "bound": Check.coin_accuracy,
        "power of the bound, computed": round(coin_power(COINS, Check.coin_accuracy), 4),
        "share is": "estimate and 95 % Clopper-Pearson limits over seeds",
        "methods": {method: summary(rows, method) for method in METHODS},
        "replay equals retrain": all(row["replay"] == row["retrain"] for row in rows),
        "runs": rows,
        "cpu_s": round(time.process_time() - start, 1),
        "hardware": hardware(),
        "command": f"python benchmarks/coins/run.py --seeds {arguments.seeds}",
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
