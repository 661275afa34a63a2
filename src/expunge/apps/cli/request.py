"""expunge request: log a deletion request and give the requester a receipt."""

from __future__ import annotations

from typing import Annotated

import typer

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit


def command(
    ids: Annotated[list[str] | None, typer.Option("--id", help="Record id; may be repeated.")] = None,
    user: Annotated[list[str] | None, typer.Option("--user", help="A recommender's user: --id user/NAME.")] = None,
    block: Annotated[str | None, typer.Option("--block", help="All records of a block (a user, a cluster).")] = None,
    subject: Annotated[str, typer.Option("--subject", help="Who asks; kept in the case's private folder only.")] = "",
    basis: Annotated[str, typer.Option("--basis", help="Legal basis.")] = "",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Check a request completely, log its commitment, and write the requester's receipt. A bad request logs nothing."""
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        named = [*(ids or ()), *(f"user/{name}" for name in user or ())]
        case = ws.request(ids=named, block=block, subject=subject, basis=basis)
        result = {"case": case.handle, "receipt": str(case.receipt), "due": case.request().due}
    emit(
        result,
        as_json,
        lambda console: console.print(
            f"case {case.handle}\nreceipt for the requester: {case.receipt}\nnext: expunge plan -w {workspace}"
        ),
    )
