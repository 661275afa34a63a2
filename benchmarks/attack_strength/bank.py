"""Train the CIFAR-10 bank that `run.py` measures attacks on: N models on complementary halves of 20,000 real images.

    python benchmarks/attack_strength/bank.py --data FOLDER --work CACHE [--pairs 16] [--epochs 12] [--width 16]

ResNet-9 without augmentation, so that the models memorise: the question is whether the attacks see it, not how well
a CIFAR-10 model can be trained. bf16 where the CPU has it; emulated it is nine times slower than fp32.
Resumable: what is published is not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

from expunge.core import registry
from expunge.core.codec import canonical, encode
from expunge.core.plan import Compute
from expunge.farm.bank import Bank, BankSpec
from expunge.training.precision import suited
from expunge.training.recipe import load_recipe, parse_recipe

RECORDS = 20_000


def say(what: str, done: int, total: int) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what} {done}/{total}", file=sys.stderr, flush=True)


def open_bank(options: argparse.Namespace) -> tuple[Bank, Any]:
    """The bank and its data set; nothing is trained here."""
    named = {"source": "cifar10", "options": {"path": str(options.data), "limit": RECORDS}}
    data = registry.load("data", "cifar10")(**named["options"]).open()
    changes = {
        "name": "cifar10-memorised",
        "model": {"depth": 9, "width": options.width},
        "epochs": options.epochs,
        "threads": 1,
        "crop": 0,
        "flip": "none",
    }
    recipe, _ = suited(parse_recipe({**load_recipe("cifar10-w16").model_dump(), **changes}))
    spec = BankSpec(
        recipe=encode(recipe.model_dump()), data=encode(named), seed="attack-strength-0", pairs=options.pairs
    )
    return Bank(spec, options.work / spec.digest.removeprefix("sha256:")[:16], data.train.blocks), data


def parse(arguments: argparse.ArgumentParser) -> argparse.Namespace:
    """The options that fix the bank."""
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--pairs", type=int, default=16)
    arguments.add_argument("--epochs", type=int, default=12)
    arguments.add_argument("--width", type=int, default=16)
    arguments.add_argument("--processes", type=int, default=2)
    return arguments.parse_args()


def main() -> None:
    options = parse(argparse.ArgumentParser(description=__doc__))
    bank, data = open_bank(options)
    bank.folder.mkdir(parents=True, exist_ok=True)
    (bank.folder / "spec.json").write_bytes(canonical(encode(bank.spec)))
    results = bank.build("process", Compute(processes=options.processes), say)
    correct = bank.sketches().correct
    print(
        json.dumps(
            {
                "models": len(results),
                "records": RECORDS,
                "seconds_a_model": round(sum(float(r["seconds"]) for r in results) / len(results), 1),
                "test_accuracy": round(float(correct.mean()), 4),
                "data": data.note,
                **hardware(),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
