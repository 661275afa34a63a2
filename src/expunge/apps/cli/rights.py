"""expunge rights: requests of rights holders, from the letter to the release; every decision is an entry of the log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.apps.cli import _rights_measured
from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit, progress_on_stderr
from expunge.apps.cli._rights_measured import Handle, PolicyOption, bytes_of, lines_of, rights_policy

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import Console

app = typer.Typer(no_args_is_help=True, help="Requests of rights holders: intake, decision, appeal, release.")
Reviewer = Annotated[str, typer.Option("--reviewer", help="Who decides; the log has a keyed pseudonym.")]


@app.command()
def intake(
    letter: Annotated[
        Path, typer.Argument(help="YAML: claimant, authority, works, names, jurisdiction, basis, remedies.")
    ],
    received: Annotated[str, typer.Option("--received", help="When it came, as an ISO time; now if not given.")] = "",
    policy: PolicyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Check a letter, keep it privately, and log that it came; prints what is due by when."""
    from expunge.workflow.rights import desk
    from expunge.workflow.workspace import opened

    rules, book = _policy(policy)
    with opened(workspace) as ws:
        found = desk.receive(ws, _text(letter), rules, book, _time(received))
    emit({"request": found}, as_json, lambda console: _show(console, [found]))


app.command()(_rights_measured.search)
app.command()(_rights_measured.extract)
app.command()(_rights_measured.seal)
app.command()(_rights_measured.deposit)


@app.command()
def decide(
    request: Handle,
    facts: Annotated[Path, typer.Argument(help="YAML: what was measured. Leave out what was not.")],
    reviewer: Reviewer,
    style: Annotated[str, typer.Option("--style", help="Ask the served model whether it learned this style.")] = "",
    policy: PolicyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Ask the decision table; writes the letter and logs the decision. A hold exits 4: a person has to decide."""
    from expunge.core.errors import Held
    from expunge.workflow.rights import desk
    from expunge.workflow.rights.requests import private
    from expunge.workflow.rights.terms import Action
    from expunge.workflow.workspace import opened

    rules, book = _policy(policy)
    with progress_on_stderr() as progress, opened(workspace, progress) as ws:
        found = desk.decide(ws, request, _text(facts), rules, book, reviewer=reviewer, style=style)
        sent = private(ws, request).parent / "letter.txt"
    words = f"{found.action.value}, because {found.ground.value} (row {found.row})\n\n{found.words}\n\nletter: {sent}"
    emit({"decision": found, "letter": str(sent)}, as_json, lambda console: console.print(words, markup=False))
    if found.action is Action.LEGAL_HOLD:
        raise Held(f"a person decides {request}", got=found.ground.value, hint="see the letter")


@app.command()
def mitigate(
    request: Handle,
    kind: Annotated[str, typer.Option("--filter", help="name_block or similarity_filter.")],
    settings: Annotated[
        Path, typer.Option("--settings", help="What it blocks; the log has a keyed digest of the file.")
    ],
    policy: PolicyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Log that an interim filter stands in front of the model from now on; it expires, and removes nothing."""
    from typing import get_args

    from expunge.core.errors import InputError
    from expunge.workflow.rights import desk
    from expunge.workflow.rights.mitigation import Filter
    from expunge.workflow.workspace import opened

    if kind not in get_args(Filter):
        raise InputError("no interim filter", expected=", ".join(get_args(Filter)), got=kind[:80])
    with opened(workspace) as ws:
        found = desk.mitigate(ws, request, kind, bytes_of(settings), _policy(policy)[0], _time(""))  # type: ignore[arg-type]
    emit(
        {"mitigation": found, "label": found.label},
        as_json,
        lambda console: console.print(_held(found), markup=False),
    )


@app.command()
def appeal(
    request: Handle,
    opening: Annotated[
        Path | None, typer.Option("--opening", help="Prompts that were sealed before the decision: they decide.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="Other prompts, one a line: they are reported.")
    ] = None,
    work: Annotated[list[Path] | None, typer.Option("--work", help="A reference work; may be repeated.")] = None,
    policy: PolicyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Record an appeal with probes that test and never train; keyed digests of them are kept, and no words."""
    from expunge.workflow.rights import desk
    from expunge.workflow.rights.sealing import read_unsealed
    from expunge.workflow.workspace import opened

    lines, shown = lines_of(prompts) if prompts else [], read_unsealed(bytes_of(opening)) if opening else None
    works, rules = [bytes_of(path) for path in work or ()], _policy(policy)[0]
    with opened(workspace) as ws:
        found = desk.appeal(ws, request, lines, works, rules, _time(""), opening=shown)
    emit({"appeal": found}, as_json, lambda console: console.print(f"appeal on record; its outcome is due {found.due}"))


app.command()(_rights_measured.probe)


@app.command()
def settle(
    request: Handle,
    outcome: Annotated[str, typer.Option("--outcome", help="upheld, granted or held.")],
    reviewer: Reviewer,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Log how an appeal ended; by somebody else than decided first."""
    from typing import get_args

    from expunge.core.errors import InputError
    from expunge.workflow.rights import desk
    from expunge.workflow.rights.appeal import Outcome
    from expunge.workflow.workspace import opened

    if outcome not in get_args(Outcome):
        raise InputError("no outcome of an appeal", expected=", ".join(get_args(Outcome)), got=outcome)
    with opened(workspace) as ws:
        found = desk.settle(ws, request, outcome, reviewer, _time(""))  # type: ignore[arg-type]
    late = " (late)" if found.late else ""
    emit({"outcome": found}, as_json, lambda console: console.print(f"{found.outcome}{late}"))


@app.command()
def close(
    request: Handle,
    case: Annotated[
        str, typer.Option("--case", help="The closed case that answers it: method and word are read from its evidence.")
    ] = "",
    policy: PolicyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Close a request that was decided, and destroy its letter. What was promised to be done needs the case that did it."""
    from expunge.workflow.rights import desk
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        found = desk.close(ws, request, _policy(policy)[0], _time(""), case=case)
    rung = f", {found.rung.value} by {case}" if found.rung else ""
    emit({"closed": found}, as_json, lambda console: console.print(f"closed: {found.action.value}{rung}"))


@app.command()
def docket(workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False) -> None:
    """Open requests with what is due by when and which filters hold until when; exit 4 where something is overdue, or where a
    request has no filter left."""
    from expunge.core.errors import Held
    from expunge.workflow.rights import desk
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        found = desk.docket(ws, _time(""))
    emit({"open": found}, as_json, lambda console: _show(console, found))
    late, bare = [one.request for one in found if one.overdue], [one.request for one in found if one.lapsed]
    said = [f"{len(late)} requests are overdue"] if late else []
    said += [f"the interim filter of {len(bare)} open requests has expired: an incident"] if bare else []
    if said:
        raise Held("; ".join(said), got=", ".join(dict.fromkeys([*late, *bare][:5])), hint="expunge rights mitigate")


@app.command()
def window(
    policy: PolicyOption = None, workspace: WorkspaceOption = DEFAULT_WORKSPACE, as_json: JsonOption = False
) -> None:
    """Which accepted style edits wait, what edits have cost since the last training, and whether to wait, edit or retrain."""
    from expunge.workflow.rights import windows
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        found = windows.window(ws, _policy(policy)[0], _time(""))
    emit({"window": found}, as_json, lambda console: console.print("\n".join(_window(found)), markup=False))


@app.command()
def counts(
    since: Annotated[str, typer.Option("--since", help="Start of the period, included, as an ISO time.")],
    until: Annotated[str, typer.Option("--until", help="End of the period, not included.")],
    policy: PolicyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """What may be published of closed requests: no names, and no count that points at somebody."""
    from expunge.workflow.rights import desk
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        found = desk.counts(ws, _policy(policy)[0], _time(since), _time(until))
    total = f"fewer than {found.floor}" if found.total is None else str(found.total)
    rows = [
        f"{name}: {count}" for table in (found.outcomes, found.methods, found.rungs) for name, count in table.items()
    ]
    emit({"counts": found}, as_json, lambda console: console.print("\n".join([f"requests: {total}", *rows])))


@app.command()
def release(
    directory: Annotated[Path, typer.Argument(help="What is to be released: a model directory.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Ask for everybody who was granted anything on these very files; exit 4 unless all of them hold."""
    from expunge.workflow.rights.release import check_files, require
    from expunge.workflow.workspace import opened

    with progress_on_stderr() as progress, opened(workspace, progress) as ws:
        gate = check_files(ws, directory)
    left = {name: f"; not asked again: {', '.join(probes)}" for name, probes in gate.skipped.items()}
    lines = [f"{request}: {rung.value}{left.get(request, '')}" for request, rung in gate.verified.items()]
    emit({"gate": gate}, as_json, lambda console: console.print("\n".join([f"files {gate.files}", *lines])))
    require(gate)


def _policy(path: Path | None) -> tuple[Any, Any]:
    from expunge.workflow.rights.jurisdictions import default_jurisdictions

    return rights_policy(path), default_jurisdictions()


def _text(path: Path) -> str:
    from expunge.core.errors import InputError

    try:
        return bytes_of(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text") from error


def _time(text: str) -> datetime:
    """An aware time; UTC where the text does not say, now where there is none."""
    from datetime import UTC, datetime

    from expunge.core.errors import InputError

    try:
        found = datetime.fromisoformat(text) if text else datetime.now(UTC)
    except ValueError as error:
        raise InputError("not a time", expected="2026-03-02 or 2026-03-02T09:00:00+01:00", got=text[:40]) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _held(found: Any) -> str:
    return f"{found.filter} until {found.until:%Y-%m-%d %H:%M}Z. {found.label}"


def _window(found: Any) -> list[str]:
    load, step = found.load, found.step
    rows = [
        f"  {one.request}: since {one.accepted:%Y-%m-%d %H:%M}Z, costs others up to {one.loss:.1%}"
        for one in found.waiting
    ]
    now = [step.answer.name, *(one.request for one in step.batch)]
    return [
        f"{len(rows)} accepted edits wait",
        *rows,
        f"{load.edits} edits since the last training, which cost others up to {load.lost:.1%}",
        f"{' '.join(now)}: {step.reason}" if step.reason else " ".join(now),
    ]


def _show(console: Console, found: list[Any]) -> None:
    for one in found:
        console.print(f"{one.request}: {one.state} {one.action}".rstrip(), markup=False)
        for name, moment in sorted(one.due.items(), key=lambda row: row[1]):
            console.print(f"  {moment:%Y-%m-%d %H:%M}Z {name}{' OVERDUE' if name in one.overdue else ''}", markup=False)
        for held in one.filters:
            console.print(f"  {_held(held)}", markup=False)
        if one.lapsed:
            console.print("  NO INTERIM FILTER LEFT", markup=False)
    if not found:
        console.print("no open request")
