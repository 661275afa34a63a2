"""Runs tasks on a pool of processes of one machine."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from expunge.core.errors import ExpungeError
from expunge.core.plan import Compute
from expunge.core.protocols import Progress, Task, silent
from expunge.farm.tasks import attempt, run_all


class Process:
    """`compute.processes` spawned workers; each result is published by its worker as soon as it is there."""

    def run(
        self, tasks: Sequence[Task], folder: Path, compute: Compute, progress: Progress = silent
    ) -> list[Mapping[str, Any]]:
        """Results in the order of the tasks; the first failure stops the rest and is raised."""
        context = multiprocessing.get_context("spawn")

        def pooled(numbers: list[int], report: Callable[[int, Mapping[str, Any] | None], None]) -> None:
            workers = min(compute.processes, len(numbers))
            with ProcessPoolExecutor(workers, context, initializer=_watch, initargs=(os.getpid(),)) as pool:
                try:  # a worker may die while the later tasks are still being handed in
                    futures = {pool.submit(attempt, tasks[number], folder): number for number in numbers}
                    for future in as_completed(futures):
                        report(futures[future], future.result())
                except BrokenProcessPool as error:
                    raise ExpungeError(
                        "a worker process died",
                        hint="run again: what is finished is kept; use fewer processes if memory ran out",
                        code="worker-died",
                    ) from error
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise

        return run_all(tasks, folder, progress, pooled)


def _watch(parent: int) -> None:
    """End this worker when its parent is gone: a killed build must leave nobody behind who writes into its folder."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
