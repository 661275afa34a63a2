"""Which self-test vouches for this workspace's certificates; without one that does, nothing is certified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import expunge
from expunge.core.codec import canonical, decode, digest_of, encode, loads
from expunge.core.errors import Held, IntegrityError
from expunge.core.selftest import SelftestReport, Subject, empirical_problems
from expunge.evidence.commitment import keyed
from expunge.evidence.durable import write_file
from expunge.evidence.verify_steps import TESTED
from expunge.workflow.policy import policy_digest
from expunge.workflow.styles.evidence import asked_digest

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

_AGAIN = "expunge selftest WORKSPACE, then this again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """A recorded self-test: its canonical bytes, their digest, and where the log has it."""

    report: SelftestReport
    data: bytes
    digest: str
    index: int


def subject_of(workspace: Workspace) -> Subject:
    """What a self-test has to have been made on to count here and now."""
    banks = workspace.state().banks
    return Subject(
        policy=policy_digest(workspace.policy),
        bank=banks[-1].digest if banks else None,
        expunge=expunge.__version__,
        kind=workspace.policy.kind,
        asked=asked_digest(workspace) if workspace.policy.kind == "generator" else "",
    )


def record(workspace: Workspace, report: SelftestReport) -> Vouched:
    """Keep a report and log its digest and rates."""
    data, digest = canonical(encode(report)), digest_of(report)
    _file(workspace, digest).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(_file(workspace, digest), data, mode=0o600)
    payload = {
        "report": digest,
        "policy": report.policy,
        "bank": report.bank,
        "expunge": report.expunge,
        "size": report.size,
        "certified": {item.saboteur: [item.certified, item.tried] for item in report.tallies},
        "alarms": [[item.check, item.alarms, item.trials] for item in report.alarms],
    }
    index = workspace.log.append(TESTED, payload).index
    workspace.log.checkpoint()
    return Vouched(report=report, data=data, digest=digest, index=index)


def latest(workspace: Workspace, before: int | None = None) -> Vouched | None:
    """The newest self-test in the log, or the newest older than an index. Raises IntegrityError if its file is not it."""
    entries: list[Any] = [entry for entry in workspace.log.entries() if entry.kind == TESTED]
    entries = [entry for entry in entries if before is None or entry.index < before]
    if not entries:
        return None
    digest = str(entries[-1].payload["report"])
    file = _file(workspace, digest)
    if not file.exists():
        raise IntegrityError("the report of the self-test is gone", expected=str(file), hint=_AGAIN)
    data = file.read_bytes()
    report = decode(SelftestReport, loads(data, what=file.name), what=file.name)
    if digest_of(report) != digest:
        raise IntegrityError("the report of the self-test is not the one that was logged", expected=digest, hint=_AGAIN)
    return Vouched(report=report, data=data, digest=digest, index=entries[-1].index)


def vouch(workspace: Workspace) -> Vouched:
    """The self-test behind the next certificate. Raises Held when it is missing, too old, of something else, or bad."""
    found = latest(workspace)
    if found is None:
        raise Held("no self-test vouches for this workspace, so nothing can be certified", hint=_AGAIN)
    problems = problems_of(workspace, found.report)
    if problems:
        raise Held("the self-test does not vouch for a certificate", got="; ".join(problems), hint=_AGAIN)
    return found


def against_empirical(workspace: Workspace) -> str | None:
    """Why nothing of this workspace could be certified EMPIRICAL, by its newest self-test; None where nothing says so, and where
    there is no self-test yet, without which nothing is certified at all."""
    found = latest(workspace)
    reasons = [] if found is None else empirical_problems(found.report, subject_of(workspace))
    return f"the self-test does not vouch for this: {'; '.join(reasons)}" if reasons else None


def problems_of(workspace: Workspace, report: SelftestReport) -> list[str]:
    """Why nothing can be certified with this report here and now; empty = it vouches."""
    return workspace.policy.selftest.problems(report, datetime.now(UTC), subject_of(workspace))


def check_surrogates(workspace: Workspace, vouched: Vouched, blocks: Sequence[str]) -> None:
    """The cheats were not tried on the request's own blocks alone. Raises Held."""
    tried = set(vouched.report.blocks)
    if tried and tried <= set(pseudonyms(workspace, blocks)):
        raise Held("the self-test was made on the very blocks that are to be judged", hint=_AGAIN)


def pseudonyms(workspace: Workspace, blocks: Sequence[str]) -> tuple[str, ...]:
    """Blocks as a report names them."""
    secret = workspace.secret("block")
    return tuple(keyed(secret, block.encode()).hex()[:24] for block in blocks)


def _file(workspace: Workspace, digest: str) -> Path:
    return workspace.root / "store" / "selftest" / f"{digest.removeprefix('sha256:')}.json"
