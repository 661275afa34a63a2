"""The one switch that says where tasks run: `inline://`, `process://?n=2`, `ray://local?n=2`, `ray://HOST:PORT?n=2`.

It changes how fast, never what: results are the same on every engine, and nothing of it is hashed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from expunge.core import registry
from expunge.core.errors import InputProblems, RegistryError
from expunge.core.plan import Compute

EXPECTED = "inline://, process://?n=2, ray://local?n=2 or ray://HOST:PORT?n=2"
DEFAULT_N = {"inline": 1}
MAX_N = 256
_PLACE = re.compile(r"(local|[A-Za-z0-9.-]+:\d{1,5}|\[[0-9A-Fa-f:]+\]:\d{1,5})\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """`executor` is a plug-in's name; `compute` says how many workers, and where."""

    executor: str
    compute: Compute = field(default_factory=Compute)

    @property
    def uri(self) -> str:
        """The switch that gives this engine."""
        place = self.compute.address or ""
        return f"{self.executor}://{place}" + ("" if self.executor == "inline" else f"?n={self.compute.processes}")


def parse_engine(text: str) -> Engine:
    """The engine a switch names. Raises InputProblems that lists everything wrong with it."""
    problems = []
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InputProblems("engine", [f"{text!r}: {error}"], hint=f"an engine is {EXPECTED}", code="engine") from error
    if not text.startswith(f"{parts.scheme}://") or parts.path or parts.fragment:
        problems.append(f"{text!r} is not EXECUTOR://PLACE?n=WORKERS")
    else:
        try:
            registry.find("executors", parts.scheme)
        except RegistryError:
            problems.append(f"{parts.scheme!r} is no executor; there are {', '.join(registry.names('executors'))}")
    if parts.scheme in ("inline", "process") and parts.netloc:
        problems.append(f"{parts.scheme} runs on this machine and takes no place, got {parts.netloc!r}")
    if parts.scheme == "ray" and not _PLACE.match(parts.netloc):
        problems.append(f"ray needs `local` or HOST:PORT, got {parts.netloc!r}")
    workers = _workers(parts.scheme, parts.query, problems)
    if problems:
        raise InputProblems("engine", problems, hint=f"an engine is {EXPECTED}", code="engine")
    return Engine(executor=parts.scheme, compute=Compute(processes=workers, address=parts.netloc or None))


def _workers(scheme: str, query: str, problems: list[str]) -> int:
    options = parse_qsl(query, keep_blank_values=True)
    unknown = [name for name, _ in options if name != "n"]
    given = [value for name, value in options if name == "n"]
    default = DEFAULT_N.get(scheme, 2)
    if unknown:
        problems.append(f"unknown options {', '.join(unknown)}; only n is known")
    if len(given) > 1:
        problems.append("n is given twice")
    if not given:
        return default
    if not given[0].isascii() or not given[0].isdigit() or not 1 <= int(given[0][:6]) <= MAX_N:
        problems.append(f"n is a number of workers from 1 to {MAX_N}, got {given[0]!r}")
        return default
    if scheme == "inline" and int(given[0]) != 1:
        problems.append("inline is one worker, this process; use process://?n=2 for more")
    return int(given[0])
