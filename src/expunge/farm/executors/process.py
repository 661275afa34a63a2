"""Runs tasks on a pool of processes of one machine."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from expunge.core.errors import ExpungeError
from expunge.core.plan import Compute
from expunge.core.protocols import Progress, Task, silent
from expunge.farm.opened import adopt, shared
from expunge.farm.tasks import attempt, run_all

_TRIM, _TOP_PAD, _MMAP = -1, -2, -3  # malloc.h


class Process:
    """`compute.processes` spawned workers; each result is published by its worker as soon as it is there."""

    def run(
        self, tasks: Sequence[Task], folder: Path, compute: Compute, progress: Progress = silent
    ) -> list[Mapping[str, Any]]:
        """Results in the order of the tasks; the first failure stops the rest and is raised."""
        context = multiprocessing.get_context("spawn")

        def pooled(numbers: list[int], report: Callable[[int, Mapping[str, Any] | None], None]) -> None:
            workers = min(compute.processes, len(numbers))
            with shared() as data, ProcessPoolExecutor(workers, context, _start, (os.getpid(), data)) as pool:
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


def _start(parent: int, data: Connection | None) -> None:
    """What a worker does first."""
    _watch(parent)
    _keep_heap()
    adopt(data)


def _watch(parent: int) -> None:
    """End this worker when its parent is gone: a killed build must leave nobody behind who writes into its folder."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def _keep_heap() -> None:
    """Let glibc keep freed memory: a training asks for the same tensors at every step, and mapping them anew each time
    costs page faults. Values of mallopt(3): no top trimming below 2 GB, heap instead of mmap up to 32 MB, which is
    the most that glibc allows, growth by 256 MB. Without glibc, nothing is changed.
    """
    try:
        tune = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in ((_TRIM, (1 << 31) - 1), (_MMAP, 32 << 20), (_TOP_PAD, 256 << 20)):
        tune(parameter, value)
