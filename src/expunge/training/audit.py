"""What a transcript must say, worked out from recipe, seed, slots and tombstones alone, without training anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from expunge.core.codec import decimal
from expunge.core.errors import InputError
from expunge.core.protocols import FitJob
from expunge.training.batches import Leaves
from expunge.training.recipe import Recipe
from expunge.training.schedule import Schedule
from expunge.training.transcript import order_commitment, receipt_root

Line = dict[str, Any]


def expected_lines(schedule: Schedule, absent: frozenset[int], leaves: Leaves) -> Iterator[Line]:
    """The step and epoch lines of an honest run: the loop's own arithmetic, once more and without the model."""
    step, total = 0, schedule.total_steps
    receipts: dict[bytes, Line] = {}
    for epoch in range(schedule.recipe.epochs):
        read: list[int] = []
        for batch in schedule.batches(epoch):
            present = [slot for slot in batch.tolist() if slot not in absent]
            read += present
            yield {
                "kind": "step",
                "step": step,
                "epoch": epoch,
                "order": order_commitment([leaves.ids[slot] for slot in present]),
                "present": len(present),
                "slots": len(batch),
                "lr": decimal(schedule.lr(step, total)),
            }
            step += 1
        key = np.sort(np.array(read, np.int64)).tobytes()
        if key not in receipts:
            receipts = {key: {"root": receipt_root(leaves.contents[slot] for slot in read), "count": len(read)}}
        yield {"kind": "epoch", "epoch": epoch, "receipt": receipts[key]}


def expected_transcript(recipe: Recipe, parts: Sequence[FitJob], leaves: Leaves) -> list[Line]:
    """Expected lines of all shards, numbered as `Iterated` joins them."""
    lines: list[Line] = []
    for number, part in enumerate(parts):
        slots = np.arange(len(part.data.train)) if part.universe is None else np.array(part.universe)
        schedule = Schedule(recipe=recipe, seed=part.seed, slots=slots.astype(np.int64))
        extra = {"shard": number} if len(parts) > 1 else {}
        lines += [{**line, **extra} for line in expected_lines(schedule, part.absent, leaves)]
    return lines


def check_same_job(
    lines: Sequence[Mapping[str, Any]],
    header: Mapping[str, Any],
    schedule: Schedule,
    absent: frozenset[int],
    leaves: Leaves,
) -> None:
    """Refuse to continue or reuse another job's run: its start line and its last receipt must be this job's.

    Raises InputError. The last epoch's receipt names every record read in it, so it also tells another set of
    tombstones; without a finished epoch there is nothing to tell them by, and nothing to inherit either.
    """
    start = {key: value for key, value in lines[0].items() if key not in ("chain", "shard")} if lines else {}
    wanted = {"kind": "start", **header}
    if start != wanted:
        differing = sorted(key for key in start.keys() | wanted.keys() if start.get(key) != wanted.get(key))
        raise InputError("this folder holds the run of another training", got=f"another {', '.join(differing)}")
    epochs = [line for line in lines if line["kind"] == "epoch"]
    if not epochs:
        return
    epoch = int(epochs[-1]["epoch"])
    read = [slot for slot in schedule.slots[schedule.introduced() <= epoch].tolist() if slot not in absent]
    root = receipt_root(leaves.contents[slot] for slot in read)
    if epochs[-1]["receipt"] != {"root": root, "count": len(read)}:
        raise InputError(
            "this folder holds the run of another training", got="another set of records", hint="use another folder"
        )


def audited(transcript: Sequence[Mapping[str, Any]]) -> list[Line]:
    """The step and epoch lines of a transcript, without chain values."""
    return [
        {key: value for key, value in line.items() if key != "chain"}
        for line in transcript
        if line["kind"] in ("step", "epoch")
    ]
