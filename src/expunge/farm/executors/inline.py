"""Runs tasks one after the other in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge.core.plan import Compute
from expunge.core.protocols import Progress, Task, silent
from expunge.farm.tasks import run_task


class Inline:
    """The simplest executor, and the twin of the others in the tests."""

    def run(
        self, tasks: Sequence[Task], folder: Path, compute: Compute, progress: Progress = silent
    ) -> list[Mapping[str, Any]]:
        """Results in the order of the tasks."""
        results = []
        for done, task in enumerate(tasks):
            progress("models", done, len(tasks))
            results.append(run_task(task, folder))
        progress("models", len(tasks), len(tasks))
        return results
