"""expunge bench: re-measure what others claim, and what we claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.apps.cli._console import JsonOption, emit, progress_on_stderr

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Re-measure what auditing libraries claim, and what we claim.")


@app.callback()
def _root() -> None:
    """Re-measure what auditing libraries claim, and what we claim."""


@app.command()
def auditors(
    peer: Annotated[list[str] | None, typer.Option("--peer", help="NAME=PYTHON; may be repeated.")] = None,
    source: Annotated[list[str] | None, typer.Option("--source", help="NAME=CHECKOUT; may be repeated.")] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", help="Audits a cell.")] = 1000,
    seconds: Annotated[float, typer.Option("--seconds", help="CPU seconds a cell may take.")] = 120.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the null's draws.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Write the result as JSON.")] = None,
    as_json: JsonOption = False,
) -> None:
    """False-positive rates at nominal 5 % under an exact null: audit libraries in their own Pythons, beside ours."""
    from expunge.apps.bench.auditors import Job, run

    job = Job(repetitions=repetitions, seconds=seconds, seed=seed, peers=_pairs(peer), sources=_pairs(source))
    with progress_on_stderr() as progress:
        result = run(job, progress)
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    emit(result, as_json, lambda console: _show(console, result))


def _pairs(options: list[str] | None) -> dict[str, str]:
    from expunge.core.errors import InputProblems

    split = [option.partition("=") for option in options or ()]
    wrong = ["".join(parts) for parts in split if not (parts[0] and parts[2])]
    if wrong:
        raise InputProblems("options", [f"{item}: NAME=PATH expected" for item in wrong])
    return {name.replace("-", "_"): value for name, _, value in split}


def _show(console: Console, result: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from expunge.apps.bench.table import grid, records

    sizes = [f"m = {m}" for m in result["settings"]["sizes"]]
    alphas = [f"{100 * a:g} %" for a in dict.fromkeys(row["alpha"] for row in result["per_record"])]
    for head, rows in (
        (("library", "claim at 5 %", *sizes, "verdict"), grid(result)),
        (("p-value", "anchors", *alphas), records(result)),
    ):
        table, before = Table(*head), ""
        for name, *cells in rows:
            table.add_row("" if name == before else escape(name), *map(escape, cells))
            before = name
        console.print(table)
