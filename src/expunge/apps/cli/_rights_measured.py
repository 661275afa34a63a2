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


def rights_policy(path: Path | None) -> Any:
    """The policy in a file, or the one that ships."""
    from expunge.workflow.rights.policy import default_rights_policy, read_rights_policy

    return read_rights_policy(path) if path else default_rights_policy()
