"""expunge demo: one whole deletion on real data, in one terminal page."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.apps.cli._console import JsonOption, emit, progress_on_stderr

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.workflow.stories import Story

STORIES = ("digits", "cifar10", "movielens")


def command(
    story: Annotated[str, typer.Argument(help="digits (embedded), cifar10 or movielens.")] = "digits",
    data: Annotated[Path | None, typer.Option("--data", help="Folder with the data of the story.")] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Workspace to make; an earlier demo there is replaced.")
    ] = Path("demo-work"),
    size: Annotated[str, typer.Option("--size", help="cifar10: short, medium or full (20 min, 1 h, 5 h).")] = "short",
    full: Annotated[bool, typer.Option("--full", help="The same as --size full.")] = False,
    red_team: Annotated[
        bool, typer.Option("--red-team", help="movielens: read a user's history out of the weights, before and after.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train, build the bank, request, erase, verify, certify: the whole walk, with progress and a verdict table."""
    from rich.console import Console

    from expunge.core.errors import InputError
    from expunge.workflow.stories import play

    if story not in STORIES:
        raise InputError("unknown story", expected=" or ".join(STORIES), got=story)
    chosen = _story(story, data, size="full" if full else size, red_team=red_team)
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold]{chosen.title}[/]\n{chosen.estimate}")
    _clear(folder, resume=chosen.resumable)
    started = time.monotonic()
    with progress_on_stderr(images_per_step=chosen.images_per_step) as progress:
        told = play(chosen, folder, progress)
    seconds = time.monotonic() - started
    result = {"story": story, "seconds": round(seconds, 1), "cases": told}
    emit(result, as_json, lambda console: _show(console, told, seconds))


def _story(name: str, data: Path | None, *, size: str, red_team: bool) -> Story:
    from expunge.workflow.stories import cifar10_story, digits_story
    from expunge.workflow.story_movielens import movielens_story

    if name == "movielens":
        return movielens_story(data, red_team=red_team)
    return digits_story() if name == "digits" else cifar10_story(data, size=size)


def _clear(folder: Path, *, resume: bool) -> None:
    """Replace an earlier demo; never anything else."""
    from expunge.core.errors import InputError

    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / "expunge.toml").exists():
        raise InputError(f"{folder} holds something that is not a demo", hint="choose another --folder")
    if not resume:
        shutil.rmtree(folder)


def _show(console: Console, told: list[Any], seconds: float) -> None:
    from expunge.apps.cli.run import show_outcome, show_trials

    for chapter in told:
        console.print(f"\n[bold underline]{chapter.title}[/]")
        if chapter.outcome is not None:
            show_outcome(console, chapter.outcome)
        else:
            show_trials(console, chapter.trials)
            console.print(f"[red]not erased, nothing was released[/]: {chapter.refusal}")
        for when, note in zip(("before", "after"), chapter.notes, strict=False):
            console.print(f"[bold]red team, {when} the deletion[/]: {note}")
    console.print(_summary(told))
    console.print(f"{seconds:.0f} s in all")


_COLUMNS = ("provenance", "deployed", "membership", "utility", "algebra", "census", "left_out", "behaviour", "ranking")


def _summary(told: list[Any]) -> Any:
    """One row a deletion: what was granted, by which method, and each check's verdict."""
    from rich.table import Table

    from expunge.apps.cli._console import COLOURS

    table = Table(title="in short", title_justify="left")
    found = {finding.check for chapter in told for trial in chapter.trials for finding in trial.findings}
    checks = [name for name in _COLUMNS if name in found]
    for name in ("deletion", "granted", "by", *checks):
        table.add_column(name, overflow="fold")
    for chapter in told:
        trials = chapter.trials
        verdicts = {finding.check: finding.verdict.value for finding in (trials[-1].findings if trials else ())}
        shown = [f"[{COLOURS[verdicts[check]]}]{verdicts[check]}[/]" if check in verdicts else "–" for check in checks]
        granted = f"[bold]{chapter.outcome.guarantee.value}[/]" if chapter.outcome else "[red]nothing[/]"
        table.add_row(chapter.title, granted, trials[-1].method if trials else "–", *shown)
    return table
