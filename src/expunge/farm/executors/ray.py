"""Runs tasks on Ray: a private local one (`ray://local`), or a running cluster (`ray://HOST:PORT`)."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from expunge.core.codec import canonical, encode, loads
from expunge.core.errors import ExpungeError, InputError, MissingExtra
from expunge.core.plan import Compute
from expunge.core.protocols import Progress, Task, silent
from expunge.farm.tasks import attempt, run_all

_LOOPBACK = "127.0.0.1"
_imported: dict[str, bool] = {}  # did this module import ray, and for a local one?


class Ray:
    """`compute.processes` tasks at a time, one core each, on the Ray at `compute.address`; the default is a local one.

    The token is always on and usage statistics always off. A local Ray has a fresh token in a private folder, listens on
    the loopback interface only, starts no dashboard, and ends with the run. A cluster must have been started with
    `RAY_AUTH_MODE=token`; its machines need expunge and the workspace's folder under the same path (a shared disk).
    Traffic to a cluster is authenticated and not encrypted (Ray's documentation): keep it on a private network.
    """

    def run(
        self, tasks: Sequence[Task], folder: Path, compute: Compute, progress: Progress = silent
    ) -> list[Mapping[str, Any]]:
        """Results in the order of the tasks; the first failure stops the rest and is raised."""
        address = compute.address or "local"

        def on_ray(numbers: list[int], report: Callable[[int, Mapping[str, Any] | None], None]) -> None:
            with _connected(address, compute.processes) as ray:
                _round(ray, tasks, folder, compute.processes, numbers, report)

        return run_all(tasks, folder, progress, on_ray)


def _round(
    ray: Any,
    tasks: Sequence[Task],
    folder: Path,
    width: int,
    numbers: list[int],
    report: Callable[[int, Mapping[str, Any] | None], None],
) -> None:
    remote = ray.remote(num_cpus=1, max_retries=0)(_work)
    waiting = list(numbers)
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < width:
                number = waiting.pop(0)
                running[remote.remote(canonical(encode(tasks[number])), str(folder.resolve()))] = number
            ended, _ = ray.wait(list(running), num_returns=1)
            report(running.pop(ended[0]), _answer(ray, ended[0]))
    except BaseException:
        for reference in running:
            ray.cancel(reference, force=True)
        raise


def _work(task: bytes, folder: str) -> bytes:
    """What a Ray worker runs: JSON in, JSON out."""
    plain = loads(task, what="task")
    return canonical(attempt(Task(**plain), Path(folder)))


def _answer(ray: Any, reference: Any) -> Mapping[str, Any] | None:
    try:
        return loads(ray.get(reference))  # type: ignore[no-any-return]
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise ExpungeError(
            "a worker process died",
            got=str(error).strip().splitlines()[0][:200],
            hint="run again: what is finished is kept; use fewer workers if memory ran out",
            code="worker-died",
        ) from error


# ------------------------------------------------------------------------------------------------------------- a Ray


@contextmanager
def _connected(address: str, workers: int) -> Iterator[Any]:
    """Ray for the length of a run; the environment is as it was afterwards."""
    before = _settings()
    scratch = Path(tempfile.mkdtemp(prefix="expunge-ray-")) if address == "local" else None
    try:
        ray = _import(scratch)
        if ray.is_initialized():
            raise InputError("this process already uses a Ray", hint="call ray.shutdown() first, or use process://")
        try:
            _start(ray, address, workers, scratch)
            yield ray
        finally:
            ray.shutdown()
    finally:
        for name in _settings():
            del os.environ[name]
        os.environ |= before
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}


def _import(scratch: Path | None) -> Any:
    """Ray with the token on. Ray reads these settings when it is imported, so they are set before."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if scratch is None and mode not in (None, "token"):
        raise InputError(
            "Ray without authentication runs anybody's code",
            expected="RAY_AUTH_MODE=token",
            got=f"RAY_AUTH_MODE={mode}",
        )
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    if scratch is not None:
        token = scratch / "token"
        token.write_text(_token(), encoding="ascii")
        token.chmod(0o600)
        os.environ.pop("RAY_AUTH_TOKEN", None)
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    with _loopback(scratch is not None):
        return _module(local=scratch is not None)


@cache
def _token() -> str:
    """One token a process: Ray reads it once, however often it is started."""
    return secrets.token_hex(32)


@contextmanager
def _loopback(wanted: bool) -> Iterator[None]:
    """Ray listens on the loopback interface when it believes it cannot form a cluster, as on macOS and Windows."""
    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before = os.environ.get(name)
    if wanted:
        os.environ[name] = "0"
    try:
        yield
    finally:
        os.environ.pop(name, None)
        os.environ.update({} if before is None else {name: before})


def _module(*, local: bool) -> Any:
    """Ray as it was imported here: settings of an earlier import by somebody else, or for the other kind, would hold."""
    if sys.modules.get("ray") is not None and _imported.get("local") is not local:
        raise InputError(
            "this process has imported ray with other settings",
            expected="ray imported by this executor, with the token on and for the same kind of place",
            hint="use a process of its own, or process://?n=2",
        )
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtra(f"executors/ray (module {error.name})", "ray") from error
    _imported["local"] = local
    return ray


def _start(ray: Any, address: str, workers: int, scratch: Path | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if scratch is None:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:  # Ray's authentication error is a RuntimeError
            raise InputError(
                f"cannot join the Ray at {address}",
                got=str(error).strip().splitlines()[0][:200],
                hint="is it running with RAY_AUTH_MODE=token, and is its token in RAY_AUTH_TOKEN_PATH?",
            ) from error
        return
    ray.init(
        address="local",
        num_cpus=workers,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=80 * 1024 * 1024,  # tasks pass a few bytes; arrays travel through the bank's folder
        _temp_dir=str(scratch),
        **quiet,
    )
    open_to = {node["NodeManagerAddress"] for node in ray.nodes()} - {_LOOPBACK}
    if open_to:
        raise ExpungeError(
            "the local Ray listens beyond this machine, so nothing was run on it",
            expected=_LOOPBACK,
            got=", ".join(sorted(open_to)),
            hint="use process://?n=2",
        )
