"""The full self-test on digits, recorded: counts and rates of every saboteur and check, and the dose-response curve.

    python benchmarks/selftest/run.py [--work FOLDER] [--pairs 32] [--anchors 64] [--out result.json]
    python benchmarks/selftest/run.py --family resnet --size pilot --pairs 12 --anchors 40 --out result-resnet.json

A workspace with 20 planted canaries and 20 surrogates is trained once and kept; the self-test itself is not resumable.
The second command is there for `batchnorm_only`, which the digits recipe (an MLP) has no place for.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

from expunge import Workspace
from expunge.core.codec import loads
from expunge.training.recipe import Recipe, load_recipe, parse_recipe

RESNET = {"name": "digits-resnet", "family": "resnet", "model": {"depth": 9, "width": 4}, "epochs": 10, "lr": 0.2}


def chosen(family: str) -> Recipe:
    """The recipe of the digits demo, or a small ResNet-9 with BatchNorm that enters records in the same four slices."""
    recipe = load_recipe("digits")
    return recipe if family == recipe.family else parse_recipe({**recipe.model_dump(), **RESNET})


def prepared(folder: Path, recipe: Recipe, pairs: int, anchors: int) -> Workspace:
    """Trained model, bank and anchors."""
    if (folder / "expunge.toml").exists():
        workspace = Workspace.open(folder)
    else:
        config = {
            "data": {"source": "digits", "options": {"canaries": 20, "surrogates": 20}},
            "bank": {"pairs": pairs, "anchors": anchors, "monitored": ("surrogate", "canary")},
            "model": {"seed": "00112233445566778899aabbccddeeff"},
            "owner": {"name": "benchmark"},
            "compute": {"engine": "process://?n=2"},
        }
        workspace = Workspace.create(folder, config=config, recipe=recipe)
    if workspace.state().model is None:
        workspace.train()
    if not workspace.state().banks:
        workspace.bank()
    return workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "expunge-selftest")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--anchors", type=int, default=64)
    parser.add_argument("--size", default="full")
    parser.add_argument("--family", default="mlp", choices=("mlp", "resnet"))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("result.json"))
    options = parser.parse_args()
    recipe = chosen(options.family)
    with prepared(options.work, recipe, options.pairs, options.anchors) as workspace:
        started = time.monotonic(), time.process_time()
        found = workspace.selftest(options.size)
        report: dict[str, Any] = loads(found.data)
    result = {
        "command": "python benchmarks/selftest/run.py " + " ".join(_arguments(options)),
        "wall_seconds": round(time.monotonic() - started[0], 1),
        "cpu_seconds": round(time.process_time() - started[1], 1),
        "hardware": hardware(),
        "passed": list(found.report.passed),
        "report": report,
    }
    options.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print("\n".join(f"{t['saboteur']}: certified {t['certified']} of {t['tried']}" for t in report["tallies"]))


def _arguments(options: argparse.Namespace) -> list[str]:
    """Those that change the result."""
    return [f"--{name} {getattr(options, name)}" for name in ("family", "size", "pairs", "anchors")]


if __name__ == "__main__":
    main()
