"""The exact null, the same for every peer and for us: iid Gaussian scores and fair coins that know nothing of them.

Whoever claims membership here is wrong. Runs in the peer's Python: standard library and numpy only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

MARK = "expunge-result "
Method = Callable[[Any, Any, int], bool]


def draw(m: int, seed: int, repetition: int) -> tuple[Any, Any]:
    """m scores and m fair coins (bool, True = member); the same numbers whoever asks."""
    rng = np.random.default_rng([seed, m, repetition])
    return rng.standard_normal(m), rng.random(m) < 0.5


def measure(methods: Mapping[str, Method], job: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per method and m: how often it claimed membership, of how many repetitions; fewer where `seconds` run out.

    A method that cannot run gives a row that says why, at its first repetition.
    """
    return [_cell(name, method, int(m), job) for name, method in methods.items() for m in job["sizes"]]


def _cell(name: str, method: Method, m: int, job: Mapping[str, Any]) -> dict[str, Any]:
    start, flagged, runs = time.process_time(), 0, 0
    wanted = int(job["repetitions"])
    while runs < wanted and time.process_time() - start < float(job["seconds"]):
        scores, coins = draw(m, int(job["seed"]), runs)
        try:
            flagged += bool(method(scores, coins, runs))
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is its row
            return {"method": name, "m": m, "flagged": 0, "runs": 0, "cpu_seconds": 0.0, "why": _why(error)}
        runs += 1
    spent = round(time.process_time() - start, 2)
    return {"method": name, "m": m, "flagged": flagged, "runs": runs, "cpu_seconds": spent, "why": ""}


def main(
    methods: Callable[[str], Mapping[str, Method]], version: Callable[[str], str], arguments: Sequence[str]
) -> None:
    """What a peer's Python runs; the result is one marked line, so that a peer may print what it likes."""
    job = json.loads(arguments[0])
    result: dict[str, Any] = {"rows": [], "version": "", "why": ""}
    try:
        result["version"] = version(job["source"])
        result["rows"] = measure(methods(job["source"]), job)
    except Exception as error:  # noqa: BLE001 - a peer that cannot be imported is a row with the reason
        result["why"] = _why(error)
    sys.stdout.write("\n" + MARK + json.dumps(result) + "\n")


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
