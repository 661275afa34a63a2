"""expunge verify-scores: a verdict on somebody else's run, from the arrays their tool left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.apps.cli._console import COLOURS, JsonOption, emit

_USUAL = 0.95  # the level that goes without saying in the table

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.apps.scores.answer import Answer, Row


def command(
    files: Annotated[list[Path] | None, typer.Argument(help="Files or folder of one run.", show_default=False)] = None,
    reader: Annotated[str | None, typer.Option("--reader", help="Reader to use; recognised if not given.")] = None,
    attack: Annotated[list[str] | None, typer.Option("--attack", help="Attack to re-score a bank with.")] = None,
    coins: Annotated[bool, typer.Option("--coins", help="Members were drawn by independent fair coins.")] = False,
    out_arm: Annotated[Path | None, typer.Option("--out-arm", help="Scores of models that never saw it.")] = None,
    in_arm: Annotated[Path | None, typer.Option("--in-arm", help="Scores of the paired models that did.")] = None,
    unlearned: Annotated[Path | None, typer.Option("--unlearned", help="Those IN models, unlearned.")] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="t, share of the gap I - O; .2 if not given.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Splits, placebo and planning.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Give a verdict on another tool's scores. Exit 3 = membership or a residue is shown, 2 = bad arrays."""
    from expunge.apps.scores.answer import exit_code
    from expunge.apps.scores.bank import ATTACKS
    from expunge.apps.scores.verify import verify_arms, verify_files
    from expunge.core.errors import InputError

    if (out_arm is None) != (in_arm is None) or (unlearned is not None and out_arm is None):
        raise InputError("arms come together", expected="--out-arm and --in-arm, with or without --unlearned")
    if bool(files) == (out_arm is not None):
        raise InputError("either files of a run or arms are judged", expected="FILE..., or --out-arm and --in-arm")
    if out_arm is not None and in_arm is not None:
        answer = verify_arms(out_arm, in_arm, unlearned, seed=seed, margin=margin)
    else:
        answer = verify_files(files or (), reader=reader, seed=seed, coins=coins, attacks=tuple(attack or ATTACKS))
    emit({"answer": answer}, as_json, lambda console: _show(console, answer))
    raise typer.Exit(int(exit_code((answer,))))


def _show(console: Console, answer: Answer) -> None:
    from rich.markup import escape
    from rich.table import Table

    verdict = answer.finding.verdict.value
    console.print(f"[bold {COLOURS[verdict]}]{verdict}[/]  {escape(answer.source)}")
    console.print(answer.finding.reason, markup=False)
    table = Table(title_justify="left", expand=False)
    for name in ("what", "estimate", "95 %", "n", "note"):
        table.add_column(name, justify="left" if name in ("what", "note") else "right", overflow="fold")
    for row in answer.rows:
        estimate = "–" if row.estimate is None else f"{row.estimate:.3g}"
        table.add_row(escape(row.what), estimate, _interval(row), str(row.n or ""), escape(row.note))
    if answer.rows:
        console.print(table)
    for note in answer.notes:
        console.print(f"note: {note}", markup=False)


def _interval(row: Row) -> str:
    if row.low is None:
        return ""
    level = "" if row.level is None or row.level == _USUAL else f" ({100 * row.level:g} %)"
    return f"≥ {row.low:.3g}{level}" if row.high is None else f"{row.low:.3g} to {row.high:.3g}{level}"
