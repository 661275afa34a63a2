"""Shards of a training as tasks (SISA): each is trained wherever a task runs, and the whole is joined from them.

A shard's randomness is keyed by its own seed, so a shard trained elsewhere is the shard trained here, bit for bit, where
the numerics are equal.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge.core import registry
from expunge.core.codec import decode, encode, loads
from expunge.core.errors import InputError
from expunge.core.plan import Compute, Numerics
from expunge.core.protocols import FitJob, FitResult, HasShards, Progress, Task
from expunge.farm.member import adapter_for
from expunge.farm.opened import open_data
from expunge.farm.tasks import key_of
from expunge.training.batches import Leaves

FUNCTION = "expunge.farm.shards:train_shard"
RUN = "run"


def tasks_of(
    adapter: Any,
    job: FitJob,
    named: Mapping[str, Any],
    *,
    slots: Path | None = None,
    leaves: Path | None = None,
    vocabulary: Path | None = None,
) -> list[Task]:
    """One task a shard. `named` is the data source as `open_data` takes it; files in JSON beside it: ids and blocks by
    slot (`slots`), a recommender's items by column (`vocabulary`), and the leaves, without which no transcript is kept.
    """
    if not isinstance(adapter, HasShards):
        raise InputError(f"family {job.recipe.get('family')} cannot be trained in shards")
    common = {
        "recipe": encode(dict(job.recipe)),
        "data": encode(dict(named)),
        "numerics": encode(job.numerics),
        "checkpoints": job.keep_checkpoints,
        **{name: None if file is None else str(file) for name, file in _files(slots, leaves, vocabulary).items()},
    }
    parts = adapter.parts(job)  # type: ignore[attr-defined]
    return [
        Task(
            function=FUNCTION,
            arguments={**common, "seed": part.seed, "universe": list(part.universe), "absent": sorted(part.absent)},
            label=f"shard {number + 1} of {len(parts)}",
        )
        for number, part in enumerate(parts)
    ]


def _files(slots: Path | None, leaves: Path | None, vocabulary: Path | None) -> dict[str, Path | None]:
    return {"slots": slots, "leaves": leaves, "vocabulary": vocabulary}


def train_shard(arguments: Mapping[str, Any], home: Path, progress: Progress) -> dict[str, Any]:
    """Train one shard into the task's folder."""
    items, slots, leaves = (_read(arguments[name]) for name in ("vocabulary", "slots", "leaves"))
    data = open_data(arguments["data"], items)
    if slots is not None:
        data = data.aligned(slots["ids"], slots["blocks"])
    job = FitJob(
        recipe=arguments["recipe"],
        seed=str(arguments["seed"]),
        numerics=decode(Numerics, arguments["numerics"]),
        data=data,
        folder=home / RUN,
        universe=tuple(int(slot) for slot in arguments["universe"]),
        absent=frozenset(int(slot) for slot in arguments["absent"]),
        leaves=None if leaves is None else decode(Leaves, leaves),
        keep_checkpoints=bool(arguments["checkpoints"]),
        progress=progress,
    )
    whole = adapter_for(arguments["recipe"], data)  # the header of a shard's transcript names the whole recipe
    result: FitResult = whole.fit_part(job)
    return {"digest": result.digest, "steps": result.steps}


def _read(name: Any) -> Any:
    return None if name is None else loads(Path(str(name)).read_bytes(), what=Path(str(name)).name)


def fit_in_shards(
    adapter: Any, job: FitJob, tasks: Sequence[Task], *, executor: str, compute: Compute, folder: Path
) -> FitResult:
    """`adapter.fit(job)` with the shards trained by tasks in `folder`, which is the caller's to destroy."""
    registry.load("executors", executor)().run(tasks, folder, compute, job.progress)
    for part, task in zip(adapter.parts(job), tasks, strict=True):
        if not (part.folder / "model.safetensors").exists():
            shutil.copytree(folder / key_of(task) / RUN, part.folder, dirs_exist_ok=True)
    result: FitResult = adapter.fit(job)  # reads the finished shards back, each checked against its own job, and joins
    return result
