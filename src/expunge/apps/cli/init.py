"""expunge init: a new workspace with keys, log and the manifest of its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, emit


def command(
    folder: Annotated[Path, typer.Argument(help="New folder.")] = DEFAULT_WORKSPACE,
    source: Annotated[str, typer.Option("--source", help="Record source, e.g. digits or cifar10.")] = "digits",
    data: Annotated[str | None, typer.Option("--data", help="Where the source's files are.")] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="Built-in recipe or YAML file.")] = "digits",
    policy: Annotated[
        Path | None, typer.Option("--policy", help="policy.yaml to copy; the default if not given.")
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", help="Complement pairs of the bank (N = 2 x pairs).")] = 16,
    anchors: Annotated[int, typer.Option("--anchors", help="Full-size models that judge the served file.")] = 40,
    monitored: Annotated[list[str] | None, typer.Option("--monitor", help="Block the anchors monitor.")] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Name that stands in certificates.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="Source option NAME=VALUE.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a workspace: keys, log, and one keyed leaf per record, all before anything is trained."""
    from expunge.training.precision import suited
    from expunge.training.recipe import built_in_recipes, load_recipe
    from expunge.workflow.policy import DEFAULT
    from expunge.workflow.workspace import Workspace

    config: dict[str, Any] = {
        "data": {
            "source": source,
            "path": str(Path(data).resolve()) if data else None,
            "options": _options(option or []),
        },
        "bank": {"pairs": pairs, "anchors": anchors, "monitored": tuple(monitored or ())},
    }
    if owner:
        config["owner"] = {"name": owner}
    text = policy.read_text(encoding="utf-8") if policy else DEFAULT
    chosen, changed = load_recipe(recipe), ""
    if recipe in built_in_recipes():  # a file of the user's own is taken as it is
        chosen, changed = suited(chosen)
    with Workspace.create(folder, config=config, recipe=chosen, policy=text) as workspace:
        reference = workspace.book.data_ref(source)
        result = {
            "workspace": str(folder),
            "records": reference.present,
            "root": reference.root,
            "note": workspace.data.note,
            "changed": changed,
        }
    emit(
        result,
        as_json,
        lambda console: console.print(
            f"workspace {folder}: {result['records']} records of {result['note']}, manifest {reference.root[:19]}…\n"
            + (f"{changed}\n" if changed else "")
            + f"next: expunge train -w {folder}"
        ),
    )


def _options(pairs: list[str]) -> dict[str, int | str]:
    from expunge.core.errors import InputError

    options: dict[str, int | str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError("a source option is NAME=VALUE", got=pair)
        options[name] = int(value) if value.lstrip("-").isdigit() else value
    return options
