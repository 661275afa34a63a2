"""What a closed case earned, as its signed evidence says, and which battery of questions that rests on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from expunge.core.errors import InputError, IntegrityError
from expunge.core.finding import Guarantee
from expunge.core.styles import StyleRung
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.not_learned import ISSUED, parse, read_issued
from expunge.evidence.statement import parse_statement
from expunge.stats.spending import limit_level

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.intake import OpenCase
    from expunge.workflow.workspace import Workspace

_WORDS = {Guarantee.EXACT: StyleRung.EXACT, Guarantee.EMPIRICAL: StyleRung.INDISTINGUISHABLE}
_CERTIFIED = "certificate.issued"


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """batteries: digest of what the model was asked about each artist, empty for one whom it was not; level: of each limit that
    let it pass, by its attempt; plan: digest of the case's plan, or of the battery where no plan was made; method: what was run,
    empty where nothing was; model: digest of the weights that the evidence is of; index: of the log's entry that issued it, which
    holds until `expires`."""

    rung: StyleRung
    batteries: tuple[str, ...]
    level: float
    plan: str
    method: str
    model: str
    index: int
    expires: datetime


def earned_in(workspace: Workspace, case: OpenCase) -> Earned:
    """Read from the certificate or the not-learned statement. Raises InputError where the log knows of neither, IntegrityError
    where what lies in the case's folder is not what was logged."""
    issued = [entry for entry in workspace.log.case(case.handle) if entry.kind in (ISSUED, _CERTIFIED)]
    if not issued:
        raise InputError("the case has no certificate and no statement", got=case.handle)
    return _stated(case, issued[-1]) if issued[-1].kind == ISSUED else _certified(case, issued[-1])


def _stated(case: OpenCase, issued: Entry) -> Earned:
    found, digest = parse(payload_of(read_issued(case.statement).envelope))
    _check_logged(digest, issued.payload["statement"])
    asked = found.battery
    return Earned(
        rung=StyleRung.NOT_LEARNED,
        batteries=(asked.digest,),
        level=float(asked.level),
        plan=asked.digest,
        method="",
        model=found.model,
        index=issued.index,
        expires=found.expires_at,
    )


def _certified(case: OpenCase, issued: Entry) -> Earned:
    statement = parse_statement(payload_of(read_bundle(case.bundle).json("certificate.json")))
    _check_logged(statement.digest, issued.payload["certificate"])
    found = statement.predicate
    if found.guarantee not in _WORDS:
        raise InputError("no word for a style goes with this certificate", got=found.guarantee.value)
    style = next((item.details for item in found.findings if item.check == "style"), {})
    artists = int(style.get("artists", "1"))
    names = ["battery"] if artists == 1 else [f"artist.{number + 1}.battery" for number in range(artists)]
    asked = tuple(str(style.get(name, "")) for name in names)
    return Earned(
        rung=_WORDS[found.guarantee],
        batteries=asked if any(asked) else (),
        level=limit_level(found.attempts, artists),
        plan=found.plan.digest,
        method=found.method.name,
        model=found.models.after,
        index=issued.index,
        expires=found.expires_at,
    )


def _check_logged(digest: str, logged: object) -> None:
    if digest != logged:
        raise IntegrityError("the evidence is not what was logged", expected=str(logged), got=digest)
