"""Content-addressed tasks: a function by name, JSON arguments, a published JSON result. No pickled closures.

A result is published by an atomic rename, so a killed run loses nothing that was published and repeats nothing.
"""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.core.codec import canonical, digest_of, encode, loads
from expunge.core.errors import InputError
from expunge.core.protocols import Progress, Task, silent

RESULT = "result.json"


def key_of(task: Task) -> str:
    """Hex digest of function and arguments; the label does not count."""
    return digest_of({"function": task.function, "arguments": encode(task.arguments)}).removeprefix("sha256:")


def published(task: Task, folder: Path) -> Mapping[str, Any] | None:
    """The task's result if it was published before."""
    file = folder / key_of(task) / RESULT
    if not file.exists():
        return None
    result: Mapping[str, Any] = loads(file.read_bytes(), what=f"result of {task.label or task.function}")
    return result


def run_task(task: Task, folder: Path, progress: Progress = silent) -> Mapping[str, Any]:
    """Run and publish one task, or return what was published before."""
    before = published(task, folder)
    if before is not None:
        return before
    home = folder / key_of(task)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    result = encode(_function(task.function)(task.arguments, home, progress))
    temporary = home / f".{RESULT}.{os.getpid()}"
    temporary.write_bytes(canonical(result))
    os.replace(temporary, home / RESULT)
    return loads(canonical(result))  # type: ignore[no-any-return]


def discard(task: Task, folder: Path) -> None:
    """Remove everything a task left, its result too."""
    shutil.rmtree(folder / key_of(task), ignore_errors=True)


def _function(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module.startswith("expunge.") or not attribute:
        raise InputError("tasks are functions of this package", expected="expunge.module:function", got=name)
    return getattr(importlib.import_module(module), attribute)
