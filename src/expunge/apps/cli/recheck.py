"""expunge recheck: a certificate checked, and the battery behind it asked again of the weights at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.apps.cli import verify
from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption

MODEL = "Weights to ask: a safetensors file or a model directory; those in service if not given."


def command(
    bundle: Annotated[Path, typer.Argument(help="Certificate bundle (zip), or a not-learned statement (json).")],
    trust: Annotated[Path, typer.Option("--trust", help="Your trust roots: the issuer's public keys.")],
    policy: Annotated[Path, typer.Option("--policy", help="Your policy.yaml.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    model: Annotated[Path | None, typer.Option("--model", help=MODEL)] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask for the style again, from the seeds of a certificate that verifies, which takes what it took. Exit 5 when the weights
    are others by now (the evidence has expired), the counts differ, or the certificate does not verify."""
    verify.command(bundle, trust, policy, model=model, again=True, workspace=workspace, as_json=as_json)
