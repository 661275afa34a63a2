"""expunge demo: one whole deletion on real data, in one terminal page."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.apps.cli._console import JsonOption, emit, progress_on_stderr

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.workflow.stories import Story

STYLES = "artist-style"
STORIES = ("digits", "cifar10", "movielens", STYLES)


def command(
    story: Annotated[str, typer.Argument(help="digits (embedded), cifar10, movielens or artist-style.")] = "digits",
    data: Annotated[Path | None, typer.Option("--data", help="Folder with the data of the story.")] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Workspace to make; an earlier demo there is replaced.")
    ] = Path("demo-work"),
    size: Annotated[str, typer.Option("--size", help="cifar10: short, medium or full (20 min, 1 h, 5 h).")] = "short",
    full: Annotated[bool, typer.Option("--full", help="The same as --size full.")] = False,
    red_team: Annotated[
        bool, typer.Option("--red-team", help="movielens: read a user's history out of the weights, before and after.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="artist-style: drawn coarsely, in the time that a CI job has.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train, build the bank, request, erase, verify, certify: the whole walk, with progress and a verdict table."""
    from rich.console import Console

    from expunge.core.errors import InputError
    from expunge.workflow.stories import play

    if story not in STORIES:
        raise InputError("unknown story", expected=" or ".join(STORIES), got=story)
    if story == STYLES:
        _tell_styles(folder, as_json, quick=quick)
        return
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


def _tell_styles(folder: Path, as_json: bool, *, quick: bool) -> None:
    """The story of an artist, on the checkpoints that ship; the page lies in the folder."""
    from expunge.apps.reports._styles import styles_page
    from expunge.core.errors import InputError
    from expunge.workflow.styles.story import QUICK, play_styles

    if folder.exists() and any(folder.iterdir()):
        if not (folder / "battery").is_dir():
            raise InputError(f"{folder} holds something that is not this demo", hint="choose another --folder")
        shutil.rmtree(folder)
    started = time.monotonic()
    with progress_on_stderr() as progress:
        told = play_styles(folder, progress, size=QUICK if quick else None)
    seconds = round(time.monotonic() - started, 1)
    plain = asdict(told)
    page = folder / "styles.html"
    page.write_bytes(styles_page(plain))
    result = {
        "story": STYLES,
        "seconds": seconds,
        "page": str(page),
        **{k: v for k, v in plain.items() if k != "sheet"},
    }
    emit(result, as_json, lambda console: _show_styles(console, told, page, seconds))


def _show_styles(console: Console, told: Any, page: Path, seconds: float) -> None:
    from rich.table import Table

    table = Table(title=f"an artist is forgotten: {told.scale}", title_justify="left")
    for name in ("model", "word", "by name", "reworded", "two learned vectors"):
        table.add_column(name, overflow="fold")
    for chapter in told.chapters:
        shares = [
            "–" if label not in chapter.rates else f"{chapter.rates[label][1]:.0%} ({chapter.rates[label][0]:.0%})"
            for label in ("direct", "reworded", "soft_prompt/2")
        ]
        table.add_row(chapter.title, chapter.rung.value, *shares)
    console.print(table)
    console.print("pictures in the artist's style from this model (in brackets: from the model as it is)")
    console.print(f"page: {page}\n{seconds:.0f} s in all")


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
