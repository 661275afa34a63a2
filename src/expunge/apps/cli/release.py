"""expunge release: the copy of a recommender that is served from, refreshed before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit, progress_on_stderr


def command(
    out: Annotated[Path, typer.Argument(help="Safetensors file to write; an earlier copy is replaced.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Build what follows from the sums anew, and write the recommender in service to a file for serving, in float32."""
    from expunge.core.codec import encode
    from expunge.workflow.copy_out import release
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws, progress_on_stderr() as progress:
        ws.progress = progress
        done = release(ws, out)
    emit(
        encode(done),
        as_json,
        lambda console: console.print(f"{out}: made from model {done.model[:19]}…, refreshed before it was written"),
    )
