"""The gate of a workspace: before files are released, everybody who was granted anything is asked for again on these very files.

A granted request is a certificate or a not-learned statement of this workspace. Its battery is repeated from its seeds and the
word that it earns is logged; the rule is in `regression`. What was EXACT stays so only in files that are made of the model
in service, weight by weight, because no picture shows provenance.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.case import State
from expunge.core.codec import parse_timestamp
from expunge.core.errors import Held
from expunge.core.finding import Guarantee
from expunge.core.styles import StyleRung
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.not_learned import parse, read_issued
from expunge.evidence.statement import parse_statement
from expunge.training.text_to_image.directory import Directory, read_directory
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.sampler import TextToImage
from expunge.workflow.intake import OpenCase, all_cases, closed, fold
from expunge.workflow.rights.regression import Granted, Verified, check_release
from expunge.workflow.styles.kept import FILE, KeptBattery, read_kept
from expunge.workflow.styles.rerun import rerun

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

VERIFIED, GATED = "rights.verified", "rights.gated"
_WORDS = {Guarantee.EXACT: StyleRung.EXACT, Guarantee.EMPIRICAL: StyleRung.INDISTINGUISHABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What was found before a release. verified: request -> the word on these files."""

    files: str
    granted: int
    verified: dict[str, StyleRung]
    blocked: str


def check_files(workspace: Workspace, path: Path) -> Gate:
    """Ask for everybody on these files who was not asked for on them before, log what came, and say whether they may be
    released. Raises InputError on files that must not be read, and nothing where they are blocked: `Gate.blocked` says why."""
    directory = read_directory(path)
    owed = [(case, _granted(case)) for case in all_cases(workspace) if _is_granted(workspace, case)]
    before = _verified(workspace, directory.digest)
    done = {(one.request, one.plan) for one in before}
    left = [(case, one) for case, one in owed if (one.request, one.plan) not in done]
    if left:
        exact, model = _is_served(workspace, directory), TextToImage.from_dir(path)
        for case, one in left:
            rung, skipped = _asked(workspace, case, one, (directory.digest, model), exact)
            said = {"request": one.request, "files": directory.digest, "battery": one.plan, "rung": rung}
            workspace.log.append(VERIFIED, {**said, "skipped": skipped})
    verified = _verified(workspace, directory.digest)
    blocked = ""
    try:
        check_release([one for _, one in owed], directory, verified)
    except Held as refusal:
        blocked = refusal.message
    workspace.log.append(GATED, {"files": directory.digest, "granted": len(owed), "blocked": bool(blocked)})
    workspace.log.checkpoint()
    words = {one.request: one.rung for one in verified}
    return Gate(files=directory.digest, granted=len(owed), verified=words, blocked=blocked)


def _is_granted(workspace: Workspace, case: OpenCase) -> bool:
    """Closed with a certificate or a statement. One that is on its way is finished first, or is not granted."""
    state = fold(workspace, case).state
    return state in (State.CERTIFIED, State.NOT_LEARNED) and closed(workspace, case)


def _granted(case: OpenCase) -> Granted:
    """Without files: whatever is released, they are asked for on it. `plan` is the battery's digest, or, where nobody was asked
    for, that of the case's plan."""
    if case.statement.exists():
        found, _ = parse(payload_of(read_issued(case.statement).envelope))
        return Granted(request=case.handle, rung=StyleRung.NOT_LEARNED, plan=found.battery.digest, files={})
    predicate = parse_statement(payload_of(read_bundle(case.bundle).json("certificate.json"))).predicate
    named = [str(item.details["battery"]) for item in predicate.findings if item.details.get("battery")]
    plan = named[0] if named else predicate.plan.digest
    return Granted(request=case.handle, rung=_WORDS[predicate.guarantee], plan=plan, files={})


def _asked(
    workspace: Workspace, case: OpenCase, one: Granted, at: tuple[str, TextToImage], exact: bool
) -> tuple[StyleRung, list[str]]:
    """The word on these files, and probes that could not be repeated. Provenance carries EXACT, unless the style comes by its
    name all the same."""
    kept: KeptBattery | None = read_kept(case.folder / FILE)
    found = None if kept is None else rerun(workspace, kept, at, one.plan)
    rung, skipped = (StyleRung.NOT_SHOWN, []) if found is None else (found.rung, sorted(found.skipped))
    if exact and one.rung is StyleRung.EXACT and rung is not StyleRung.NOT_ERASED:
        rung = StyleRung.EXACT
    return rung, skipped


def _is_served(workspace: Workspace, directory: Directory) -> bool:
    """Are these files what is made of the model in service, byte for byte, and was that one trained without all that was
    deleted? An edited model was not."""
    served = workspace.served()
    released = [entry for entry in workspace.log.entries() if entry.kind == "model.released"]
    if not released or released[-1].case is None or frozenset(served.absent) != workspace.book.tombstones:
        return False
    made = [
        entry.payload.get("guarantee")
        for entry in workspace.log.case(released[-1].case)
        if entry.kind == "decision.made"
    ]
    if made[-1:] != [Guarantee.EXACT.value]:
        return False
    networks = workspace.adapter.load(workspace.root / served.run / "model.safetensors")
    with tempfile.TemporaryDirectory(prefix="expunge-release-") as folder:
        return len(networks) == 1 and export(networks[0], Path(folder) / "out").files == directory.files


def _verified(workspace: Workspace, files: str) -> list[Verified]:
    rows = [entry for entry in workspace.log.entries() if entry.kind == VERIFIED and entry.payload["files"] == files]
    return [
        Verified(
            request=str(entry.payload["request"]),
            digest=files,
            plan=str(entry.payload["battery"]),
            rung=StyleRung(entry.payload["rung"]),
            at=parse_timestamp(str(entry.body["time"])).astimezone(UTC),
        )
        for entry in rows
    ]


def require(gate: Gate) -> None:
    """Raises Held where the release is blocked."""
    if gate.blocked:
        raise Held(gate.blocked, hint="retrain or erase on these files, or release the model in service as it is")
