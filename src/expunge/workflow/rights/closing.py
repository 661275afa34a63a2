"""What closes a request: its last decision, and where that promised something, the signed evidence of the case that did it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from expunge.core.errors import InputError
from expunge.core.styles import StyleRung
from expunge.evidence.commitment import keyed
from expunge.evidence.verify_steps import REVOKED
from expunge.workflow.intake import closed, find_case
from expunge.workflow.rights.published import Closed
from expunge.workflow.rights.terms import Action
from expunge.workflow.styles.earned import Earned, earned_in

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

CLOSED = "rights.closed"
_ERASED = frozenset({StyleRung.INDISTINGUISHABLE, StyleRung.EXACT})
ANSWERS: Mapping[Action, frozenset[StyleRung]] = {
    Action.PURGE_WORKS: _ERASED,
    Action.RETRAIN: frozenset({StyleRung.EXACT}),
    Action.STYLE_EDIT: _ERASED,
    Action.NOT_LEARNED: frozenset({StyleRung.NOT_LEARNED}),
}
"""What a case has to have earned to answer a decision that promised something; the others need none."""
LESS = frozenset({Action.REFUSE, Action.NARROW, Action.NOT_LEARNED, Action.EXCLUDE_NEXT})
"""Less than was asked: the claimant's time for an appeal has to pass before letter and key are destroyed."""


def closed_by(workspace: Workspace, action: Action, received: int, case: str) -> Closed:
    """With the word that the case's own evidence earned: nobody types it. `received`: index of the letter's entry in the log.
    Raises InputError where the case does not answer this."""
    promised = ANSWERS.get(action)
    if not case:
        if promised is not None:
            raise InputError(
                f"{action.value} is closed by the case that did it", hint="expunge rights close --case CASE"
            )
        return Closed(action=action)
    found = find_case(workspace, case)
    if not closed(workspace, found):
        raise InputError("the case is not closed", got=case, hint="expunge run")
    earned = earned_in(workspace, found)
    if promised is None or earned.rung not in promised:
        expected = ", ".join(promised or ()) or "no case"
        raise InputError(f"the case does not answer {action.value}", expected=expected, got=earned.rung.value)
    _check_answers(workspace, earned, received, case)
    return Closed(action=action, method=earned.method, rung=earned.rung)


def _check_answers(workspace: Workspace, earned: Earned, received: int, case: str) -> None:
    """One case answers one letter, which it came after; and what a statement says of a model is of the model in service."""
    if any(entry.kind == REVOKED for entry in workspace.log.case(case)):
        raise InputError(
            "what the case earned was revoked, so it is decided anew", got=case, hint="expunge rights decide"
        )
    if earned.index < received:
        raise InputError("the case was closed before the letter came, so it does not answer it", got=case)
    if case_pseudonym(workspace, case) in {
        entry.payload.get("by") for entry in workspace.log.entries() if entry.kind == CLOSED
    }:
        raise InputError("the case has answered another letter", got=case, hint="each request has a case of its own")
    if earned.expires <= datetime.now(UTC):
        raise InputError("what the case earned has expired", got=earned.expires.isoformat())
    if earned.rung is StyleRung.NOT_LEARNED and earned.model != workspace.served().digest:
        raise InputError(
            "another model was asked than is in service", expected=workspace.served().digest, got=earned.model
        )


def case_pseudonym(workspace: Workspace, case: str) -> str:
    """What stands for the case in the log's entry of a request: who has the workspace can check it, and nobody else can."""
    return keyed(workspace.secret("rights"), f"case|{case}".encode()).hex()[:24] if case else ""
