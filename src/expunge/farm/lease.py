"""Leases: who works on a task. One holder at a time; a dead or silent holder is replaced; what is published wins.

A lease is a file `lease-<number>.json` in the task's folder, linked into place with its content, so that of several
builders exactly one gets a number. Its content names the holder, its expiry is its age: a heartbeat touches it. Whoever
finds the newest lease abandoned takes the next number; a holder that was silent too long finds a higher number than
its own and stops. On one machine a dead holder is noticed at once; between machines after `seconds` without a
heartbeat, by the clock of the shared disk, so clocks must agree to within that.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from expunge.core.codec import canonical, loads
from expunge.core.errors import InputError, LeaseLost
from expunge.core.protocols import Progress

SECONDS = 120.0
BEATS = 6  # heartbeats in the life of a lease


class Lease:
    """The right to work on one task; a context that beats while it is open and gives the right back when it closes."""

    def __init__(self, path: Path, token: str, seconds: float) -> None:
        self.path = path
        self._token = token
        self._seconds = seconds
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    @classmethod
    def take(cls, home: Path, seconds: float = SECONDS) -> Lease | None:
        """The lease of the task in `home`, or None while another holder is alive and beating."""
        newest = _newest(home)
        if busy(home):
            return None
        token = secrets.token_hex(16)
        plain = {"token": token, "host": _host(), "pid": os.getpid(), "born": _born(os.getpid())}
        plain["milliseconds"] = round(seconds * 1000)
        draft = home / f".lease.{token}"
        draft.write_bytes(canonical(plain))
        draft.chmod(0o600)
        mine = _path(home, newest + 1)
        try:
            os.link(draft, mine)
        except FileExistsError:
            return None
        finally:
            draft.unlink()
        return cls(mine, token, seconds)

    def __enter__(self) -> Self:
        self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._heart.join()
        if self.held():
            for file in sorted(self.path.parent.glob("lease-*.json")):
                file.unlink(missing_ok=True)

    def held(self) -> bool:
        """Is this still the newest lease of the task?"""
        found = _read(self.path)
        newest = _path(self.path.parent, _newest(self.path.parent))
        return found is not None and found["token"] == self._token and newest == self.path

    def check(self) -> None:
        """Raises LeaseLost when another holder took over: it has the task now, and publishes it."""
        if not self.held():
            raise LeaseLost(
                "another worker took this task over, because this one was silent for too long",
                hint="nothing is lost; the other worker publishes the result",
            )

    def guarded(self, progress: Progress) -> Progress:
        """A progress callback that stops the work soon after the lease is lost."""

        def show(what: str, done: int, total: int) -> None:
            if self._stop.is_set():
                self.check()
            progress(what, done, total)

        return show

    def _beat(self) -> None:
        while not self._stop.wait(self._seconds / BEATS):
            if not self.held():
                self._stop.set()
                return
            with suppress(FileNotFoundError):
                os.utime(self.path)


def busy(home: Path) -> bool:
    """Is somebody alive working on the task in `home`?"""
    newest = _newest(home)
    return bool(newest) and not _abandoned(_path(home, newest))


def _path(home: Path, number: int) -> Path:
    return home / f"lease-{number:06d}.json"


def _newest(home: Path) -> int:
    return max((int(file.stem.removeprefix("lease-")) for file in home.glob("lease-*.json")), default=0)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        plain = loads(path.read_bytes(), what=path.name)
        return plain if {"token", "host", "pid", "born", "milliseconds"} <= set(plain) else None
    except (FileNotFoundError, InputError):
        return None


def _abandoned(path: Path) -> bool:
    """Gone, given back, silent for longer than it lives, or held by a process of this machine that is dead."""
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return True
    holder = _read(path)
    if holder is None:
        return age > SECONDS
    if age > holder["milliseconds"] / 1000:
        return True
    return bool(holder["host"] == _host() and _born(holder["pid"]) != holder["born"])


def _host() -> str:
    """This machine, and the process namespace in which its process numbers mean something."""
    try:
        return f"{platform.node()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _born(pid: int) -> int:
    """Start time of a process in clock ticks, so that a reused number is not taken for its former owner; -1 = dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return -1 if Path("/proc/self/stat").exists() else _alive(pid)
    return -1 if fields[0] == "Z" else int(fields[19])


def _alive(pid: int) -> int:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return -1
    except PermissionError:
        pass
    return 0
