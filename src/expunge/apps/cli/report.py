"""expunge report: the self-contained HTML report out of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.apps.cli._console import JsonOption, emit


def command(
    bundle: Annotated[Path, typer.Argument(help="Certificate bundle (zip).")],
    out: Annotated[Path | None, typer.Option("--out", help="Where to write; beside the bundle if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take report.html out of a bundle. It is a view: check the bundle with `expunge verify` first."""
    from expunge.core.errors import InputError
    from expunge.evidence.bundle import read_bundle
    from expunge.evidence.durable import write_file

    files = read_bundle(bundle).files
    if "report.html" not in files:
        raise InputError("this bundle carries no report", got=", ".join(sorted(files)))
    target = out or bundle.with_name("report.html")
    write_file(target, files["report.html"])
    emit({"report": str(target)}, as_json, lambda console: console.print(f"report: {target}"))
