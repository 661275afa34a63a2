"""The verbs of `expunge rights` that measure: what was in the data, and what the model gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from expunge.apps.cli._console import DEFAULT_WORKSPACE, JsonOption, WorkspaceOption, emit, progress_on_stderr

Handle = Annotated[str, typer.Argument(help="The request, as intake named it.")]
PolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="A policy of kind rights_holder; the one that ships if not given.")
]


def search(
    request: Handle,
    works: Annotated[Path, typer.Argument(help="A folder with the claimant's files, as the letter lists them.")],
    embedder: Annotated[
        Path | None, typer.Option("--embedder", help="A folder with a CLIP, SigLIP or DINOv2 model, as a further vote.")
    ] = None,
    policy: PolicyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Were the works in the training data? By file, pixels and likeness; the log has counts, and `decide` takes them."""
    from expunge.workflow.rights.search_words import words_of
    from expunge.workflow.rights.searching import search as searched
    from expunge.workflow.workspace import opened

    rules = rights_policy(policy)
    with progress_on_stderr() as progress, opened(workspace, progress) as ws:
        found = searched(ws, request, works, rules, embedder=embedder)
    emit(
        {"search": found},
        as_json,
        lambda console: console.print("\n".join(words_of(found, rules.limits)), markup=False),
    )


def extract(
    request: Handle,
    works: Annotated[int, typer.Option("--works", help="So many of the works that a search found are asked for.")] = 20,
    pictures: Annotated[int, typer.Option("--pictures", help="So often each.")] = 100,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Does the model give the works back? They are asked for by their captions, and so are works that no training saw."""
    from expunge.workflow.rights.copying import extract_works, words_of
    from expunge.workflow.workspace import opened

    with progress_on_stderr() as progress, opened(workspace, progress) as ws:
        found = extract_works(ws, request, works=works, pictures=pictures)
    emit({"extraction": found}, as_json, lambda console: console.print("\n".join(words_of(found)), markup=False))


def seal(
    prompts: Annotated[Path, typer.Argument(help="Your prompts, one a line.")],
    opening: Annotated[Path, typer.Option("--opening", help="Where to write key and prompts: keep it to yourself.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the seal: hand it in before the decision.")],
    as_json: JsonOption = False,
) -> None:
    """For a claimant: seal prompts that test a decision later. Needs no workspace."""
    from expunge.evidence.durable import write_file
    from expunge.workflow.rights.sealing import unsealed, written

    kept = unsealed(lines_of(prompts))
    write_file(opening, written(kept), mode=0o600, replace=False)
    write_file(out, written(kept.seal), replace=False)
    words = f"{len(kept.prompts)} prompts are sealed. Hand in {out}; keep {opening} secret until you appeal."
    emit({"seal": kept.seal}, as_json, lambda console: console.print(words, markup=False))


def deposit(
    request: Handle,
    sealed: Annotated[Path, typer.Argument(help="The claimant's seal.")],
    policy: PolicyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Log a claimant's sealed prompts. They can test only what is decided after this."""
    from expunge.workflow.rights.sealing import deposit as deposited
    from expunge.workflow.rights.sealing import read_seal
    from expunge.workflow.workspace import opened

    with opened(workspace) as ws:
        entry = deposited(ws, request, read_seal(bytes_of(sealed)), rights_policy(policy))
    emit({"entry": entry.index}, as_json, lambda console: console.print(f"entry {entry.index} of the log"))


def probe(
    request: Handle,
    style: Annotated[str, typer.Option("--style", help="The claimant's style, as the data names it.")],
    opening: Annotated[
        Path | None, typer.Option("--opening", help="The opening of the appeal's sealed prompts.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="The appeal's prompts, where they were not sealed.")
    ] = None,
    original: Annotated[
        Path | None, typer.Option("--original", help="The model as it was before: weights or a directory.")
    ] = None,
    policy: PolicyOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
) -> None:
    """Ask the prompts of an appeal of the model in service, once. Exit 4 where sealed prompts bring the style."""
    from expunge.core.errors import Held, InputError
    from expunge.core.finding import Verdict
    from expunge.workflow.rights import probing
    from expunge.workflow.rights.sealing import read_unsealed
    from expunge.workflow.workspace import opened

    if (opening is None) == (prompts is None):
        raise InputError("one of --opening and --prompts is needed")
    shown = None if opening is None else read_unsealed(bytes_of(opening))
    lines = [] if prompts is None else lines_of(prompts)
    with progress_on_stderr() as progress, opened(workspace, progress) as ws:
        found = probing.probe(ws, request, lines, rights_policy(policy), style=style, opening=shown, original=original)
    emit({"probed": found}, as_json, lambda console: console.print("\n".join(probing.words_of(found)), markup=False))
    if found.sealed and found.verdict is Verdict.FAIL:
        raise Held("sealed prompts bring the style", got=request, hint="expunge rights settle --outcome granted")


def lines_of(path: Path) -> list[str]:
    """Lines that say something."""
    from expunge.core.errors import InputError

    try:
        return [line for line in bytes_of(path).decode("utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text") from error


def bytes_of(path: Path) -> bytes:
    """A file's bytes."""
    from expunge.evidence.durable import storage_errors

    with storage_errors(path, "read"):
        return path.read_bytes()


def rights_policy(path: Path | None) -> Any:
    """The policy in a file, or the one that ships."""
    from expunge.workflow.rights.policy import default_rights_policy, read_rights_policy

    return read_rights_policy(path) if path else default_rights_policy()
