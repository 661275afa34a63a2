"""What `expunge recheck` (and `verify --rerun`) draws: the battery of a verified certificate, on the weights at hand."""

from __future__ import annotations

from pathlib import Path

from expunge.apps.cli._console import progress_on_stderr
from expunge.core.errors import InputError
from expunge.evidence.verify import Verification
from expunge.workflow.styles import rerun
from expunge.workflow.workspace import opened


def repeated(result: Verification, workspace: Path | None, model: Path | None) -> rerun.Rerun:
    """Raises InputError without the workspace of the case: seeds, photos and judges are there."""
    if workspace is None:
        raise InputError("--rerun asks for the workspace of the case", hint="-w WORKSPACE")
    with progress_on_stderr() as progress, opened(workspace, progress) as ws:
        return rerun.rerun_case(ws, str(result.case), str(result.model), model)
