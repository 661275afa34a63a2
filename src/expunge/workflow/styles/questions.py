"""Questions about styles and their answers, as the log has them; findings lie in files that the log has the digests of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.codec import decode, digest_of, loads
from expunge.core.errors import IntegrityError
from expunge.core.finding import Finding, Verdict
from expunge.evidence.not_learned import ASKED, FOUND

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.workspace import Workspace

FINDING = "finding.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What was found about a style on the served model: `index` of the question in the log, `battery` its digest there; `others`:
    what came of every other question about the style on this model, in the log's order; `withdrawn`: cases whose statement this
    answer has put an end to."""

    finding: Finding
    battery: str
    index: int
    attempt: int
    others: tuple[str, ...]
    folder: Path
    withdrawn: tuple[str, ...] = ()

    @property
    def learned(self) -> bool:
        """Anything but a shown "not learned" counts as learned: what was not shown excuses nobody."""
        return self.finding.verdict is not Verdict.PASS


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An answered question as the log has it."""

    index: int
    battery: str
    attempt: int
    finding: str
    verdict: str
    others: tuple[str, ...]

    def read(self, workspace: Workspace) -> Answered:
        """With the finding itself. Raises IntegrityError where its file is another one."""
        folder = folder_of(workspace, self.battery)
        finding = decode(Finding, loads((folder / FINDING).read_bytes(), what=FINDING), what=FINDING)
        if digest_of(finding) != self.finding:
            raise IntegrityError("the answer about a style is not the one that was logged", expected=self.finding)
        return Answered(
            finding=finding,
            battery=self.battery,
            index=self.index,
            attempt=self.attempt,
            others=self.others,
            folder=folder,
        )


def asked_about(workspace: Workspace, style: str, model: str) -> list[Entry]:
    """Every question about a style (its handle) on a model, oldest first."""
    entries = [entry for entry in workspace.log.entries() if entry.kind == ASKED]
    return [entry for entry in entries if (entry.payload["style"], entry.payload["model"]) == (style, model)]


def told_of(workspace: Workspace, asked: Sequence[Entry]) -> dict[int, Entry]:
    """Index of a question -> its answer, where it has one. Raises IntegrityError where it has several: the log is the owner's to
    write, and a second answer could not take back the first."""
    told: dict[tuple[str, int], Entry] = {}
    for entry in workspace.log.entries():
        if entry.kind == FOUND and told.setdefault(_which(entry), entry) is not entry:
            raise IntegrityError("the log has two answers to one question about a style", got=f"index {entry.index}")
    return {entry.index: told[_which(entry)] for entry in asked if _which(entry) in told}


def answers(workspace: Workspace, style: str, model: str) -> list[Told]:
    """Every answered question about a style on a model, oldest first."""
    asked = asked_about(workspace, style, model)
    told = {index: entry.payload for index, entry in told_of(workspace, asked).items()}
    return [
        Told(
            index=entry.index,
            battery=str(entry.payload["battery"]),
            attempt=int(entry.payload["attempt"]),
            finding=str(told[entry.index]["finding"]),
            verdict=str(told[entry.index]["verdict"]),
            others=tuple(str(said["verdict"]) for index, said in told.items() if index != entry.index),
        )
        for entry in asked
        if entry.index in told
    ]


def unanswered(workspace: Workspace, style: str, model: str) -> list[Entry]:
    """Questions about a style on a model that were killed before they told, oldest first."""
    asked = asked_about(workspace, style, model)
    told = told_of(workspace, asked)
    return [entry for entry in asked if entry.index not in told]


def folder_of(workspace: Workspace, battery: str) -> Path:
    """Where what was asked and found lies: private."""
    return workspace.root / "store" / "baselines" / battery.removeprefix("sha256:")[:32]


def _which(entry: Entry) -> tuple[str, int]:
    """A question, as the log tells it from others."""
    return str(entry.payload["battery"]), int(entry.payload["attempt"])
