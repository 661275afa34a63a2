"""A workspace on which anything may be tried: same data, bank, model and policy; the log is a scratch one.

Nothing tried here enters the real log, so no cheat can be mistaken for a case and no attempt is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expunge.core.codec import canonical, digest_of, encode
from expunge.core.request import DeletionRequest, Selector
from expunge.evidence.commitment import KeyFile
from expunge.evidence.durable import write_file
from expunge.evidence.log import AuditLog
from expunge.evidence.signers.file import FileSigner
from expunge.farm.bank import Bank, Sketches
from expunge.workflow.config import ComputeTable, StylesTable
from expunge.workflow.intake import OpenCase, Resolution, resolve
from expunge.workflow.state import State
from expunge.workflow.workspace import Workspace

SMALL = 5.0  # seconds of the original's training below which starting processes costs more than it saves


class Rehearsal(Workspace):
    """Acts like the workspace `real` in everything but its log, which lies in `folder` with a key of its own.

    What the bank's members answer does not depend on who asks, so it is kept for the length of the rehearsal. `seed` is the
    root of all draws; `pairs` bounds how many complement pairs of the bank judge (pilot counts), `pictures` how many are
    drawn for a probe and seed, and of each retained style; None = all that a case would be judged by.
    """

    def __init__(
        self, real: Workspace, folder: Path, *, seed: str, pairs: int | None = None, pictures: int | None = None
    ) -> None:
        self.__dict__.update(real.__dict__)
        self._real = real
        self._answers: dict[str, Any] = {}
        self._bank: Bank | None = None
        self._counts = folder / "battery"
        self.seed, self.pairs = seed, pairs
        fewer = _fewer(real.config.styles, pictures)
        self.config = real.config.model_copy(
            update={"places": (), "artefacts": (), "styles": fewer}
        )  # they are, rightly
        if real.served().seconds < SMALL:
            self.config = self.config.model_copy(update={"compute": ComputeTable(engine="inline://")})
        FileSigner.create(folder / "log.pem")
        self.log = AuditLog(folder / "log.db", signer=FileSigner.open(f"file:{folder / 'log.pem'}"), origin=real.origin)

    def state(self) -> State:
        """What the real log says."""
        return self._real.state()

    def remembered(self, question: Any, ask: Callable[[], Any]) -> Any:
        """The answer given before to the same question."""
        key = digest_of(question)
        if key not in self._answers:
            self._answers[key] = ask()
        return self._answers[key]

    def counts_beside(self, folder: Path) -> Path:
        """One place for all: what the original draws does not depend on who is judged beside it."""
        return self._counts

    def canary_power(self) -> float | None:
        """Unknown: it is being measured."""
        return None

    def narrowed(self, bank: Bank) -> Bank:
        """The first `pairs` complement pairs, read from disk once."""
        if self._bank is None:
            self._bank = _Narrow(bank, bank.spec.pairs if self.pairs is None else self.pairs)
        return self._bank

    def close(self) -> None:
        """Close the scratch log; the real workspace stays open."""
        self._answers.clear()
        self.log.close()


def _fewer(styles: StylesTable, pictures: int | None) -> StylesTable:
    if pictures is None:
        return styles
    most = {"pictures": min(styles.pictures, pictures), "retained": min(styles.retained, pictures)}
    return styles.model_copy(update=most)


class _Narrow(Bank):
    """The first complement pairs of a bank, and all its anchors."""

    def __init__(self, bank: Bank, pairs: int) -> None:
        super().__init__(bank.spec, bank.folder, bank.blocks)
        self._pairs = pairs
        self._read: dict[str, Any] = {}

    def sketches(self, kind: str = "bank") -> Sketches:
        """Read once: nothing changes a bank while the cheats are tried on it."""
        if kind not in self._read:
            self._read[kind] = super().sketches(kind)
        found: Sketches = self._read[kind]
        return found

    @property
    def judging(self) -> int:
        """The first pairs only."""
        return min(self._pairs, self.spec.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """A surrogate block as a case of the rehearsal: what a request about it would be resolved to."""

    case: OpenCase
    resolution: Resolution


def rehearsed(workspace: Rehearsal, folder: Path, block: str) -> Rehearsed:
    """A request for a whole block, in `folder`, resolved by the code that resolves real ones."""
    case = OpenCase(handle=f"selftest-{folder.name}", folder=folder)
    case.private.mkdir(parents=True, mode=0o700)
    KeyFile.create(case.private / "case.key")
    now = datetime.now(UTC)
    request = DeletionRequest(
        id=f"r-{folder.name}",
        received=now,
        subject="self-test",
        selectors=(Selector(kind="block", values=(block,)),),
        models=("served",),
        due=now,
    )
    write_file(case.private / "request.json", canonical(encode(request)), mode=0o600)
    return Rehearsed(case=case, resolution=resolve(workspace, case))
