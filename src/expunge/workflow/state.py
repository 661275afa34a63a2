"""What the log says about a workspace: a pure fold, like Case. There is no other record of which model is served."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from expunge.core.finding import Verdict
from expunge.core.plan import Numerics


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """Private: how a model was made. `run` is relative to the workspace; `absent` are the tombstones it trained without.

    `adopted` models came from outside: they have no transcript, and their `run` holds only the weights. An edited copy of
    one is as much from outside; a training that takes its place is not.
    """

    digest: str
    run: str
    seed: str
    absent: tuple[int, ...]
    recipe: str
    numerics: Numerics
    seconds: float
    adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BankRecord:
    """A bank as logged: its digest, size, anchors and the day it must be destroyed.

    `design` and `sketches` are digests of who trained on what, and of the answers as the last erasure left them; None
    in logs written before they were logged.
    """

    digest: str
    n: int
    anchors: int
    destroy_by: str
    model: str
    design: str | None = None
    sketches: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Model in service with what the log pins about it, banks, handles of all cases in order, open incidents.

    `planned` and `judged` count, per keyed record handle, the plans committed and those whose findings were recorded.
    `looked` are the cases that the newest bank has judged, and whether it found a residue in any attempt.
    """

    model: str | None = None
    transcript: str | None = None
    seed: str | None = None
    banks: tuple[BankRecord, ...] = ()
    cases: tuple[str, ...] = ()
    incidents: tuple[str, ...] = ()
    planned: dict[str, int] = field(default_factory=dict)
    judged: dict[str, int] = field(default_factory=dict)
    pending: dict[str, tuple[str, ...]] = field(default_factory=dict)
    looked: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def fold(cls, entries: Iterable[Any]) -> State:
        """The state after all entries."""
        state = cls()
        for entry in entries:
            state = state.apply(entry.body)
        return state

    def apply(self, body: Any) -> State:
        """The state after one more entry."""
        kind, payload, case = body["kind"], body.get("payload") or {}, body.get("case")
        if kind in ("model.trained", "model.adopted", "model.released"):
            return replace(self, model=payload["model"], transcript=payload.get("transcript"), seed=payload.get("seed"))
        if kind == "bank.built":
            record = BankRecord(
                digest=payload["bank"],
                n=payload["n"],
                anchors=payload["anchors"],
                destroy_by=payload["destroy_by"],
                model=payload["model"],
                design=payload.get("design"),
                sketches=payload.get("sketches"),
            )
            return replace(self, banks=(*self.banks, record), looked={})
        if kind == "bank.retired":
            return replace(self, banks=tuple(bank for bank in self.banks if bank.digest != payload["bank"]))
        if kind == "data.purged":
            blanked = payload.get("banks", {})
            banks = (replace(bank, sketches=blanked.get(bank.digest, bank.sketches)) for bank in self.banks)
            return replace(self, banks=tuple(banks))
        if kind == "request.received":
            return replace(self, cases=(*self.cases, case))
        if kind == "plan.committed":
            handles = tuple(payload["subjects"])
            return replace(self, planned=_counted(self.planned, handles), pending={**self.pending, case: handles})
        if kind == "findings.recorded":
            return replace(self, judged=_counted(self.judged, self.pending.get(case, ())), looked=self._looked(body))
        if kind == "incident.opened":
            return replace(self, incidents=(*self.incidents, case))
        return self

    def _looked(self, body: Any) -> dict[str, bool]:
        verdict = body["payload"].get("verdicts", {}).get("membership")
        if not self.banks or verdict in (None, Verdict.UNVERIFIABLE.value):
            return self.looked
        case = body["case"]
        return {**self.looked, case: self.looked.get(case, False) or verdict == Verdict.FAIL.value}


def _counted(counts: dict[str, int], handles: tuple[str, ...]) -> dict[str, int]:
    return {**counts, **{handle: counts.get(handle, 0) + 1 for handle in handles}}
