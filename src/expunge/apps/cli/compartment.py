"""expunge compartment: one adapter an artist over a model that never saw them, so that a deletion drops a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit, progress_on_stderr

app = typer.Typer(no_args_is_help=True, help="Adapters of single artists: begin, teach, drop, check.")
Folder = Annotated[Path, typer.Argument(help="The directory of compartments.")]
Artist = Annotated[str, typer.Argument(help="The artist, as the works' index names them.")]


@app.command()
def begin(folder: Folder, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Copy the served model as the base, and record what it was trained on."""
    from expunge.workflow.styles import compartments
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        found = compartments.begun(ws, folder)
    said = f"base {found.base.digest[:19]}…, which saw {len(found.base.saw.works)} works; no adapter yet"
    emit({"manifest": found.digest, "base": found.base.digest}, as_json, lambda console: console.print(said))


@app.command()
def teach(
    folder: Folder,
    artist: Artist,
    works: Annotated[Path, typer.Option("--works", help="Captioned pictures: a folder as of source picture_folder.")],
    steps: Annotated[int, typer.Option("--steps", help="Steps of Adam.")] = 500,
    rank: Annotated[int, typer.Option("--rank", help="Rank of the additions.")] = 4,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Train the artist's adapter on the artist's works and nothing else. Refused where the base, or another adapter, saw them."""
    from expunge.training.text_to_image.compartments.records import Teaching
    from expunge.workflow.styles import compartments
    from expunge.workflow.workspace import opened

    with progress_on_stderr() as progress, opened(workspace, progress) as ws:
        found = compartments.taught(ws, folder, works, artist, Teaching(steps=steps, rank=rank))
    mine = found.of(artist)
    said = f"adapter {mine.weights[:19]}… from {len(mine.saw.works)} works; {len(found.adapters)} in all"
    emit({"manifest": found.digest, "weights": mine.weights}, as_json, lambda console: console.print(said))


@app.command()
def drop(
    folder: Folder,
    artist: Artist,
    to: Annotated[Path, typer.Option("--to", help="New directory, without the adapter; the old one is destroyed.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Write the directory without the artist's adapter, hold it against the log, then overwrite and remove the old one."""
    from expunge.workflow.styles import compartments
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        ended = compartments.dropped(ws, folder, artist, to)
    found = ended.dropped
    said = (
        f"EXACT, as logged by the owner (entry {ended.index}): the adapter is gone, base {found.base[:19]}… and "
        f"{len(found.kept)} other adapters are byte for byte those that were recorded, and their trainings saw no work of "
        f"the artist. {ended.destroyed} files of the old directory were overwritten and removed.\n"
        "Not covered: copies of the old directory elsewhere; works under another name in other pixels (cropped, encoded anew)."
    )
    result = {
        "guarantee": "EXACT",
        "manifest": found.after,
        "base": found.base,
        "gone": found.gone,
        "entry": ended.index,
    }
    emit({**result, "destroyed": ended.destroyed}, as_json, lambda console: console.print(said))


@app.command()
def check(folder: Folder, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Is it the state that was logged last, file by file? An older one, in which a dropped adapter is back, is refused."""
    from expunge.workflow.styles import compartments
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        found = compartments.current(ws, folder)
    said = f"as logged: base {found.base.digest[:19]}…, {len(found.adapters)} adapters, no other file"
    emit({"manifest": found.digest, "adapters": len(found.adapters)}, as_json, lambda console: console.print(said))


@app.command()
def destroy(folder: Folder, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Overwrite and remove an older state that a killed `drop`, or a backup, left. The current one is refused."""
    from expunge.workflow.styles import compartments
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        files = compartments.finish(ws, folder)
    emit({"destroyed": files}, as_json, lambda console: console.print(f"{files} files overwritten and removed"))
