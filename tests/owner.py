"""What an owner does to a not-learned statement: rewrites the file, signs another one, shows more of the log or less."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from expunge import Workspace
from expunge.core.codec import canonical, encode
from expunge.evidence.bundle import LoggedEntry
from expunge.evidence.envelope import payload_of, sign_envelope
from expunge.evidence.not_learned import NotLearned, build, parse, read_issued
from testbed import STRANGER


def count(workspace: Workspace, kind: str) -> int:
    return sum(entry.kind == kind for entry in workspace.log.entries())


def stated(outcome: Any) -> NotLearned:
    return parse(payload_of(read_issued(outcome.statement.path).envelope))[0]


def ask(workspace: Workspace, style: str = STRANGER) -> tuple[Any, bytes]:
    """A request for the style, run; what the requester keeps of it beside the outcome."""
    case = workspace.request(style=style)
    receipt = case.receipt.read_bytes()
    return workspace.run(case), receipt


def rewrite(outcome: Any, change: Callable[[Any], object]) -> None:
    plain = json.loads(outcome.statement.path.read_bytes())
    change(plain)
    outcome.statement.path.write_bytes(canonical(plain))


def sign_anew(workspace: Workspace, outcome: Any, **changes: Any) -> None:
    """The owner signs another statement over the same log."""
    envelope = sign_envelope(
        build(replace(stated(outcome), **changes)), [workspace.signer("operator"), workspace.signer("verifier")]
    )
    rewrite(outcome, lambda plain: plain.update(envelope=envelope))


def show(workspace: Workspace, outcome: Any, *more: int) -> None:
    """The file over the log as it is now, with these entries beside those that it had."""
    size = workspace.log.size

    def extract(plain: Any) -> None:
        log, indices = plain["log"], {*(entry["index"] for entry in plain["log"]["entries"]), *more}
        rows = [
            LoggedEntry(
                index=index,
                body=workspace.log.entry(index).body,
                path=tuple(workspace.log.prove_inclusion(index, size).path),
            )
            for index in sorted(indices)
        ]
        links = [workspace.log.prove_consistency(link["old"], size) for link in log["consistency"]]
        log.update(size=size, entries=encode(rows), consistency=encode(links))
        plain["checkpoint"] = workspace.log.checkpoint()

    rewrite(outcome, extract)
