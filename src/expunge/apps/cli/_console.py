"""What the verbs share: options, progress on stderr, results on stdout as text or JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:  # rich is loaded when something is shown, so that --help is quick
    from rich.console import Console
    from rich.progress import TaskID
    from rich.table import Table

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", help="Workspace folder.", envvar="EXPUNGE_WORKSPACE", show_default=True)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Result as JSON on stdout; progress stays on stderr.")]
CaseOption = Annotated[str | None, typer.Option("--case", help="Case handle; the newest one if not given.")]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="Where to train: inline://, process://?n=2, ray://local?n=2 or ray://HOST:PORT?n=2."),
]
DEFAULT_WORKSPACE = Path("work")
COLOURS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow", "UNVERIFIABLE": "magenta"}


def stdout() -> Console:
    """Console for results; honours NO_COLOR."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def emit(result: Mapping[str, Any], as_json: bool, human: Callable[[Console], None]) -> None:
    """The result, once: JSON for machines or text for people."""
    if as_json:
        sys.stdout.write(json.dumps(_plain(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        human(stdout())


def _plain(value: Any) -> Any:
    """Nouns as JSON for a screen or a script: numbers stay numbers here, unlike in signed records."""
    from expunge.core.codec import encode

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, float) else encode(value)


@contextmanager
def progress_on_stderr(*, images_per_step: int = 0) -> Iterator[Callable[[str, int, int], None]]:
    """A progress callback (what, done, total): bars with time left, images/s for training; sparse lines without a tty."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _lines(console, images_per_step)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<22}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, tuple[TaskID, float]] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks or done <= 1:  # the same stage may come again
                for old, _ in (tasks.pop(what),) if what in tasks else ():
                    bars.remove_task(old)
                tasks[what] = (bars.add_task(what, total=total, rate=""), time.monotonic())
            task, started = tasks[what]
            bars.update(task, completed=done, total=total, rate=_rate(what, done, started, images_per_step))

        yield show


def _rate(what: str, done: int, started: float, images_per_step: int) -> str:
    if what != "train" or not images_per_step or not done:
        return ""
    return f"{done * images_per_step / max(time.monotonic() - started, 1e-6):,.0f} images/s"


def _lines(console: Console, images_per_step: int) -> Callable[[str, int, int], None]:
    """One line every ten seconds and one at the end of each stage."""
    started: dict[str, float] = {}
    last = [0.0]

    def show(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done <= 1:
            started[what] = now  # the same stage may come again
        begin = started.setdefault(what, now)
        if now - last[0] < 10 and done < total:
            return
        last[0] = now
        left = (now - begin) / done * (total - done) if done else 0.0
        console.print(f"{what} {done}/{total} {_rate(what, done, begin, images_per_step)} {left:.0f} s left")

    return show


def verdict_table(findings: list[Mapping[str, Any]], title: str) -> Table:
    """A row a check: verdict, estimate against limit, n and why. Takes findings as encoded JSON."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_lines=False, expand=False)
    for name, justify in (
        ("check", "left"),
        ("verdict", "left"),
        ("estimate", "right"),
        ("n", "right"),
        ("why", "left"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for finding in findings:
        verdict = str(finding["verdict"])
        table.add_row(
            str(finding["check"]),
            f"[{COLOURS[verdict]}]{verdict}[/]",
            short(finding["estimate"]),
            str(finding["n"]),
            str(finding["reason"]),
        )
    return table


def short(value: Any) -> str:
    """A decimal string to three digits; a dash for what is missing."""
    return "–" if value is None else f"{float(value):.3g}"
