"""Which self-test lets a style be asked for: without one whose answer could be stated, nobody is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from expunge.core.errors import Held
from expunge.evidence.not_learned import objections
from expunge.workflow.selftest.gate import latest, subject_of

if TYPE_CHECKING:
    from expunge.core.selftest import SelftestReport
    from expunge.workflow.workspace import Workspace


def check_vouched(workspace: Workspace) -> None:
    """Before a question is spent: could its answer be stated? Raises Held."""
    problems = unvouched(workspace)
    if problems:
        raise Held(
            "the self-test does not vouch for a statement about a style, so nobody was asked",
            got="; ".join(problems)[:300],
            hint="expunge selftest WORKSPACE, then this again; works can be asked for without it (expunge request --block)",
        )


def unvouched(workspace: Workspace) -> list[str]:
    """Why no style can be asked for here and now, by the newest self-test; empty = it can."""
    found = latest(workspace)
    return ["there is none"] if found is None else against(workspace, found.report)


def against(workspace: Workspace, report: SelftestReport) -> list[str]:
    """Why no statement can be made on this report here and now; empty = one can."""
    return objections(workspace.policy.selftest, report, datetime.now(UTC), subject_of(workspace))
