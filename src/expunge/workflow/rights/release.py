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
from expunge.core.styles import StyleRung
from expunge.evidence.commitment import commit
from expunge.training.text_to_image.directory import Directory, read_directory
from expunge.training.text_to_image.export import export
from expunge.training.text_to_image.sampler import TextToImage
from expunge.training.text_to_image.whole import refuse_weights_beside
from expunge.workflow.intake import OpenCase, all_cases, closed, fold
from expunge.workflow.rights.load import was_exact
from expunge.workflow.rights.regression import Granted, Verified, check_release
from expunge.workflow.styles.earned import Earned, earned_in
from expunge.workflow.styles.rerun import rerun_kept

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.workspace import Workspace

VERIFIED, GATED = "rights.verified", "rights.gated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What was found before a release. verified: request -> the word on these files; skipped: request -> probes of its battery
    that could not be repeated, so that the word is without them."""

    files: str
    granted: int
    verified: dict[str, StyleRung]
    skipped: dict[str, tuple[str, ...]]
    blocked: str


def check_files(workspace: Workspace, path: Path) -> Gate:
    """Ask for everybody on these files who was not asked for on them before, log what came, and say whether they may be
    released. Nothing is raised where they are blocked: `Gate.blocked` says why. Raises InputError on files that must not be read
    and on weights left beside, IntegrityError where the model is not all there; nothing is logged then, whoever was asked for."""
    directory = read_directory(path)
    refuse_weights_beside(directory)
    model = TextToImage.from_dir(path)
    owed = [(case, earned_in(workspace, case)) for case in all_cases(workspace) if _is_granted(workspace, case)]
    before = _verified(workspace, directory.digest)
    done = {(one.request, one.plan) for one in before}
    everybody = [_granted(workspace, *one) for one in owed]
    left = [(*row, one) for row, one in zip(owed, everybody, strict=True) if (one.request, one.plan) not in done]
    if left:
        exact = _is_served(workspace, directory)
        for case, earned, one in left:
            rung, skipped = _asked(workspace, case, earned, (directory.digest, model), exact)
            said = {"request": one.request, "files": directory.digest, "battery": one.plan, "rung": rung}
            workspace.log.append(VERIFIED, {**said, "skipped": skipped})
    verified = _verified(workspace, directory.digest)
    blocked = ""
    try:
        check_release(everybody, directory, verified)
    except Held as refusal:
        blocked = refusal.message
    workspace.log.append(GATED, {"files": directory.digest, "granted": len(owed), "blocked": bool(blocked)})
    workspace.log.checkpoint()
    words = {one.request: one.rung for one in verified}
    return Gate(
        files=directory.digest,
        granted=len(owed),
        verified=words,
        skipped=_skipped(workspace, directory.digest),
        blocked=blocked,
    )


def _is_granted(workspace: Workspace, case: OpenCase) -> bool:
    """Closed with a certificate or a statement. One that is on its way is finished first, or is not granted."""
    state = fold(workspace, case).state
    return state in (State.CERTIFIED, State.NOT_LEARNED) and closed(workspace, case)


def _granted(workspace: Workspace, case: OpenCase, found: Earned) -> Granted:
    """Without files: whatever is released, they are asked for on it. `plan` is a commitment to the battery's digest, or, where
    nobody was asked for, to that of the case's plan: requests about one artist share a battery, and nobody may tell which."""
    plan = commit(workspace.secret("battery"), [case.handle, "+".join(found.batteries) or found.plan])
    return Granted(request=case.handle, rung=found.rung, plan=plan, files={})


def _asked(
    workspace: Workspace, case: OpenCase, earned: Earned, at: tuple[str, TextToImage], exact: bool
) -> tuple[StyleRung, list[str]]:
    """The word on these files, and probes that could not be repeated. Provenance carries EXACT, unless the style comes by its
    name all the same."""
    found = rerun_kept(workspace, case.folder, earned, at)
    rung, skipped = (StyleRung.NOT_SHOWN, []) if found is None else (found.rung, sorted(found.skipped))
    if exact and earned.rung is StyleRung.EXACT and rung is not StyleRung.NOT_ERASED:
        rung = StyleRung.EXACT
    return rung, skipped


def _is_served(workspace: Workspace, directory: Directory) -> bool:
    """Are these files what is made of the model in service, byte for byte, and was that one trained without all that was
    deleted? An edited model was not."""
    served = workspace.served()
    released = [entry for entry in workspace.log.entries() if entry.kind == "model.released"]
    if not released or released[-1].case is None or frozenset(served.absent) != workspace.book.tombstones:
        return False
    if not was_exact(workspace, released[-1].case):
        return False
    networks = workspace.adapter.load(workspace.root / served.run / "model.safetensors")
    with tempfile.TemporaryDirectory(prefix="expunge-release-") as folder:
        return len(networks) == 1 and export(networks[0], Path(folder) / "out").files == directory.files


def _rows(workspace: Workspace, files: str) -> list[Entry]:
    return [entry for entry in workspace.log.entries() if entry.kind == VERIFIED and entry.payload["files"] == files]


def _skipped(workspace: Workspace, files: str) -> dict[str, tuple[str, ...]]:
    rows = _rows(workspace, files)
    return {str(row.payload["request"]): tuple(row.payload["skipped"]) for row in rows if row.payload["skipped"]}


def _verified(workspace: Workspace, files: str) -> list[Verified]:
    return [
        Verified(
            request=str(entry.payload["request"]),
            digest=files,
            plan=str(entry.payload["battery"]),
            rung=StyleRung(entry.payload["rung"]),
            at=parse_timestamp(str(entry.body["time"])).astimezone(UTC),
        )
        for entry in _rows(workspace, files)
    ]


def require(gate: Gate) -> None:
    """Raises Held where the release is blocked."""
    if gate.blocked:
        raise Held(gate.blocked, hint="retrain or erase on these files, or release the model in service as it is")
