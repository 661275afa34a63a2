"""A case is a pure fold over its log entries: the log is the state, so no status column can disagree with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from expunge.core.errors import OutOfOrder


class State(Enum):
    """Where a case stands."""

    NEW = "new"
    RECEIVED = "received"
    RESOLVED = "resolved"
    PLANNED = "planned"
    EXECUTED = "executed"
    VERIFIED = "verified"
    DECIDED = "decided"
    PURGED = "purged"
    CERTIFIED = "certified"
    NOT_ERASED = "not-erased"
    REFUSED = "refused"
    NOT_LEARNED = "not-learned"


# event kind -> (states it may come in, state it leads to)
NEXT: Mapping[str, tuple[tuple[State, ...], State]] = {
    "request.received": ((State.NEW,), State.RECEIVED),
    "request.resolved": ((State.RECEIVED, State.RESOLVED, State.DECIDED), State.RESOLVED),
    "request.refused": ((State.RECEIVED, State.RESOLVED, State.DECIDED), State.REFUSED),
    "plan.committed": ((State.RESOLVED, State.DECIDED), State.PLANNED),
    "candidate.executed": ((State.PLANNED,), State.EXECUTED),
    "candidate.failed": ((State.PLANNED, State.EXECUTED, State.VERIFIED), State.DECIDED),
    "findings.recorded": ((State.EXECUTED,), State.VERIFIED),
    "decision.made": ((State.VERIFIED,), State.DECIDED),
    "data.purged": ((State.DECIDED, State.PURGED), State.PURGED),
    "certificate.issued": ((State.PURGED,), State.CERTIFIED),
    "incident.opened": ((State.RESOLVED, State.DECIDED), State.NOT_ERASED),
    "not_learned.issued": ((State.RECEIVED,), State.NOT_LEARNED),
}
CLOSED = (State.CERTIFIED, State.NOT_ERASED, State.REFUSED, State.NOT_LEARNED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One request's course. `handle` is a keyed pseudonym; `attempts` counts plans, failed ones too."""

    handle: str
    state: State = State.NEW
    attempts: int = 0
    last_index: int = -1
    plan: str | None = None
    candidate: str | None = None
    accepted: bool = False
    certificate: str | None = None

    def apply(self, index: int, body: Mapping[str, object]) -> Case:
        """The case after one more log entry. Raises OutOfOrder when the entry cannot come here."""
        kind = str(body["kind"])
        if kind not in NEXT:
            return replace(self, last_index=index)
        allowed, after = NEXT[kind]
        if self.state not in allowed:
            raise OutOfOrder(f"{kind} cannot follow state {self.state.value} of case {self.handle}")
        if kind == "plan.committed" and self.accepted:
            raise OutOfOrder(f"case {self.handle} is already accepted")
        payload = body.get("payload")
        payload = payload if isinstance(payload, Mapping) else {}
        return replace(
            self,
            state=after,
            last_index=index,
            attempts=self.attempts + (kind == "plan.committed"),
            plan=str(payload["plan"]) if kind == "plan.committed" else self.plan,
            candidate=str(payload["model"]) if kind == "candidate.executed" else self.candidate,
            accepted=bool(payload["accepted"]) if kind == "decision.made" else self.accepted,
            certificate=str(payload["certificate"]) if kind == "certificate.issued" else self.certificate,
        )

    @classmethod
    def fold(cls, handle: str, entries: Iterable[tuple[int, Mapping[str, object]]]) -> Case:
        """The case as all its entries leave it."""
        case = cls(handle=handle)
        for index, body in entries:
            if body.get("case") == handle:
                case = case.apply(index, body)
        return case
