"""expunge train: train the model that will be served, with transcript and checkpoints."""

from __future__ import annotations

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit, progress_on_stderr


def command(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Train the served model; after an interruption the same command continues and gives the same weights."""
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        with progress_on_stderr(images_per_step=min(ws.recipe.batch, len(ws.data.train))) as progress:
            ws.progress = progress
            record, fitted = ws.train()
        outputs = ws.adapter.outputs(ws.adapter.load(fitted.model), ws.data.test.images)
        accuracy = float((outputs.argmax(1) == ws.data.test.labels).mean())
        images = sum(line["present"] for line in _steps(fitted.transcript)) if fitted.transcript else 0
        result = {
            "model": record.digest,
            "seconds": round(record.seconds, 2),
            "images_per_second": round(images / record.seconds, 1) if record.seconds else None,
            "test_accuracy": round(accuracy, 4),
            "test_records": len(ws.data.test),
            "data": ws.data.note,
            "recipe": ws.recipe.name,
        }
    emit(
        result,
        as_json,
        lambda console: console.print(
            f"model {record.digest[:19]}… trained in {result['seconds']} s ({result['images_per_second']} images/s)\n"
            f"accuracy {accuracy:.2%} on {result['test_records']} test records of {result['data']}\n"
            f"next: expunge bank -w {workspace}"
        ),
    )


def _steps(transcript: object) -> list[dict[str, int]]:
    from pathlib import Path

    from expunge.training.transcript import read_transcript

    return [line for line in read_transcript(Path(str(transcript))) if line["kind"] == "step"]
