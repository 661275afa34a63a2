"""expunge run: carry a case through to a certificate, or to an incident."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.apps.cli._console import (
    DEFAULT_WORKSPACE,
    CaseOption,
    JsonOption,
    WorkspaceOption,
    emit,
    progress_on_stderr,
    verdict_table,
)

if TYPE_CHECKING:
    from rich.console import Console


def command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    case: CaseOption = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Try only these, in this order.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Try candidates until one passes its checks; exit 3 when none does and nothing was released."""
    from expunge.workflow.intake import find_case
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        found = find_case(ws, case)
        with progress_on_stderr() as progress:
            ws.progress = progress
            outcome = ws.run(found, method or ())
    emit({"outcome": outcome}, as_json, lambda console: show_outcome(console, outcome))


def show_outcome(console: Console, outcome: Any) -> None:
    """Verdict table of every trial, then the certificate and how to check it."""
    from expunge.core.codec import encode

    for trial in outcome.trials:
        findings = [encode(finding) for finding in trial.findings]
        verdict = "accepted" if trial.decision.accepted else "not accepted"
        console.print(verdict_table(findings, f"{trial.method}: {verdict} ({trial.seconds:.2f} s)"))
    certificate = outcome.certificate
    console.print(f"[bold]{outcome.guarantee.value}[/]: {certificate.sentence}")
    console.print(f"certificate: {certificate.path}")
    console.print(f"report:      {certificate.report}")
    console.print(f"check it:    {certificate.check_command}")
