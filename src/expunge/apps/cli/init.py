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
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Built-in recipe or YAML file; digits, or ease for interactions.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="policy.yaml to copy; the default if not given.")
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", help="Complement pairs of the bank (N = 2 x pairs).")] = 16,
    anchors: Annotated[int, typer.Option("--anchors", help="Full-size models that judge the served file.")] = 40,
    monitored: Annotated[list[str] | None, typer.Option("--monitor", help="Block the anchors monitor.")] = None,
    signals: Annotated[
        Path | None,
        typer.Option("--signals", help="What sources said about training, a line a row; heeded from now on."),
    ] = None,
    artists: Annotated[
        Path | None,
        typer.Option(
            "--artists", help="artists.yaml: how artists are asked for, and styles no training saw; fixed from now on."
        ),
    ] = None,
    owner: Annotated[str | None, typer.Option("--owner", help="Name that stands in certificates.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="Source option NAME=VALUE.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a workspace: keys, log, and one keyed leaf per record, all before anything is trained."""
    from expunge.farm.opened import open_data
    from expunge.training.precision import suited
    from expunge.training.recipe import Recipe, built_in_recipes, load_any_recipe
    from expunge.workflow.config import drawn, parse_config
    from expunge.workflow.policy import BY_KIND, RECIPES, kind_of
    from expunge.workflow.workspace import Workspace

    config = _config(source, data, _options(option or []), signals)
    config["bank"] = {"pairs": pairs, "anchors": anchors, "monitored": tuple(monitored or ())}
    if artists:
        config["styles"] = {"artists": str(artists.resolve())}
    if owner:
        config["owner"] = {"name": owner}
    kind = kind_of(open_data(parse_config(drawn(config)).data.named(folder)))
    text = policy.read_text(encoding="utf-8") if policy else BY_KIND[kind]
    named = recipe or RECIPES[kind]
    chosen, changed = load_any_recipe(named), ""
    if named in built_in_recipes() and isinstance(chosen, Recipe):  # a file of the user's own is taken as it is
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
    made = f"workspace {folder}: {result['records']} records of {result['note']}, manifest {reference.root[:19]}…\n"
    said = made + (f"{changed}\n" if changed else "") + f"next: expunge train -w {folder}"
    emit(result, as_json, lambda console: console.print(said))


def _config(source: str, data: str | None, options: dict[str, int | str], signals: Path | None) -> dict[str, Any]:
    """Where the records are, by whole paths."""
    table = {"source": source, "path": str(Path(data).resolve()) if data else None, "options": options}
    return {"data": {**table, "signals": str(signals.resolve()) if signals else None}}


def _options(pairs: list[str]) -> dict[str, int | str]:
    from expunge.core.errors import InputError

    options: dict[str, int | str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError("a source option is NAME=VALUE", got=pair)
        options[name] = int(value) if value.lstrip("-").isdigit() else value
    return options
