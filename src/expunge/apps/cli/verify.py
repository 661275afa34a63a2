"""expunge verify: the relying party's own check of a bundle, offline, with their own roots and policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from expunge.apps.cli._console import JsonOption, emit


def command(
    bundle: Annotated[Path, typer.Argument(help="Certificate bundle (zip).")],
    trust: Annotated[Path, typer.Option("--trust", help="Your trust roots: the issuer's public keys.")],
    policy: Annotated[Path, typer.Option("--policy", help="Your policy.yaml.")],
    against: Annotated[
        Path | None, typer.Option("--against", help="Receipt or checkpoint you were given at intake.")
    ] = None,
    cosignature: Annotated[
        Path | None, typer.Option("--cosignature", help="Co-signature of somebody who recomputed the model.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a certificate step by step; exit 5 when any step fails. Needs neither numpy nor torch nor a network."""
    from expunge.core.codec import loads
    from expunge.core.errors import EvidenceError
    from expunge.evidence.keys import read_roots
    from expunge.evidence.verify import verify_bundle
    from expunge.workflow.policy import read_policy

    result = verify_bundle(
        bundle,
        roots=read_roots(trust),
        policy=read_policy(policy),
        against=_checkpoint(against) if against else None,
        cosignature=loads(cosignature.read_bytes(), what="co-signature") if cosignature else None,
    )

    def human(console: Console) -> None:
        console.print(f"[bold]{result.custody}[/]")
        for step in result.steps:
            mark = {"ok": "[green]ok[/]", "failed": "[red]FAILED[/]", "skipped": "[yellow]skipped[/]"}[step.outcome]
            console.print(f"{step.number:>2} {mark:<8} {step.name}" + (f": {step.detail}" if step.detail else ""))
        console.print(f"\n{result.sentence}" if result.ok else "\n[red]not verified[/]")

    emit({"verification": result}, as_json, human)
    if not result.ok:
        raise EvidenceError("the certificate does not verify", hint="see the failed steps")


def _checkpoint(path: Path) -> str:
    """The checkpoint note in a receipt, or the file itself."""
    from expunge.core.codec import loads

    text = path.read_text(encoding="utf-8")
    return str(loads(text, what="receipt")["checkpoint"]) if text.lstrip().startswith("{") else text
