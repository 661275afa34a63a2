"""Which behavioural check sees what: digits, a block of 20 mislabelled canaries, complement pairs of half models.

Arms O, I and X: an honest retrain, and saboteurs (no-op, fine-tuning, over-training on the retained records, learning
the block under other wrong labels or under its true ones, the IN body under a new last layer, an output filter for the
exact records). And 24 full-size anchors that never saw the block, with files ranked among them: 4 honest retrains, the
original, and an original behind the filter.

python benchmarks/behaviour/run.py [--pairs 16] [--folder FOLDER, kept so that a second run resumes]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from hardware import hardware

from expunge.core import registry
from expunge.core.finding import Finding, Guarantee
from expunge.core.policy import Limits
from expunge.core.protocols import CheckJob, FitJob, Measured, Probe
from expunge.stats.pixels import noisy
from expunge.testing.arms import Bench, Pair, Standing, finetuned, retrained
from expunge.testing.world import make_world
from expunge.training.checkpoint import load_tensors, save_tensors
from expunge.training.recipe import load_recipe

ANCHORS, HONEST = 24, 4


class Filtered:
    """An adapter whose answers to the block's exact images are those to noise: what a refusal filter does."""

    def __init__(self, adapter: Any, bench: Bench) -> None:
        self._adapter = adapter
        images = bench.world.data.train.images[list(bench.block)]
        self._known = {image.tobytes(): k for k, image in enumerate(images)}
        self._instead = noisy(np.zeros_like(images), levels=80.0, copies=1, seed=1)[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def outputs(self, model: Any, images: Any) -> Any:
        changed = np.array(images)
        for row, image in enumerate(images):
            if image.tobytes() in self._known:
                changed[row] = self._instead[self._known[image.tobytes()]]
        return self._adapter.outputs(model, changed)


def relabelled(bench: Bench, *, true: bool) -> Any:
    """Tune with the block present under other labels: other wrong ones, or the true ones, which OUT never learned."""

    def make(job: FitJob, start: Path) -> Path:
        data, block = bench.world.data, np.array(bench.block)
        labels = data.train.labels.copy()
        labels[block] = (labels[block] - (1 + block % 9) if true else labels[block] + 3) % 10
        changed = replace(data, train=replace(data.train, labels=labels))
        tuned = replace(job, data=changed, absent=frozenset())
        return bench.world.adapter.tune(tuned, start, {"epochs": 16, "lr": 0.08}).model

    return make


def last_layer_only(bench: Bench) -> Any:
    """The body of IN under the last layer of a model that learned from scratch without the block."""
    honest = retrained(bench.world.adapter)

    def make(job: FitJob, start: Path) -> Path:
        tensors, metadata = load_tensors(start)
        body = {name: tensor for name, tensor in tensors.items() if not name.startswith(_last(tensors))}
        without = replace(job, folder=job.folder / "scratch")
        head = {name: t for name, t in load_tensors(honest(without, start))[0].items() if name not in body}
        file = job.folder / "start.safetensors"
        save_tensors(file, {**body, **head}, metadata)
        tuned = bench.world.adapter.tune(job, file, {"epochs": 4, "lr": 0.04}).model
        fitted = load_tensors(tuned)[0]
        save_tensors(tuned, {name: body.get(name, fitted[name]) for name in fitted}, metadata)
        return tuned

    return make


def _last(tensors: dict[str, Any]) -> str:
    return list(tensors)[-1].rpartition(".")[0] + "."


def arms_of(bench: Bench, pairs: list[Pair]) -> dict[str, tuple[list[Standing], Any]]:
    """X arms by name, with what stands between probe and adapter."""
    adapter, into = bench.world.adapter, [pair.into for pair in pairs]

    def x(name: str, make: Any) -> list[Standing]:
        print("arm", name, flush=True)
        return bench.unlearned(name, pairs, make)

    return {
        "retrain": (x("retrain", retrained(adapter)), None),
        "no-op": (into, None),
        "finetune": (x("finetune", finetuned(adapter, epochs=2, lr=0.02)), None),
        "overtrained": (x("overtrained", finetuned(adapter, epochs=60, lr=0.08)), None),
        "relabelled": (x("relabelled", relabelled(bench, true=False)), None),
        "taught the true labels": (x("true-labels", relabelled(bench, true=True)), None),
        "last layer only": (x("last-layer", last_layer_only(bench)), None),
        "output filter": (into, lambda adapter: Filtered(adapter, bench)),
    }


def files_of(bench: Bench) -> tuple[list[Standing], dict[str, tuple[Standing, Any]]]:
    """OUT anchors, and files to be ranked among them: full-size models."""
    others = np.setdiff1d(np.arange(len(bench.world.data.train)), np.array(bench.block))
    original = bench.trained("original", [*others.tolist(), *bench.block])
    anchors = []
    for k in range(ANCHORS):
        kept = np.sort(np.random.default_rng(k).permutation(others)[: int(0.9 * len(others))])
        anchors.append(replace(bench.trained(f"anchor-{k}", kept.tolist()), partner=original.weights))
    files: dict[str, tuple[Standing, Any]] = {
        f"honest retrain {k}": (
            replace(bench.trained(f"honest-{k}", others.tolist(), seed=f"{k:032x}"), partner=original.weights),
            None,
        )
        for k in range(HONEST)
    }
    files["original (no-op)"] = (original, None)
    files["output filter"] = (original, lambda adapter: Filtered(adapter, bench))
    return anchors, files


def traits_of(found: Finding) -> dict[str, Any]:
    """Per trait: gap of its control in SD of O, r, distance in SD of O, pairs needed, verdict."""
    names = [condition.name for condition in found.conditions if ":" not in condition.name]
    verdicts = {c.name: c.verdict.value for c in found.conditions}

    def number(trait: str, key: str) -> float | None:
        text = found.details.get(f"{trait}.{key}")
        return None if text is None else round(float(text), 3)

    keys = ("gap", "gap_low", "gap_high", "r", "r_low", "r_high", "distance", "needed_pairs", "correlation_OC")
    return {name: {"verdict": verdicts[name], **{key: number(name, key) for key in keys}} for name in names}


def examined(plugin: Any, name: str, bench: Bench, made: Any) -> dict[str, Any]:
    """Everything about one check."""
    pairs, arms, anchors, files = made
    started = time.process_time()
    base = bench.measured(plugin, pairs)
    seconds = (time.process_time() - started) / (2 * len(pairs))
    record: dict[str, Any] = {"cpu_seconds_a_model": round(seconds, 4), "arms": {}, "files": {}}
    for arm, (models, wrap) in arms.items():
        found = _judged(plugin, name, replace(base, unlearned=bench.measure(plugin, models, wrap)))
        record["arms"][arm] = {"verdict": found.verdict.value, "traits": traits_of(found), "reason": found.reason[:200]}
    out = bench.measure(plugin, anchors)
    for file, (standing, wrap) in files.items():
        mine = bench.measure(plugin, [standing], wrap)[0]
        found = _judged(plugin, name, Measured(out=(), into=(), unlearned=None, candidate=mine, out_anchors=out))
        p = {key.rpartition(".")[0]: float(v) for key, v in found.details.items() if key.endswith("served_p")}
        record["files"][file] = {"verdict": found.verdict.value, "p": p}
    alarms = 0
    for k in range(len(out)):
        left = Measured(out=(), into=(), unlearned=None, candidate=out[k], out_anchors=out[:k] + out[k + 1 :])
        alarms += _judged(plugin, name, left).verdict.value == "FAIL"
    record["anchors_left_out_that_fail"] = [alarms, len(out)]
    return record


def _judged(plugin: Any, name: str, measured: Measured) -> Finding:
    """CERTIFIED, because no spikes are run here and EMPIRICAL would not pass without."""
    job = CheckJob(limits=Limits(), guarantee=Guarantee.CERTIFIED, seed=1, measured={f"checks/{name}": measured})
    return plugin().run(job)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    kept = arguments.folder or Path(tempfile.mkdtemp())
    kept.mkdir(parents=True, exist_ok=True)
    data = registry.load("data", "digits")().open()
    settings = {k: v for k, v in load_recipe("digits").model_dump().items() if k not in ("name", "family")}
    block = data.train.in_block("canary")
    world = make_world(kept, data=data, **settings)
    bench = Bench.of(world, block, neighbours=5, retained=200)
    labelled = Bench.of(world, block, neighbours=5, retained=200, same_label=True)
    pairs = bench.pairs(arguments.pairs)
    made = (pairs, arms_of(bench, pairs), *files_of(bench))
    checks = {}
    for name in registry.names("checks"):
        plugin = registry.load("checks", name)
        if isinstance(plugin(), Probe):
            checks[name] = examined(plugin, name, bench, made)
            if name in ("sensitivity", "neighbours"):
                checks[f"{name}, neighbours of the same label"] = examined(plugin, name, labelled, made)
            print(name, {arm: found["verdict"] for arm, found in checks[name]["arms"].items()}, flush=True)
    record = {
        "command": f"python benchmarks/behaviour/run.py --pairs {arguments.pairs}",
        "pairs": arguments.pairs,
        "anchors": ANCHORS,
        "block": len(block),
        "neighbours": len(bench.neighbours),
        "retained": len(bench.retained),
        "limits": {"alpha": Limits().alpha, "margin": Limits().margin, "absolute_margin": Limits().absolute_margin},
        "checks": checks,
        "hardware": hardware(),
    }
    name = "result.json" if arguments.pairs == 16 else f"result-{arguments.pairs}pairs.json"
    (Path(__file__).parent / name).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
