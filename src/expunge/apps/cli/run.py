"""expunge run: carry a case through to a certificate, or to an incident."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.apps.cli._console import (
    DEFAULT_WORKSPACE,
    CaseOption,
    EngineOption,
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
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try candidates until one passes its checks; exit 3 when none does and nothing was released.

    A text-to-image model is asked first: a style that it has not learned is not edited, and a request for the style alone
    is then answered with a signed statement of that.
    """
    from expunge.core.errors import NotErased
    from expunge.workflow.config import with_engine
    from expunge.workflow.intake import find_case
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        ws.config = with_engine(ws.config, engine)
        found = find_case(ws, case)
        with progress_on_stderr() as progress:
            ws.progress = progress
            try:
                outcome = ws.run(found, method or ())
            except NotErased as refusal:
                tried = refusal.trials
                emit({"case": found.handle, "trials": tried}, as_json, lambda console: show_trials(console, tried))
                raise
    emit({"outcome": outcome}, as_json, lambda console: show_outcome(console, outcome))


def show_trials(console: Console, trials: Sequence[Any]) -> None:
    """Verdict table of every candidate that was tried."""
    from expunge.core.codec import encode

    for trial in trials:
        findings = [encode(finding) for finding in trial.findings]
        verdict = "accepted" if trial.decision.accepted else "not accepted"
        console.print(verdict_table(findings, f"{trial.method}: {verdict} ({trial.seconds:.2f} s)"))


def show_outcome(console: Console, outcome: Any) -> None:
    """Verdict tables, then the certificate, or the statement that a style was not learned, and how to check it."""
    show_trials(console, outcome.trials)
    if outcome.statement is not None:
        console.print(f"[bold]NOT-LEARNED[/]: {outcome.statement.sentence}")
        console.print(f"statement:   {outcome.statement.path}")
        console.print(f"check it:    {outcome.statement.check_command}")
        return
    certificate = outcome.certificate
    console.print(f"[bold]{outcome.guarantee.value}[/]: {certificate.sentence}")
    console.print(f"certificate: {certificate.path}")
    console.print(f"report:      {certificate.report}")
    console.print(f"check it:    {certificate.check_command}")
