"""expunge plan: what could be done for a case, in which order, at which price."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from expunge.apps.cli._console import DEFAULT_WORKSPACE, CaseOption, JsonOption, WorkspaceOption, emit

if TYPE_CHECKING:
    from rich.console import Console


def command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    case: CaseOption = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Only these, in this order.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the candidates of a case, priced from the measured training; nothing is logged or run."""
    from expunge.workflow.intake import find_case
    from expunge.workflow.pipeline import first_asked
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        found = find_case(ws, case)
        candidates = ws.plan(found, method or ())
        first = first_asked(ws, found, candidates)

    def human(console: Console) -> None:
        from rich.table import Table

        if first:
            console.print(f"first: {first}", markup=False)
        table = Table(title=f"candidates for {found.handle}", title_justify="left")
        for name in ("method", "aims at", "expected", "of a retrain", "refused because"):
            table.add_column(name)
        for item in candidates:
            seconds = f"{item.cost.seconds:.1f} s" if item.cost else "–"
            share = f"{item.cost.fraction:.0%}" if item.cost else "–"
            table.add_row(item.method, item.aims_at.value, seconds, share, item.refused or "")
        console.print(table)
        console.print(f"next: expunge run -w {workspace}")

    emit({"case": found.handle, "first": first, "candidates": candidates}, as_json, human)
