"""expunge refresh: build what a recommender keeps beside its sums anew, every night; a release does it by itself."""

from __future__ import annotations

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit, progress_on_stderr


def command(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Rebuild the inverse, or the lists, of the served recommender from its sums; the model stays the same."""
    from expunge.workflow.train import refresh
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws, progress_on_stderr() as progress:
        ws.progress = progress
        before, after = refresh(ws)
        digest = ws.served().digest
        result = {"model": digest, "deviation_before": before, "deviation_after": after}
    emit(
        result,
        as_json,
        lambda console: console.print(f"model {digest[:19]}…: deviation {_said(before)} before, {_said(after)} after"),
    )


def _said(deviation: float | None) -> str:
    return "–" if deviation is None else f"{deviation:.2g}"
