"""Sums over users as tasks: every task adds up its own users, wherever it runs, and the whole is the sum of the parts.

Integers add up to the same whole in any order and any grouping, so a model that was summed on ten machines has the
digest of one that was summed on one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core import registry
from expunge.core.codec import encode, loads
from expunge.core.errors import InputError
from expunge.core.plan import Compute
from expunge.core.protocols import FitJob, FitResult, HasSufficientStatistics, Progress, Task
from expunge.farm.member import adapter_for
from expunge.farm.opened import open_data
from expunge.farm.tasks import key_of
from expunge.training.closed_form.recommender import MODEL

FUNCTION = "expunge.farm.parts:add_up"


def tasks_of(job: FitJob, named: Mapping[str, Any], *, parts: int, vocabulary: Path | None = None) -> list[Task]:
    """One task a part of the job's users. `named` is the data source as `open_data` takes it, `vocabulary` a JSON list
    of the items by column where these are frozen."""
    present = np.setdiff1d(np.arange(len(job.data.train)), sorted(job.absent))
    if not 1 <= parts <= max(len(present), 1):
        raise InputError("parts of a sum", expected=f"1 to {len(present)}", got=str(parts))
    common = {
        "recipe": encode(dict(job.recipe)),
        "data": encode(dict(named)),
        "vocabulary": None if vocabulary is None else str(vocabulary),
    }
    spans = [piece.tolist() for piece in np.array_split(present, parts)]
    return [
        Task(function=FUNCTION, arguments={**common, "slots": slots}, label=f"part {number + 1} of {parts}")
        for number, slots in enumerate(spans)
    ]


def add_up(arguments: Mapping[str, Any], home: Path, progress: Progress) -> dict[str, Any]:
    """The sums of one part's users, beside the result."""
    file = arguments["vocabulary"]
    items = None if file is None else loads(Path(str(file)).read_bytes(), what="vocabulary")
    data = open_data(arguments["data"], items)
    adapter = adapter_for(arguments["recipe"], data)
    slots = [int(slot) for slot in arguments["slots"]]
    sums = adapter.sums_of(adapter.matrix(data.train)[slots])
    return {"digest": adapter.store(home, adapter.packed(sums)), "users": len(slots)}


def fit_in_parts(
    adapter: Any, job: FitJob, tasks: Sequence[Task], *, executor: str, compute: Compute, folder: Path
) -> FitResult:
    """`adapter.fit(job)` with the sums added up by tasks; `folder` holds what they publish, and is the caller's to keep or
    destroy: parts are personal data."""
    if not isinstance(adapter, HasSufficientStatistics):
        raise InputError(f"family {job.recipe.get('family')} has no sums over users")
    started = time.perf_counter()
    results = registry.load("executors", executor)().run(tasks, folder, compute, job.progress)
    whole = None
    for task in tasks:
        home = folder / key_of(task)
        part = adapter.unpacked(adapter.stored(home / MODEL), MODEL)  # type: ignore[attr-defined]
        whole = part if whole is None else _added(whole, part)
    job.folder.mkdir(parents=True, exist_ok=True)
    derived = adapter.derived(adapter.rows(job), whole)  # type: ignore[attr-defined]
    digest = adapter.save(job.folder, whole, derived)  # type: ignore[attr-defined]
    return FitResult(
        digest=digest,
        model=job.folder / MODEL,
        transcript=None,
        seconds=time.perf_counter() - started,
        steps=sum(int(result["users"]) for result in results),
    )


def _added(whole: Any, part: Any) -> Any:
    """In place; sums are an array, or arrays by name. Raises InputError where the whole does not fit: each part may."""
    if isinstance(whole, dict):
        return {name: _added(found, part[name]) for name, found in whole.items()}
    whole += part
    if (whole < part).any():  # counts are 0 or more, so a sum below what was added has run over
        raise InputError("sums of the parts do not fit", expected=f"at most {np.iinfo(whole.dtype).max}")
    return whole
