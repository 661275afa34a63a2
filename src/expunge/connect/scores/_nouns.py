"""What a reader returns: scores of members and nonmembers, or signals of many models with their membership."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from expunge.stats.arrays import Bools, Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledScores:
    """One score a record, float64: `members` (n,) were trained on, `nonmembers` (m,) were not.

    Higher = more likely a member; a reader of losses has negated them. `meaning` names the score and its unit, `notes`
    say what the reader did to the tool's numbers.
    """

    members: Floats
    nonmembers: Floats
    meaning: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSignals:
    """Natural-log probabilities of the true class, float64, at most 0: `log_p` (M, N) of N records under M models.

    `member` (M, N) bool says which model trained on which record. `population` (M, Z): the same models on Z records
    that none trained on, or None. Higher = more likely a member.
    """

    log_p: Floats
    member: Bools
    population: Floats | None
    meaning: str
    notes: tuple[str, ...] = ()


Given = PooledScores | ModelSignals


@runtime_checkable
class ScoreReader(Protocol):
    """Reads what one tool writes. `layout` says in one line which files it takes."""

    layout: str

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """Whether these files look like this tool's, by their names and keys alone; cheap, and never raises."""

    def read(self, files: tuple[Path, ...]) -> Given:
        """The arrays. Raises InputProblems with everything that is wrong with them."""
