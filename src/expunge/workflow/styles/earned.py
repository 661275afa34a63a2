"""What a closed case earned, as its signed evidence says, and which battery of questions that rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.core.errors import InputError
from expunge.core.finding import Guarantee
from expunge.core.styles import StyleRung
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.not_learned import parse, read_issued
from expunge.evidence.statement import parse_statement

if TYPE_CHECKING:
    from expunge.workflow.intake import OpenCase

_WORDS = {Guarantee.EXACT: StyleRung.EXACT, Guarantee.EMPIRICAL: StyleRung.INDISTINGUISHABLE}
LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Earned:
    """battery: digest of what the model was asked, empty where it was not; level: of each limit that it was judged by; plan:
    digest of the case's plan, or of the battery where no plan was made; method: what was run, empty where nothing was."""

    rung: StyleRung
    battery: str
    level: float
    plan: str
    method: str


def earned_in(case: OpenCase) -> Earned:
    """Read from the certificate or the not-learned statement. Raises InputError where the case has neither."""
    if case.statement.exists():
        asked = parse(payload_of(read_issued(case.statement).envelope))[0].battery
        return Earned(
            rung=StyleRung.NOT_LEARNED, battery=asked.digest, level=float(asked.level), plan=asked.digest, method=""
        )
    if not case.bundle.exists():
        raise InputError("the case has no certificate and no statement", got=case.handle)
    found = parse_statement(payload_of(read_bundle(case.bundle).json("certificate.json"))).predicate
    if found.guarantee not in _WORDS:
        raise InputError("no word for a style goes with this certificate", got=found.guarantee.value)
    battery = next((str(item.details["battery"]) for item in found.findings if item.details.get("battery")), "")
    return Earned(
        rung=_WORDS[found.guarantee],
        battery=battery,
        level=LEVEL,
        plan=found.plan.digest,
        method=found.method.name,
    )
