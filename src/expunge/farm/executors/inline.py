"""Runs tasks one after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge.core.plan import Compute
from expunge.core.protocols import Progress, Task, silent
from expunge.farm.tasks import attempt, run_all


class Inline:
    """The simplest executor, and the twin of the others in the tests."""

    def run(
        self, tasks: Sequence[Task], folder: Path, compute: Compute, progress: Progress = silent
    ) -> list[Mapping[str, Any]]:
        """Results in the order of the tasks."""

        def one_by_one(numbers: list[int], report: Callable[[int, Mapping[str, Any] | None], None]) -> None:
            for number in numbers:
                report(number, attempt(tasks[number], folder))

        return run_all(tasks, folder, progress, one_by_one)
