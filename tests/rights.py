"""Facts of made-up requests, one for every reading of the decision table, and laws with any switches."""

from __future__ import annotations

from datetime import UTC, datetime

from expunge.core.finding import Verdict
from expunge.workflow.rights.facts import (
    Authority,
    Copies,
    Facts,
    Harm,
    Learned,
    Load,
    OptOut,
    Rights,
    Style,
    Works,
)
from expunge.workflow.rights.jurisdictions import Jurisdiction, Switches
from expunge.workflow.rights.terms import AuthorityKind, Basis
from expunge.workflow.rights.triage import Filed

RECORD = "sha256:" + "a" * 64
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)  # a Monday
GRANTED = {
    "hold": "none",
    "rights": "clear",
    "authority": "proven",
    "works": "many",
    "copies": "none",
    "learned": "learned",
    "opt_out": "none",
    "style": "own",
    "harm": "within",
    "room": "left",
    "reproduction": "open",
    "protectable": "open",
    "training": "open",
}
"""A request for a style that is the claimant's own, was learned, and can be edited."""

_PRESENT = {"none": 0, "few": 40, "some": 300, "many": 2000}
_FOUND = {"found": Copies(found=2, draws=300), "none": Copies(found=0, draws=300), "open": Copies(found=0, draws=20)}
_VERDICTS = {"learned": Verdict.FAIL, "not_learned": Verdict.PASS, "open": Verdict.INCONCLUSIVE}
_STYLES = {
    "own": Style(others=0, asked=40, movement=True),
    "shared": Style(others=7, asked=40),
    "generic": Style(others=7, asked=40, movement=True),
    "open": Style(others=0, asked=2),
}
_OPT_OUTS = {"valid": OptOut(reserved=3, unknown=1), "none": OptOut(reserved=0, unknown=0), "open": None}
_HARMS = {"within": Harm(at_most=0.02, neighbours=10), "beyond": Harm(at_most=0.2, neighbours=10), "open": None}


def facts_for(**changes) -> Facts:
    """Facts that read as GRANTED with these changes."""
    want = {**GRANTED, **changes}
    state = want["authority"]
    return Facts(
        authority=None if state == "open" else Authority(kind=AuthorityKind.AUTHOR, state=state, record=RECORD),
        rights=Rights(state=want["rights"], record="" if want["rights"] == "clear" else RECORD),
        works=None
        if want["works"] == "open"
        else Works(
            listed=50, present=_PRESENT[want["works"]], searched=60_000, records=60_000, by=("sha256", "perceptual")
        ),
        copies=_FOUND[want["copies"]],
        learned=Learned(verdict=_VERDICTS[want["learned"]], rate=0.4, at_most=0.5),
        opt_out=_OPT_OUTS[want["opt_out"]],
        style=_STYLES[want["style"]],
        harm=_HARMS[want["harm"]],
        load=Load(edits=100) if want["room"] == "spent" else Load(edits=3, lost=0.01),
        held=want["hold"] == "ordered",
    )


def law(*, reproduction="open", protectable="open", training="open", **_) -> Jurisdiction:
    """A jurisdiction that switches so."""
    switches = Switches(reproduction=reproduction, protectable=protectable, training=training)
    return Jurisdiction(code="XX", name="made up", within=(), switches=switches, sources=())


def filed(basis=Basis.COPYRIGHT, **switches) -> Filed:
    """A request that came in on a Monday morning."""
    return Filed(received=NOW, basis=basis, jurisdiction=law(**switches))


LETTER = """\
claimant: Nell Kavrin, 12 Harbour Road
authority: author
works: [{work}]
names: [Nell Kavrin, N. K.]
jurisdiction: DE
basis: {basis}
remedies: [stop_training, remove_influence]
"""
FACTS = """\
authority: {{kind: author, state: proven, record: "{record}"}}
works: {{listed: 1, present: {present}, searched: 400, records: 400, by: [sha256, perceptual]}}
copies: {{found: 0, draws: 300}}
opt_out: {{reserved: 0, unknown: 0}}
{more}
"""
NOT_LEARNED = "learned: {verdict: PASS, rate: 0.0, at_most: 0.01}"


def letter(basis: str = "copyright", work: str = "ab" * 32) -> str:
    """A letter as it is written down at the desk."""
    return LETTER.format(work=work, basis=basis)


def facts(present: int = 300, more: str = NOT_LEARNED) -> str:
    """What was measured for it."""
    return FACTS.format(record=RECORD, present=present, more=more)
