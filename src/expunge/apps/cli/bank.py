"""expunge bank: the models that judge deletions, trained before any request."""

from __future__ import annotations

from typing import Annotated

import typer

from expunge.apps.cli._console import (
    DEFAULT_WORKSPACE,
    EngineOption,
    JsonOption,
    WorkspaceOption,
    emit,
    progress_on_stderr,
)


def command(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    retire: Annotated[bool, typer.Option("--retire", help="Destroy the bank at the end of its window.")] = False,
    engine: EngineOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build the reference bank and the full-size anchors; resumes, and trains nothing twice."""
    from expunge.workflow.config import with_engine
    from expunge.workflow.train import retire_bank
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        if retire:
            gone = retire_bank(ws)
            emit({"retired": gone}, as_json, lambda console: console.print(f"bank {gone[:19]}… is destroyed"))
            return
        ws.config = with_engine(ws.config, engine)
        with progress_on_stderr() as progress:
            ws.progress = progress
            bank, results = ws.bank()
        record = ws.state().banks[-1]
        seconds = sum(float(item["seconds"]) for item in results)
    result = {"bank": bank.spec.digest, "n": record.n, "anchors": record.anchors, "cpu_seconds": round(seconds, 1)}
    result["destroy_by"] = record.destroy_by
    emit(
        result,
        as_json,
        lambda console: console.print(
            f"bank of {record.n} models and {record.anchors} anchors, {seconds:.0f} s of training, "
            f"to be destroyed by {record.destroy_by}\nnext: expunge request -w {workspace} --id ID"
        ),
    )
