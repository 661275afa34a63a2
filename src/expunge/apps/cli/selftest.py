"""expunge selftest: every known cheat, tried on the verifier before it is trusted with a case."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.apps.cli._console import JsonOption, emit, progress_on_stderr

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.core.selftest import SelftestReport, Tally
    from expunge.workflow.workspace import Workspace


def command(
    workspace: Annotated[
        Path | None, typer.Argument(help="Workspace; embedded digits in a temporary folder if not given.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One block, six pairs, one placebo: a minute or two on digits.")
    ] = False,
    pilot: Annotated[bool, typer.Option("--pilot", help="Pilot counts, for models that are dear to train.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Try every saboteur and honest placebo, and record the counts. Exit 3: a cheat passed. Exit 4: none did, and the
    report still vouches for nothing."""
    from expunge.core.errors import Held, NotErased
    from expunge.workflow.selftest.gate import problems_of

    size = "quick" if quick else "pilot" if pilot else "full"
    with progress_on_stderr() as progress, _opened(workspace, progress) as ws:
        found = ws.selftest(size)
        problems = problems_of(ws, found.report)
    result = {"report": found.report, "digest": found.digest, "passed": list(found.report.passed)}
    emit(result, as_json, lambda console: _show(console, found.report, found.digest))
    if found.report.passed:
        stopped = "no edit" if not problems else "nothing"
        raise NotErased(
            f"a cheat passed the verifier; {stopped} will be certified in this workspace",
            got=", ".join(found.report.passed),
            hint="a larger bank, anchors, or a stricter policy; see the table",
        )
    if problems:
        raise Held(
            "no cheat passed, but the self-test does not vouch for a certificate",
            got="; ".join(problems),
            hint="find the cause of what is named here, then expunge selftest again",
        )


@contextmanager
def _opened(root: Path | None, progress: Any) -> Iterator[Workspace]:
    """The workspace, or one of embedded digits that is gone afterwards."""
    from expunge.workflow.stories import digits_story
    from expunge.workflow.workspace import Workspace, opened

    if root is not None:
        with opened(root, progress) as workspace:
            yield workspace
        return
    story = digits_story()
    with tempfile.TemporaryDirectory(prefix="expunge-selftest-") as folder:
        home = Path(folder) / "work"
        with Workspace.create(home, config=story.config, recipe=story.recipe, progress=progress) as workspace:
            workspace.train()
            workspace.bank()
            yield workspace


def _show(console: Console, report: SelftestReport, digest: str) -> None:
    from rich.table import Table

    table = Table(
        title=f"self-test, {report.size}: {report.pairs} pairs, {report.anchors} anchors", title_justify="left"
    )
    for name in ("saboteur", "tried", "certified", "at most (95 %)", "caught by", "expected"):
        table.add_column(name, justify="right" if name in ("tried", "certified", "at most (95 %)") else "left")
    for item in report.tallies:
        table.add_row(*_row(item))
    console.print(table)
    for alarm in report.alarms:
        console.print(f"false alarms of {alarm.check}, {alarm.source}: {alarm.claim}")
    for signal in sorted({dose.signal for dose in report.doses}):
        rises = ", ".join(
            f"dose {dose.dose}: {'–' if dose.rise is None else f'{dose.rise:+.2f}'} SD{'' if dose.seen else ' (not seen)'}"
            for dose in report.doses
            if dose.signal == signal
        )
        console.print(f"block put back, {signal}: {rises}")
    power = report.canary_reason if report.canary_power is None else f"{report.canary_power:.2f}"
    console.print(f"planted canaries at d = 3 found with power: {power}")
    console.print(f"[bold {'red' if report.passed or report.owed else 'green'}]{report.sentence}[/]\nreport: {digest}")


def _row(item: Tally) -> tuple[str, ...]:
    if not item.tried:
        return item.saboteur, "–", "–", "–", item.skipped, ", ".join(item.expected)
    caught = [f"{check} {count}" for check, count in item.caught.items()]
    caught += [f"undecided {item.undecided}"] if item.undecided else []
    colour = "red" if item.passed else "green"
    limit = "–" if item.upper is None else f"{item.upper:.2f}"
    expected = ", ".join(item.expected)
    return item.saboteur, str(item.tried), f"[{colour}]{item.certified}[/]", limit, ", ".join(caught), expected
