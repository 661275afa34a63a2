"""expunge recompute: re-execute the recipe behind a certificate with your own key and your own copy of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.apps.cli._console import JsonOption, emit, progress_on_stderr


def command(
    bundle: Annotated[Path, typer.Argument(help="Certificate bundle (zip).")],
    package: Annotated[Path, typer.Option("--package", help="The owner's recompute.json for this case.")],
    key: Annotated[Path, typer.Option("--key", help="Your Ed25519 key (PEM); made if it does not exist.")],
    by: Annotated[str, typer.Option("--by", help="Your name.")],
    data: Annotated[str | None, typer.Option("--data", help="Your copy of the retained data.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Co-signature file.")] = Path("cosignature.json"),
    as_json: JsonOption = False,
) -> None:
    """Train from scratch without the records; if the weights are the same, co-sign. Exit 5 if they are not."""
    from expunge.evidence.keys import Root, load_signer, write_roots
    from expunge.evidence.signers.file import FileSigner
    from expunge.workflow.recompute import recompute

    if not key.exists():
        FileSigner.create(key)
    uri = f"file:{key}?passphrase_env=EXPUNGE_KEY_PASSPHRASE"
    with progress_on_stderr() as progress:
        result = recompute(bundle, package, data=data, key=uri, by=by, out=out, progress=progress)
    root = out.with_suffix(".roots.json")
    write_roots(root, [Root.of(load_signer(uri), name=by, role="verifier")])
    emit(
        {"recomputed": result, "root": str(root)},
        as_json,
        lambda console: console.print(
            f"the same weights, {result.model[:19]}…, in {result.seconds:.1f} s\n"
            f"co-signature: {out}\npublic key, for relying parties to add to their roots: {root}"
        ),
    )
