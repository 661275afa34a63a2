"""`expunge bench auditors`: false-positive rates of audit libraries, and ours, under an exact null.

The libraries are nobody's dependencies: each runs in a Python that the user names, as a separate process, from text.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import expunge
from expunge.apps.bench.drivers.loop import MARK, measure
from expunge.apps.bench.null import our_methods, per_record
from expunge.core.errors import InputError
from expunge.core.protocols import Progress, silent
from expunge.stats.intervals import clopper_pearson

PEERS = (
    "jax_privacy",
    "tensorflow_privacy",
    "privacy_meter",
    "opake_auditing",
    "adversarial_robustness_toolbox",
)
SIZES = (100, 1000, 5000)
NOMINAL = 0.05
OURS = "expunge"
_HOURS = 4 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`repetitions` a cell, fewer when a cell's CPU `seconds` run out; `peers` name -> Python, `sources` name -> folder."""

    repetitions: int = 1000
    seconds: float = 120.0
    seed: int = 0
    sizes: tuple[int, ...] = SIZES
    peers: Mapping[str, str]
    sources: Mapping[str, str]

    def __post_init__(self) -> None:
        unknown = sorted({*self.peers, *self.sources} - set(PEERS))
        if unknown:
            raise InputError("no driver for these peers", expected=", ".join(PEERS), got=", ".join(unknown))
        if self.repetitions < 1 or self.seconds <= 0 or min(self.sizes) < 50:
            raise InputError("repetitions, seconds above 0 and sizes from 50 expected", got=str(self)[:120])


def run(job: Job, progress: Progress = silent) -> dict[str, Any]:
    """The whole result: ours first, then every peer, measured or with the reason why not."""
    settings = {"repetitions": job.repetitions, "seconds": job.seconds, "seed": job.seed, "sizes": list(job.sizes)}
    libraries: list[dict[str, Any]] = []
    for done, name in enumerate((OURS, *PEERS)):
        progress("auditors", done, len(PEERS) + 1)
        libraries.append(_ours(settings) if name == OURS else _peer(name, job, settings))
    progress("auditors", len(PEERS) + 1, len(PEERS) + 1)
    return {
        "nominal": NOMINAL,
        "settings": settings,
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()},
        "libraries": libraries,
        "per_record": [_with_interval(row) for row in per_record(20 * job.repetitions, job.seed)],
    }


def _ours(settings: Mapping[str, Any]) -> dict[str, Any]:
    rows = measure(our_methods(), settings)
    return {"name": OURS, "version": expunge.__version__, "why": "", "rows": [_with_interval(row) for row in rows]}


def _peer(name: str, job: Job, settings: Mapping[str, Any]) -> dict[str, Any]:
    python, empty = job.peers.get(name), {"name": name, "version": "", "rows": []}
    if python is None:
        return {**empty, "why": f"not measured: no Python was given (--peer {name}=PYTHON)"}
    source = job.sources.get(name, "")
    argument = json.dumps({**settings, "source": str(Path(source).resolve()) if source else ""})
    cells = len(job.sizes) * 10
    try:
        done = subprocess.run(
            [python, "-I", "-", argument],
            input=driver_text(name),
            capture_output=True,
            text=True,
            timeout=min(_HOURS, 300 + 4 * cells * job.seconds),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {**empty, "why": f"{type(error).__name__}: {error}"[:200]}
    found = _result(done.stdout)
    if found is None:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        return {**empty, "why": f"exit {done.returncode}: {last}"[:200]}
    return {
        "name": name,
        "version": str(found["version"]),
        "why": str(found["why"]),
        "rows": [_with_interval(row) for row in found["rows"]],
    }


def driver_text(name: str) -> str:
    """What the peer's Python is given on its standard input."""
    folder = resources.files("expunge.apps.bench.drivers")
    loop, driver = ((folder / f"{part}.py").read_text(encoding="utf-8") for part in ("loop", name))
    return f"{loop}\n\n{driver}\n\nmain(methods, version, sys.argv[1:])\n"


def _result(text: str) -> dict[str, Any] | None:
    """The marked line, if a whole one is there."""
    lines = [line for line in text.splitlines() if line.startswith(MARK)]
    try:
        found = json.loads(lines[-1].removeprefix(MARK))
        whole = isinstance(found["rows"], list) and "version" in found and "why" in found
    except (IndexError, ValueError, TypeError, KeyError):
        return None
    return found if whole else None


def _with_interval(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its share and exact 95 % interval; without, where nothing was run."""
    if not row["runs"]:
        return dict(row)
    share = clopper_pearson(int(row["flagged"]), int(row["runs"]))
    return {**row, "share": share.estimate, "low": share.low, "high": share.high}


def verdict_of(rows: Sequence[Mapping[str, Any]], cells: int) -> str:
    """`invalid` when a rate lies above the nominal 5 %, with an error of 5 % for all `cells` of the table together;
    `too few runs` where even a share of one half could not show it, else `no excess`; nothing without rows."""
    measured = [row for row in rows if row["runs"]]
    if not measured:
        return ""
    if any(_above(int(row["flagged"]), int(row["runs"]), cells) for row in measured):
        return "invalid"
    few = any(not _above(int(row["runs"]) // 2, int(row["runs"]), cells) for row in measured)
    return "too few runs" if few else "no excess"


def _above(flagged: int, runs: int, cells: int) -> bool:
    return (clopper_pearson(flagged, runs, 1 - 0.05 / cells).low or 0.0) > NOMINAL
