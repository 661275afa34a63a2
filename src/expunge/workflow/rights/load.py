"""What edits have cost since the model was last trained: counted in the log, and read from their certificates.

Whatever was put into service since then without being EXACT is an edit of the weights. Adds up what each cost others, as its
certificate says; one that does not say may have cost everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.core.errors import Held, IntegrityError
from expunge.core.finding import Finding, Guarantee
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.statement import parse_statement
from expunge.stats.style_collateral import LOST
from expunge.workflow.intake import OpenCase, find_case
from expunge.workflow.rights.facts import Load

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

_CHECK = "collateral"
"""The finding of a certificate that says what others lost."""


def load_of(workspace: Workspace) -> Load:
    """Edits since the last training, one an artist: several who went at once are one solve, and as much to bear as one after the
    other. An adopted model starts at none: nobody here knows what was done to it elsewhere.

    Raises Held on an edit without a certificate, IntegrityError on a certificate that is not the logged one.
    """
    cases = [find_case(workspace, handle) for handle in _edited(workspace)]
    lost = sum(max(0.0, lost_by(workspace, case)) for case in cases)
    return Load(edits=sum(artists_of(workspace, case) for case in cases), lost=min(1.0, lost))


def heavier(first: Load, second: Load) -> Load:
    """The larger number of edits and the larger loss of the two."""
    return Load(edits=max(first.edits, second.edits), lost=max(first.lost, second.lost))


def lost_by(workspace: Workspace, case: OpenCase) -> float:
    """Upper limit of what one edit cost others (0 to 1), as its certificate says; 1 where that does not say."""
    if not case.bundle.exists():
        raise Held(
            "an edit is in service and has no certificate, so nobody knows what it cost others",
            got=case.handle,
            hint=f"expunge run --case {case.handle}",
        )
    said = [item.details.get(LOST) for item in _findings(workspace, case) if item.check == _CHECK]
    return float(said[0]) if said and said[0] is not None else 1.0


def artists_of(workspace: Workspace, case: OpenCase) -> int:
    """How many went at once, as the certificate of an edit says. Raises IntegrityError where that is not the logged one."""
    said = [item.details.get("artists", "1") for item in _findings(workspace, case) if item.check == "style"]
    return max(1, int(said[0])) if said else 1


def _findings(workspace: Workspace, case: OpenCase) -> tuple[Finding, ...]:
    found = parse_statement(payload_of(read_bundle(case.bundle).json("certificate.json")))
    logged = [entry.payload for entry in workspace.log.case(case.handle) if entry.kind == "certificate.issued"]
    if [entry["certificate"] for entry in logged[-1:]] != [found.digest]:
        raise IntegrityError("the certificate is not the one that was logged", got=case.handle)
    return tuple(found.predicate.findings)


def was_exact(workspace: Workspace, case: str) -> bool:
    """Was this case decided as EXACT? Then its model was trained without the records, and is no edited one."""
    made = [entry.payload.get("guarantee") for entry in workspace.log.case(case) if entry.kind == "decision.made"]
    return made[-1:] == [Guarantee.EXACT.value]


def _edited(workspace: Workspace) -> list[str]:
    """Cases whose model went into service since the last training, oldest first."""
    found: list[str] = []
    for entry in workspace.log.entries():
        if entry.kind in ("model.trained", "model.adopted"):
            found = []
        elif entry.kind == "model.released" and entry.case is not None:
            found = [] if was_exact(workspace, entry.case) else [*found, entry.case]
    return found
