"""Whole training loop of expunge against a plain fp32 NCHW PyTorch loop with the same model and batch, side by side.

    python benchmarks/training_throughput/run.py --data FOLDER

Both train on the same records for the same number of steps, alternating in one process so that a busy machine slows both.
Ours includes augmentation, transcript, receipts (hashing what was read) and checkpoints; the plain loop has the same crop
and flip, done per batch on float tensors, and nothing else. Ratios, not rates, are the result.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch
from hardware import hardware

from expunge.core import registry
from expunge.core.protocols import FitJob
from expunge.training.loop import numerics_of
from expunge.training.recipe import parse_recipe
from expunge.workflow.slots import SlotBook

HERE = Path(__file__).parent
MODELS = {
    "resnet9-w16": {"depth": 9, "width": 16},
    "resnet9-w32": {"depth": 9, "width": 32},
    "resnet20-w16": {"depth": 20, "width": 16},
}


def recipe_for(model: dict[str, int], threads: int) -> dict[str, object]:
    return {
        "name": "throughput",
        "family": "resnet",
        "model": model,
        "epochs": 1,
        "batch": 512,
        "lr": 0.1,
        "crop": 4,
        "flip": "random",
        "precision": "bf16",
        "threads": threads,
    }


def ours(data: object, book: SlotBook, model: dict[str, int], threads: int) -> float:
    """Images per second of the whole loop."""
    recipe = parse_recipe(recipe_for(model, threads))
    adapter = registry.load("models", "resnet")(recipe, classes=10, shape=(32, 32, 3))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        adapter.fit(
            FitJob(
                recipe=recipe.model_dump(),
                seed="throughput",
                numerics=numerics_of(recipe),
                data=data,
                folder=Path(folder),
                leaves=book.leaves(),
            )
        )
        return len(data.train) / (time.perf_counter() - started)  # type: ignore[attr-defined]


def plain(data: object, model: dict[str, int], threads: int) -> float:
    """Images per second of the loop most tutorials write."""
    recipe = parse_recipe(recipe_for(model, threads))
    adapter = registry.load("models", "resnet")(recipe, classes=10, shape=(32, 32, 3))
    net = adapter.module(torch.Generator().manual_seed(0)).train()
    images = torch.from_numpy(data.train.images).permute(0, 3, 1, 2).float().div_(255)  # type: ignore[attr-defined]
    labels = torch.from_numpy(data.train.labels)  # type: ignore[attr-defined]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    started = time.perf_counter()
    for batch in torch.randperm(len(images), generator=generator).split(512):
        x = torch.nn.functional.pad(images[batch], (4,) * 4, mode="reflect")
        down, right = torch.randint(0, 9, (2,), generator=generator).tolist()
        x = x[:, :, down : down + 32, right : right + 32]
        if torch.rand((), generator=generator) < 0.5:
            x = x.flip(3)
        loss = torch.nn.functional.cross_entropy(net(x.contiguous()), labels[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    seconds = time.perf_counter() - started
    torch.set_num_threads(before)
    return len(images) / seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--records", type=int, default=5120)
    options = parser.parse_args()
    data = registry.load("data", "cifar10")(path=options.data, limit=options.records).open()
    book = SlotBook.ingest(data.train, b"benchmark-key-of-thirty-two-byte")
    results = {}
    for name, model in MODELS.items():
        pairs = [
            (ours(data, book, model, options.threads), plain(data, model, options.threads))
            for _ in range(options.repeats)
        ]
        ratios = [a / b for a, b in pairs]
        results[name] = {
            "ours_images_per_second": [round(a, 1) for a, _ in pairs],
            "plain_images_per_second": [round(b, 1) for _, b in pairs],
            "ratio_median": round(statistics.median(ratios), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "repeats": options.repeats,
        }
        print(name, results[name], flush=True)
    record = {
        "command": f"python benchmarks/training_throughput/run.py --data FOLDER --threads {options.threads}",
        "records": len(data.train),
        "batch": 512,
        "threads": options.threads,
        "results": results,
        "hardware": hardware(),
    }
    (HERE / f"result-{options.threads}threads.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
