"""One CIFAR-10 automobile, from request to certificate, and what each exact method costs.

    python benchmarks/cifar10_single_image/run.py --data FOLDER --stage story [--size short|medium|full]
    python benchmarks/cifar10_single_image/run.py --data FOLDER --stage methods [--full]

`story` plays `expunge demo cifar10`: choose a typical and an atypical automobile on other models, build the judging bank,
fine-tune (must not certify) and delete each. `methods` measures replay over slices, SISA at S = 1, 4 and 8, and full
retraining on one record, with test accuracies before and after. Both resume (--work) and write one JSON a stage.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from hardware import hardware

from expunge.core import registry
from expunge.core.protocols import FitJob
from expunge.stats.intervals import clopper_pearson
from expunge.training.loop import numerics_of
from expunge.training.recipe import load_recipe, parse_recipe
from expunge.workflow.slots import SlotBook

HERE = Path(__file__).parent
SLICES = (0.0, 0.2, 0.4, 0.6, 0.8)


def say(what: str, done: int, total: int) -> None:
    if done == total or done % 50 == 0:
        print(f"{what} {done}/{total}", file=sys.stderr, flush=True)


def accuracy(adapter: Any, path: Path, data: Any) -> dict[str, Any]:
    outputs = adapter.outputs(adapter.load(path), data.test.images)
    correct = int((outputs.argmax(1) == data.test.labels).sum())
    bounds = clopper_pearson(correct, len(data.test))
    return {"accuracy": correct / len(data.test), "accuracy_95": [bounds.low, bounds.high], "n": len(data.test)}


def story(options: argparse.Namespace) -> dict[str, Any]:
    from expunge.apps.cli._console import _plain
    from expunge.workflow.stories import SIZES, cifar10_story, play

    chosen = cifar10_story(options.data, size=options.size)
    folder = options.work / f"story-{options.size}"
    chapters = play(chosen, folder, say)
    return {
        "title": chosen.title,
        "size": asdict(SIZES[options.size]),
        "choice": json.loads((folder / "store" / "chosen.json").read_bytes()),
        "chapters": [
            {
                "title": chapter.title,
                "refusal": chapter.refusal,
                "guarantee": chapter.outcome.guarantee.value if chapter.outcome else None,
                "sentence": chapter.outcome.certificate.sentence if chapter.outcome else None,
                "trials": [
                    {
                        "method": t.method,
                        "seconds": t.seconds,
                        "accepted": t.decision.accepted,
                        "findings": _plain(t.findings),
                    }
                    for t in (chapter.outcome.trials if chapter.outcome else ())
                ],
            }
            for chapter in chapters
        ],
        "cases": logged_cases(folder),
    }


def logged_cases(folder: Path) -> list[dict[str, Any]]:
    """Every case of the workspace from its own files, in the order of the log: a resumed story knows its past too."""
    found = []
    for case in sorted((folder / "cases").iterdir(), key=_logged):
        plans = {path.stem.split("-")[1]: json.loads(path.read_bytes()) for path in case.glob("plan-*.json")}
        findings = {n: case / f"findings-{n}.json" for n in plans}
        found += [
            {
                "case": case.name,
                "method": plan["method"],
                "attempt": plan["attempt"],
                "certified": (case / "certificate.zip").exists(),
                "findings": json.loads(findings[n].read_bytes()) if findings[n].exists() else "cut off before any",
            }
            for n, plan in sorted(plans.items())
        ]
    return found


def _logged(case: Path) -> int:
    return int(json.loads((case / "receipt.json").read_bytes())["inclusion"]["index"])


def methods(options: argparse.Namespace) -> dict[str, Any]:
    limit = {} if options.full else {"limit": 10_000}
    data = registry.load("data", "cifar10")(path=str(options.data), **limit).open()
    book = SlotBook.ingest(data.train, b"benchmark-key-of-thirty-two-byte")
    slot = data.train.slots(["train/automobile/0007"])[0] if options.full else data.train.labels.tolist().index(1)
    base = load_recipe("cifar10-w16").model_dump()
    rows = []
    for shards in (1, 4, 8):
        recipe = parse_recipe({**base, "threads": 2, "shards": shards, "introduce": SLICES})
        rows.append(
            _row(recipe, data, book, slot, options.work / f"methods-{'full' if options.full else '10k'}-S{shards}")
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"data": data.note, "train_records": len(data.train), "slices": list(SLICES), "rows": rows}


def _row(recipe: Any, data: Any, book: SlotBook, slot: int, work: Path) -> dict[str, Any]:
    adapter = registry.load("models", recipe.family)(recipe, classes=10, shape=(32, 32, 3))
    job = FitJob(
        recipe=recipe.model_dump(),
        seed="benchmark-seed-0",
        numerics=numerics_of(recipe),
        data=data,
        folder=work / "original",
        leaves=book.leaves(),
        progress=say,
    )
    forget = frozenset({slot})
    original = adapter.fit(job)
    replayed = adapter.replay(replace(job, folder=work / "replay", absent=forget), work / "original", forget)
    retrained = adapter.fit(replace(job, folder=work / "retrain", absent=forget))
    total = adapter.total_steps(job)
    generator = np.random.Generator(np.random.Philox(0))
    sample = generator.choice(len(data.train), 100, replace=False).tolist()
    savings = [1 - adapter.replay_steps(job, frozenset({s})) / total for s in sample]
    return {
        "shards": recipe.shards,
        "original": {**accuracy(adapter, original.model, data), "seconds": round(original.seconds, 1)},
        "replay": {
            **accuracy(adapter, replayed.model, data),
            "seconds": round(replayed.seconds, 1),
            "share_of_steps": round(adapter.replay_steps(job, forget) / total, 4),
        },
        "retrain": {**accuracy(adapter, retrained.model, data), "seconds": round(retrained.seconds, 1)},
        "bit_identical": replayed.digest == retrained.digest,
        "differs_from_original": replayed.digest != original.digest,
        "mean_saving_over_100_records": round(statistics.mean(savings), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stage", choices=["story", "methods"], required=True)
    parser.add_argument("--full", action="store_true", help="methods: all 50,000 images")
    parser.add_argument("--size", choices=["short", "medium", "full"], default="short", help="of the story")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "expunge-benchmarks" / "single-image")
    options = parser.parse_args()
    if options.stage == "story":
        flags, name, result = f" --size {options.size}", f"story-{options.size}", story(options)
    else:
        flags, name = (" --full", "methods-full") if options.full else ("", "methods")
        result = methods(options)
    record = {
        "command": f"python benchmarks/cifar10_single_image/run.py --data FOLDER --stage {options.stage}{flags}",
        **result,
        "hardware": hardware(),
    }
    (HERE / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
