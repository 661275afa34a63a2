"""expunge log: verify, prove and checkpoint the tamper-evident log of a workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit

app = typer.Typer(no_args_is_help=True, help="Verify, prove and checkpoint the tamper-evident log.")


def _log(workspace: Path, *, signing: bool = False) -> Any:
    """The log, read only unless a checkpoint has to be signed. Needs no torch."""
    from expunge.evidence.keys import load_signer, read_roots
    from expunge.evidence.log import AuditLog
    from expunge.workflow.config import origin_of, read_config

    key = f"file:{workspace / 'keys' / 'log.pem'}?passphrase_env=EXPUNGE_KEY_PASSPHRASE"
    origin = origin_of(read_config(workspace / "expunge.toml"))
    signer = load_signer(key) if signing else None
    log = AuditLog(workspace / "log.db", signer=signer, origin=origin, read_only=not signing)
    return log, read_roots(workspace / "roots.json")


@app.command()
def verify(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    against: Annotated[Path | None, typer.Option("--against", help="Checkpoint or receipt kept outside.")] = None,
    trust: Annotated[
        Path | None, typer.Option("--trust", help="Roots to use; the workspace's own if not given.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute everything from the entries; with an outside checkpoint, find rollback and forks too."""
    from expunge.apps.cli.verify import checkpoint_in
    from expunge.core.errors import EvidenceError
    from expunge.evidence.keys import read_roots

    log, own = _log(workspace)
    with log:
        report = log.verify(checkpoint_in(against) if against else None, roots=read_roots(trust) if trust else own)
    outside = (
        "agrees with the outside checkpoint"
        if against
        else "no outside checkpoint was given: a rollback would not show"
    )
    emit(
        {"report": report},
        as_json,
        lambda console: console.print(f"{report.size} entries, root {report.root}; {outside}"),
    )
    if not report.ok:
        raise EvidenceError("the log does not verify", got="; ".join(report.problems[:5]))


@app.command()
def prove(
    index: Annotated[int, typer.Argument(help="Entry, counted from 0.")],
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Print the inclusion proof of one entry against the current tree."""
    log, _ = _log(workspace)
    with log:
        entry, proof = log.entry(index), log.prove_inclusion(index)
    result = {"entry": entry.body, "proof": proof}
    emit(result, as_json, lambda console: console.print_json(data=_plain(result)))


@app.command()
def checkpoint(
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    anchor: Annotated[Path | None, typer.Option("--git", help="Git repository to commit it to as well.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign and print a checkpoint; keep it where this machine cannot change it."""
    from expunge.connect.git import GitAnchor

    log, _ = _log(workspace, signing=True)
    with log:
        note = log.checkpoint()
    commit = GitAnchor(repository=anchor).publish(note) if anchor else None
    emit({"checkpoint": note, "commit": commit}, as_json, lambda console: console.print(note, end="", markup=False))


def _plain(value: Any) -> Any:
    from expunge.core.codec import encode

    return encode(value)
