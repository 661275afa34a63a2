"""expunge verify: the relying party's own check of a bundle, offline, with their own roots and policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.apps.cli._console import JsonOption, emit

MODEL = "The served safetensors file at hand; with --rerun also a model directory."
RERUN = "Also ask the model for the style again, from the seeds of the certificate's battery."

if TYPE_CHECKING:
    from rich.console import Console


def command(
    bundle: Annotated[Path, typer.Argument(help="Certificate bundle (zip), or a not-learned statement (json).")],
    trust: Annotated[Path, typer.Option("--trust", help="Your trust roots: the issuer's public keys.")],
    policy: Annotated[Path, typer.Option("--policy", help="Your policy.yaml.")],
    against: Annotated[
        Path | None, typer.Option("--against", help="Receipt or checkpoint you were given at intake.")
    ] = None,
    cosignature: Annotated[
        Path | None, typer.Option("--cosignature", help="Co-signature of somebody who recomputed the model.")
    ] = None,
    model: Annotated[Path | None, typer.Option("--model", help=MODEL)] = None,
    again: Annotated[bool, typer.Option("--rerun", help=RERUN)] = False,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Workspace of the case, for --rerun.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a certificate step by step; exit 5 when any step fails. Needs neither numpy nor torch nor a network.

    With --rerun (`expunge recheck`) the style is asked for again, from the seeds that were used, which takes what it took; exit 5
    when the weights are others by now (the evidence has expired) or the counts differ.
    """
    from expunge.core.codec import loads
    from expunge.core.errors import EvidenceError, InputError
    from expunge.evidence.keys import read_roots
    from expunge.evidence.not_learned import is_issued
    from expunge.evidence.not_learned_verify import verify_not_learned
    from expunge.evidence.tensors import TensorManifest
    from expunge.evidence.verify import verify_bundle
    from expunge.workflow.policy import read_policy

    if model is not None and model.is_dir() and not again:
        raise InputError(
            "a certificate names the weights in one safetensors file", got=f"{model.name}, a directory", hint="--rerun"
        )
    roots, mine, kept = read_roots(trust), read_policy(policy), checkpoint_in(against) if against else None
    expect = _expectation(against, TensorManifest.of_file(model).root if model and not again else None)
    if is_issued(bundle):
        result = verify_not_learned(bundle, roots=roots, policy=mine, against=kept, expect=expect)
    else:
        signed = loads(cosignature.read_bytes(), what="co-signature") if cosignature else None
        result = verify_bundle(bundle, roots=roots, policy=mine, against=kept, expect=expect, cosignature=signed)

    repeated = _repeated(result, workspace, model) if again and result.ok else None
    more = {"rerun": repeated} if again else {}
    emit(
        {"verified": result.ok, "verification": result, **more},
        as_json,
        lambda console: _show(console, result, repeated),
    )
    if not result.ok:
        raise EvidenceError("the certificate does not verify", hint="see the failed steps")
    if repeated is not None:
        repeated.require()


def _show(console: Console, result: Any, repeated: Any) -> None:
    from rich.markup import escape

    colours = {"ok": "green", "failed": "red", "skipped": "yellow"}
    console.print(f"[bold]{escape(result.custody or 'who issued it is not known')}[/]")
    for step in result.steps:
        mark = f"[{colours[step.status]}]{step.status:<7}[/]"
        console.print(f"{step.number:>2} {mark} {step.name}: {escape(step.reason)}")
    if repeated is not None:
        console.print(escape(repeated.words))
    console.print(f"\n[bold green]VERIFIED[/] {result.sentence}" if result.ok else "\n[bold red]NOT VERIFIED[/]")


def _repeated(result: Any, workspace: Path | None, model: Path | None) -> Any:
    """The battery behind a certificate that holds, asked again. Loaded by name, as verbs are: checking a certificate takes
    neither numpy nor torch, and drawing takes both."""
    import importlib

    return importlib.import_module("expunge.apps.cli._rerun").repeated(result, workspace, model)


def _expectation(receipt: Path | None, model: str | None) -> Any:
    """What the requester's receipt and the model at hand let the verifier compare."""
    from expunge.core.codec import decode, loads
    from expunge.evidence.commitment import Opening
    from expunge.evidence.manifest import RecordOpening
    from expunge.evidence.verify import Expectation

    text = receipt.read_text(encoding="utf-8") if receipt else ""
    if not text.lstrip().startswith("{"):
        return Expectation(model=model)
    plain = loads(text, what="receipt")
    if "opening" not in plain:  # the owner's copy after closing: only the requester's still names the records
        return Expectation(model=model)
    return Expectation(
        model=model,
        opening=decode(Opening, plain["opening"], what="receipt"),
        records=decode(tuple[RecordOpening, ...], plain["records"], what="receipt"),
        remains=decode(tuple[RecordOpening, ...], plain.get("remains", []), what="receipt"),
        style=decode(Opening, plain["style"], what="receipt") if "style" in plain else None,
    )


def checkpoint_in(path: Path) -> str:
    """The checkpoint note in a receipt, or the file itself."""
    from expunge.core.codec import loads

    text = path.read_text(encoding="utf-8")
    return str(loads(text, what="receipt")["checkpoint"]) if text.lstrip().startswith("{") else text
