"""The window of a workspace: which accepted style edits wait, what edits have cost since the last training, and what to do now.

Read from the log, from the certificates of closed cases and from the private facts of open requests; nothing is written. A
request waits until it is closed, also where its edit was made: desk and cases share no names.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from expunge.core.errors import CheckBroken
from expunge.workflow.rights.batching import Step, Waiting, ends, next_step
from expunge.workflow.rights.desk import accepted_at, docket, facts_of, overturned
from expunge.workflow.rights.facts import Load
from expunge.workflow.rights.load import load_of
from expunge.workflow.rights.policy import RightsPolicy
from expunge.workflow.rights.terms import Action

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """`waiting`: oldest first; `closes`: when the window does, None where nobody waits."""

    waiting: tuple[Waiting, ...]
    load: Load
    closes: datetime | None
    step: Step[Waiting]


def window(workspace: Workspace, policy: RightsPolicy, now: datetime) -> Window:
    """What `next_step` says of this workspace. Raises IntegrityError where facts or certificates are not the logged ones."""
    handles = [one.request for one in docket(workspace, now) if one.action == Action.STYLE_EDIT.value]
    waiting = [_waiting(workspace, handle) for handle in handles if not overturned(workspace, handle)]
    waiting.sort(key=lambda one: (one.accepted, one.request))
    load = load_of(workspace)
    step = next_step(waiting, load, policy, now)
    return Window(waiting=tuple(waiting), load=load, closes=ends(waiting, policy), step=step)


def _waiting(workspace: Workspace, handle: str) -> Waiting:
    harm = facts_of(workspace, handle).harm
    if harm is None:
        raise CheckBroken("an edit that was accepted without a measurement of its harm", got=handle)
    return Waiting(request=handle, accepted=accepted_at(workspace, handle), loss=harm.at_most)
