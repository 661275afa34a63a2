"""expunge adopt: take in a model trained elsewhere, with the honest menu of what is still possible."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit

if TYPE_CHECKING:
    from rich.console import Console


def command(
    weights: Annotated[
        list[Path],
        typer.Argument(
            help="Safetensors state dict that fits the recipe; a recommender's file or files; or a text-to-image model's "
            "directory."
        ),
    ],
    reader: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="A recommender's: lenskit, recbole, cornac, arrays; found if not given. (implicit is read and refused: "
            "nobody can be taken out of trained factors or cut lists; train them here, family ials or itemknn.)",
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="A recommender's ids, one a line in the order of its columns, where its file has none (RecBole: "
            "dataset.field2id_token['item_id'], with [PAD])."
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Serve an existing model from this workspace. No pickle is executed: other libraries' are read opcode by opcode."""
    from expunge.workflow.adopt import adopt
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        adopted = adopt(ws, weights, reader, items)

    def human(console: Console) -> None:
        from rich.table import Table

        table = Table(title=f"adopted {adopted.record.digest[:19]}…", title_justify="left")
        for name in ("what", "possible", "at most", "why"):
            table.add_column(name, overflow="fold")
        for option in adopted.menu:
            mark = "[green]yes[/]" if option.possible else "[red]no[/]"
            table.add_row(option.name, mark, option.guarantee, option.why)
        console.print(table)
        for residue in adopted.residues:
            console.print(f"[yellow]also holds users, destroy it with the artefact[/]: {residue}")

    emit({"model": adopted.record.digest, "menu": adopted.menu, "residues": adopted.residues}, as_json, human)
