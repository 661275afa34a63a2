"""What asking an appeal's prompts has decided: how the appeal can end, and what the next decision has to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.core.codec import decode
from expunge.core.errors import InputError
from expunge.core.finding import Verdict
from expunge.workflow.rights.appeal import Appeal, Outcome
from expunge.workflow.rights.facts import Learned
from expunge.workflow.rights.requests import APPEALED, entries_of

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.workspace import Workspace

PROBE_ASKED, PROBED = "rights.probe_asked", "rights.probed"


def filed_as(workspace: Workspace, handle: str, appeal: Appeal) -> Entry:
    """The log's entry of an appeal: the first with this digest."""
    rows = entries_of(workspace, handle, APPEALED)
    return next(row for row in rows if decode(Appeal, row.payload["appeal"], what="an appeal").digest == appeal.digest)


def answer_to(workspace: Workspace, handle: str, appeal: Appeal) -> Entry | None:
    """What came of its prompts, or None where nobody asked them."""
    rows = entries_of(workspace, handle, PROBED)
    return next((row for row in rows if row.payload["appeal"] == appeal.digest), None)


def check_settled(workspace: Workspace, handle: str, appeal: Appeal, outcome: Outcome) -> None:
    """Raises InputError where the outcome is not what the sealed prompts leave open: a hit grants the appeal, and it is turned
    down on a shown silence only. Prompts that were not sealed before the decision bind nobody."""
    if filed_as(workspace, handle, appeal).payload.get("sealed") is None:
        return
    found = answer_to(workspace, handle, appeal)
    if found is None and outcome == "upheld":
        raise InputError("the sealed prompts were not asked", got=outcome, hint="expunge rights probe")
    if found is None:
        return
    verdict = Verdict(found.payload["verdict"])
    if verdict is Verdict.FAIL and outcome != "granted":
        raise InputError(
            "the sealed prompts bring the style, so the appeal is granted", expected="granted", got=outcome
        )
    if verdict is not Verdict.PASS and outcome == "upheld":
        raise InputError(
            f"the sealed prompts showed nothing ({verdict.value}), so the appeal is not turned down on them",
            expected="granted or held",
            got=outcome,
        )


def learned_at_appeal(workspace: Workspace, handle: str) -> tuple[int, Learned] | None:
    """Entry and fact of sealed prompts that brought the style out of the model in service; nothing else is a fact here."""
    model = workspace.state().model
    for row in reversed(entries_of(workspace, handle, PROBED)):
        said = row.payload
        if said["model"] == model and said["sealed"] and said["verdict"] == Verdict.FAIL.value:
            rate, at_most = float(said["rate"]), float(said["at_most"])
            return row.index, Learned(verdict=Verdict.FAIL, rate=rate, at_most=at_most)
    return None
