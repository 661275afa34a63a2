"""expunge train: train the model that will be served, with transcript and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit, progress_on_stderr

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace


def command(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Train the served model; after an interruption the same command continues and gives the same weights."""
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        with progress_on_stderr(images_per_step=min(getattr(ws.recipe, "batch", 0), len(ws.data.train))) as progress:
            ws.progress = progress
            record, fitted = ws.train()
        quality, said, following = _quality(ws, fitted)
        result = {
            "model": record.digest,
            "seconds": round(record.seconds, 2),
            **quality,
            "test_records": len(ws.data.test),
            "data": ws.data.note,
            "recipe": ws.recipe.name,
        }
    emit(
        result,
        as_json,
        lambda console: console.print(
            f"model {record.digest[:19]}… trained in {result['seconds']} s\n{said}\nnext: expunge {following} -w {workspace}"
        ),
    )


def _quality(ws: Workspace, fitted: Any) -> tuple[dict[str, Any], str, str]:
    """How good the model is, as numbers and in words, and the next verb."""
    if ws.policy.kind == "generator":
        return _works(ws, fitted)
    return _users(ws) if ws.policy.kind == "recommender" else _records(ws, fitted)


def _works(ws: Workspace, fitted: Any) -> tuple[dict[str, Any], str, str]:
    """Denoising error of a text-to-image model on works it was not trained on; lower is better, and no picture is drawn."""
    known = ws.adapter.outputs(ws.adapter.load(fitted.model), ws.data.test) if len(ws.data.test) else None
    error = None if known is None else round(float(-known.mean()), 4)
    told = "no test works" if error is None else f"denoising error {error} on {len(ws.data.test)} test works"
    return {"test_error": error}, f"{told} of {ws.data.note}", "selftest"


def _records(ws: Workspace, fitted: Any) -> tuple[dict[str, Any], str, str]:
    """Accuracy of a classifier, in words too, and the next verb."""
    outputs = ws.adapter.outputs(ws.adapter.load(fitted.model), ws.data.test.images)
    accuracy = float((outputs.argmax(1) == ws.data.test.labels).mean())
    images = sum(line["present"] for line in _steps(fitted.transcript)) if fitted.transcript else 0
    rate = round(images / fitted.seconds, 1) if fitted.seconds else None
    said = f"accuracy {accuracy:.2%} on {len(ws.data.test)} test records of {ws.data.note} ({rate} images/s)"
    return {"images_per_second": rate, "test_accuracy": round(accuracy, 4)}, said, "bank"


def _users(ws: Workspace) -> tuple[dict[str, Any], str, str]:
    """NDCG of a recommender on its test users."""
    from expunge.workflow.answers import quality

    found = quality(ws)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in found.items()) or "no test users"
    return dict(found), f"{shown} on {len(ws.data.test)} test users of {ws.data.note}", "selftest"


def _steps(transcript: object) -> list[dict[str, int]]:
    from pathlib import Path

    from expunge.training.transcript import read_transcript

    return [line for line in read_transcript(Path(str(transcript))) if line["kind"] == "step"]
