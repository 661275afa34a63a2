"""Content-addressed tasks: a function by name, JSON arguments, a published JSON result. No pickled closures.

A result is published by an atomic rename, so a killed run loses nothing that was published and repeats nothing. A task
is leased while it is worked on, so two builders on one folder never do the same work twice. Beside every result stands
a manifest of the records it saw; a cached result that saw an erased record is refused.
"""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from expunge.core.codec import canonical, digest_of, encode, loads
from expunge.core.errors import InputError
from expunge.core.protocols import Progress, Task, silent
from expunge.evidence.durable import write_file
from expunge.farm.lease import Lease, busy
from expunge.farm.manifest import Manifest, Seen, refuse_erased, result_digest

RESULT = "result.json"
DESIGN = "design.npz"
WAIT = 0.2  # seconds between two looks at a task that another builder has leased


def key_of(task: Task) -> str:
    """Hex digest of function and arguments; the label does not count."""
    return digest_of({"function": task.function, "arguments": encode(task.arguments)}).removeprefix("sha256:")


def published(task: Task, folder: Path, erased: Collection[int] = ()) -> Mapping[str, Any] | None:
    """The task's result if it was published before.

    Raises ErasedRecord when its manifest contains a slot of `erased`, or says nothing while there are such slots.
    """
    file = folder / key_of(task) / RESULT
    if not file.exists():
        return None
    data = file.read_bytes()
    result: Mapping[str, Any] = loads(data, what=f"result of {task.label or task.function}")
    refuse_erased(file.parent, data, file.parent.name, erased)
    return result


def attempt(
    task: Task, folder: Path, progress: Progress = silent, erased: Collection[int] = ()
) -> Mapping[str, Any] | None:
    """Run and publish one task, or return what was published before; None while another builder works on it.

    Raises LeaseLost when another builder took the task over, because this one was silent for too long.
    """
    before = published(task, folder, erased)
    if before is not None:
        return before
    home = folder / key_of(task)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lease = Lease.take(home)
    if lease is None:
        return None
    with lease:
        before = published(task, folder, erased)  # the holder before this one may have finished
        if before is not None:
            return before
        result = canonical(encode(_function(task.function)(task.arguments, home, lease.guarded(progress))))
        lease.check()
        _publish(task, home, result)
    return loads(result)  # type: ignore[no-any-return]


def run_task(task: Task, folder: Path, progress: Progress = silent, erased: Collection[int] = ()) -> Mapping[str, Any]:
    """Like `attempt`, but waits for another builder that works on the task, and takes over if it dies."""
    while (result := attempt(task, folder, progress, erased)) is None:
        time.sleep(WAIT)
    return result


def run_all(
    tasks: Sequence[Task],
    folder: Path,
    progress: Progress,
    round_of: Callable[[list[int], Callable[[int, Mapping[str, Any] | None], None]], None],
) -> list[Mapping[str, Any]]:
    """What executors share: results in the order of the tasks, rounds until everything is published.

    `round_of(numbers, report)` runs `attempt` on tasks by number and reports each outcome, None when another builder
    got there first. What others have leased waits until they publish it or their lease is abandoned.
    """
    results: list[Mapping[str, Any] | None] = [None] * len(tasks)

    def report(number: int, result: Mapping[str, Any] | None) -> None:
        results[number] = result
        if result is not None:
            progress("models", sum(found is not None for found in results), len(tasks))

    progress("models", 0, len(tasks))
    while todo := [number for number, result in enumerate(results) if result is None]:
        for number in todo:
            report(number, published(tasks[number], folder))
        free = [n for n in todo if results[n] is None and not busy(folder / key_of(tasks[n]))]
        if free:
            round_of(free, report)
        elif None in results:
            time.sleep(WAIT)
    return [result for result in results if result is not None]


def discard(task: Task, folder: Path) -> None:
    """Remove everything a task left, its result too."""
    shutil.rmtree(folder / key_of(task), ignore_errors=True)


def _publish(task: Task, home: Path, result: bytes) -> None:
    """Manifest first: a result that can be found has one."""
    seen = _seen(task, home.parent)
    Manifest(function=task.function, key=home.name, result=result_digest(result), seen=seen).write(home)
    write_file(home / RESULT, result, mode=0o600)


def _seen(task: Task, folder: Path) -> Seen | None:
    """Slots a task's result derives from: those of the bank members it trains, starts from or compares with.

    A partner that is no member, such as the model in service, may have seen everybody. None (unknown, hence refused once
    anything was erased) for a task that names no member of a bank.
    """
    file = folder / DESIGN
    kind, number = str(task.arguments.get("kind", "bank")), task.arguments.get("number")
    partner = task.arguments.get("partner")
    if number is None or not file.exists():
        return None
    with np.load(file, allow_pickle=False) as design:
        mask = design[kind][int(number)]
        if isinstance(partner, int):
            mask = mask | design["bank"][partner]
        return Seen.of(mask | True if isinstance(partner, str) else mask)


def _function(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module.startswith("expunge.") or not attribute:
        raise InputError("tasks are functions of this package", expected="expunge.module:function", got=name)
    return getattr(importlib.import_module(module), attribute)
