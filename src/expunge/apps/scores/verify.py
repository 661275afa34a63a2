"""Which reader takes the files, and which verdict its arrays allow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expunge.apps.scores.answer import Answer
from expunge.apps.scores.arms import judge_arms
from expunge.apps.scores.bank import ATTACKS, judge_bank
from expunge.apps.scores.pooled import judge_pooled
from expunge.connect.scores import PooledScores, ScoreReader, read_arms
from expunge.core import registry
from expunge.core.errors import CheckBroken, InputError


def verify_files(
    files: Sequence[Path], *, reader: str | None, seed: int, coins: bool, attacks: Sequence[str] = ATTACKS
) -> Answer:
    """One run of another tool. Raises InputError, with all problems, when the files are not what a reader takes."""
    chosen = tuple(files)
    missing = [str(file) for file in chosen if not file.exists()]
    if missing or not chosen:
        raise InputError("no such file", got=", ".join(missing) or "nothing", expected="files of one run")
    name = reader or _recognised(chosen)
    plugin: ScoreReader = registry.load("scores", name)()
    given = plugin.read(chosen)
    source = f"{', '.join(file.name for file in chosen)}, read as {name}"
    try:
        if isinstance(given, PooledScores):
            return judge_pooled(given, source=source, seed=seed, coins=coins)
        return judge_bank(given, source=source, attacks=attacks)
    except CheckBroken as broken:
        raise _as_input(broken) from broken


def verify_arms(out: Path, into: Path, unlearned: Path | None, *, seed: int, margin: float | None) -> Answer:
    """Three arms; without the unlearned one only what the assay sees."""
    names = ", ".join(file.name for file in (out, into, unlearned) if file is not None)
    try:
        return judge_arms(read_arms(out, into, unlearned), source=f"{names}, three arms", seed=seed, margin=margin)
    except CheckBroken as broken:
        raise _as_input(broken) from broken


def _recognised(files: tuple[Path, ...]) -> str:
    readers = {name: registry.load("scores", name)() for name in registry.names("scores")}
    taking = [name for name, reader in readers.items() if reader.recognises(files)]
    if len(taking) != 1:
        layouts = "; ".join(f"{name}: {reader.layout}" for name, reader in readers.items())
        what = "more than one reader takes these files" if taking else "no reader takes these files"
        raise InputError(what, expected=layouts, got=", ".join(taking) or ", ".join(f.name for f in files))
    return taking[0]


def _as_input(broken: CheckBroken) -> InputError:
    """The arrays came from outside: what breaks a statistic here is the input, not us."""
    return InputError(broken.message, expected=broken.expected, got=broken.got, hint=broken.hint)
