"""Accuracy and time of a recipe on CIFAR-10, whole loop: augmentation, transcript, receipts and checkpoints included.

    python benchmarks/cifar10_accuracy/run.py --data FOLDER --recipe cifar10 --seed 0

One JSON file a seed, next to this script; an interrupted seed continues from its last checkpoint (--work). Seconds are
wall seconds of the training loop; `cpu_seconds` are beside them because a busy machine stretches the first.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

from expunge.core import registry
from expunge.core.protocols import FitJob
from expunge.stats.intervals import clopper_pearson
from expunge.training.loop import numerics_of
from expunge.training.recipe import load_recipe
from expunge.workflow.slots import SlotBook

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="cifar10")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--split", default="standard", choices=["standard", "tune"])
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "expunge-benchmarks")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    data = registry.load("data", "cifar10")(path=options.data, split=options.split).open()
    adapter = registry.load("models", recipe.family)(recipe, classes=10, shape=(32, 32, 3))
    book = SlotBook.ingest(data.train, b"benchmark-key-of-thirty-two-byte")
    folder = options.work / f"{recipe.name}-{recipe.digest[7:15]}-{options.split}-{options.seed}"
    started, cpu = time.perf_counter(), time.process_time()

    def progress(what: str, done: int, total: int) -> None:
        if done % 50 == 0:
            print(f"{what} {done}/{total} {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)

    result = adapter.fit(
        FitJob(
            recipe=recipe.model_dump(),
            seed=f"benchmark-seed-{options.seed}",
            numerics=numerics_of(recipe),
            data=data,
            folder=folder,
            leaves=book.leaves(),
            progress=progress,
        )
    )
    cpu_seconds = time.process_time() - cpu
    outputs = adapter.outputs(adapter.load(result.model), data.test.images)
    correct = int((outputs.argmax(1) == data.test.labels).sum())
    bounds = clopper_pearson(correct, len(data.test))
    images = len(data.train) * recipe.epochs
    record = {
        "command": f"python benchmarks/cifar10_accuracy/run.py --data FOLDER --recipe {options.recipe} --seed {options.seed}"
        + ("" if options.split == "standard" else " --split tune"),
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
        "split": options.split,
        "seed": options.seed,
        "data": data.note,
        "train_records": len(data.train),
        "test_records": len(data.test),
        "test_augment": recipe.test_augment,
        "accuracy": correct / len(data.test),
        "accuracy_95": [bounds.low, bounds.high],
        "seconds": round(result.seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "resumed_at_step": result.resumed_at,
        "images_per_second": round(images / result.seconds, 1) if result.seconds else None,
        "weights": result.digest,
        "hardware": hardware(),
    }
    target = HERE / f"{recipe.name}-{options.split}-seed{options.seed}.json"
    target.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
