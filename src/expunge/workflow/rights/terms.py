"""The words of the decision table: what can be read from the facts, what can be done, and on which ground.

A ground is tied here, in code, to the reading without which nobody may use it: no policy can refuse, grant or certify
without the measurement behind it. Only a hold, which hands the matter to a person, needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal, get_args, get_type_hints

Switch = Literal["affirmed", "denied", "open"]
"""What courts or statutes said about a question, as the jurisdictions' book records it."""


class Action(StrEnum):
    """What happens with a request."""

    LEGAL_HOLD = "legal_hold"
    """A person decides; nothing is done to the model until then."""
    REFUSE = "refuse"
    NARROW = "narrow"
    """Granted for less than was asked."""
    PURGE_WORKS = "purge_works"
    """The works go from the data, and out of the model by work-level unlearning or retraining."""
    STYLE_EDIT = "style_edit"
    EXCLUDE_NEXT = "exclude_next"
    """The works are not in the next training."""
    NOT_LEARNED = "not_learned"
    """A certificate that the model does not draw the style; nothing is edited."""
    RETRAIN = "retrain"


class Ground(StrEnum):
    """Why."""

    HELD = "held"
    COMPETING_RIGHTS = "competing_rights"
    AUTHORITY_OPEN = "authority_open"
    UNMEASURED = "unmeasured"
    CONTRADICTION = "contradiction"
    STYLE_PROTECTED = "style_protected"
    NO_AUTHORITY = "no_authority"
    PUBLIC_DOMAIN = "public_domain"
    NOT_PRESENT = "not_present"
    GENERIC_STYLE = "generic_style"
    SHARED_STYLE = "shared_style"
    NEIGHBOUR_HARM = "neighbour_harm"
    OTHERS_WORKS = "others_works"
    MEMORISED_REPRODUCTION = "memorised_reproduction"
    MEMORISED_COPY = "memorised_copy"
    OPTED_OUT = "opted_out"
    STYLE_LEARNED = "style_learned"
    STYLE_NOT_LEARNED = "style_not_learned"
    BELOW_THRESHOLD = "below_threshold"
    BUDGET_SPENT = "budget_spent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The facts of a request in the table's words. `open` is: not measured, or measured and not decided.

    works: few, some or many against the imitation threshold (below, inside, above). copies, learned, harm: shown, or shown
    not to be. style: own, shared by others, or generic (a movement's name, and shared). room: of the budget for edits.
    reproduction, protectable, training: the jurisdiction's switches.
    """

    hold: Literal["none", "ordered"]
    rights: Literal["clear", "competing", "public_domain", "mixed"]
    authority: Literal["proven", "refuted", "open"]
    works: Literal["none", "few", "some", "many", "open"]
    copies: Literal["found", "none", "open"]
    learned: Literal["learned", "not_learned", "open"]
    opt_out: Literal["valid", "none", "open"]
    style: Literal["own", "shared", "generic", "open"]
    harm: Literal["within", "beyond", "open"]
    room: Literal["left", "spent"]
    reproduction: Switch
    protectable: Switch
    training: Switch


FIELDS = tuple(field.name for field in fields(Readings))
DOMAINS: Mapping[str, tuple[str, ...]] = {name: get_args(kind) for name, kind in get_type_hints(Readings).items()}
"""Field -> every value that it can have."""

NEEDS: Mapping[Ground, tuple[str, str]] = {
    Ground.NO_AUTHORITY: ("authority", "refuted"),
    Ground.PUBLIC_DOMAIN: ("rights", "public_domain"),
    Ground.OTHERS_WORKS: ("rights", "mixed"),
    Ground.NOT_PRESENT: ("works", "none"),
    Ground.GENERIC_STYLE: ("style", "generic"),
    Ground.SHARED_STYLE: ("style", "shared"),
    Ground.NEIGHBOUR_HARM: ("harm", "beyond"),
    Ground.MEMORISED_REPRODUCTION: ("copies", "found"),
    Ground.MEMORISED_COPY: ("copies", "found"),
    Ground.OPTED_OUT: ("opt_out", "valid"),
    Ground.STYLE_LEARNED: ("learned", "learned"),
    Ground.STYLE_NOT_LEARNED: ("learned", "not_learned"),
    Ground.BELOW_THRESHOLD: ("works", "few"),
    Ground.BUDGET_SPENT: ("room", "spent"),
}
"""The reading on which a ground rests. Grounds that are not here are reasons to hold."""

_REFUSALS = frozenset({Action.REFUSE, Action.NARROW})
_WORKS = frozenset({Action.PURGE_WORKS, Action.EXCLUDE_NEXT, Action.RETRAIN})
ACTIONS: Mapping[Ground, frozenset[Action]] = {
    **{ground: frozenset({Action.LEGAL_HOLD}) for ground in Ground if ground not in NEEDS},
    Ground.NO_AUTHORITY: _REFUSALS,
    Ground.PUBLIC_DOMAIN: _REFUSALS,
    Ground.OTHERS_WORKS: _REFUSALS,
    Ground.NOT_PRESENT: _REFUSALS,
    Ground.GENERIC_STYLE: _REFUSALS,
    Ground.SHARED_STYLE: _REFUSALS,
    Ground.NEIGHBOUR_HARM: _REFUSALS,
    Ground.MEMORISED_REPRODUCTION: _WORKS,
    Ground.MEMORISED_COPY: _WORKS,
    Ground.OPTED_OUT: _WORKS,
    Ground.STYLE_LEARNED: frozenset({Action.STYLE_EDIT, Action.RETRAIN}),
    Ground.STYLE_NOT_LEARNED: frozenset({Action.NOT_LEARNED}),
    Ground.BELOW_THRESHOLD: frozenset({Action.EXCLUDE_NEXT}),
    Ground.BUDGET_SPENT: frozenset({Action.RETRAIN}),
}
"""Ground -> what it can lead to."""


class Basis(StrEnum):
    """What the claimant relies on."""

    COPYRIGHT = "copyright"
    OPT_OUT = "opt_out"
    CONTRACT = "contract"
    GDPR = "gdpr"
    PUBLICITY = "publicity"


class AuthorityKind(StrEnum):
    """In which capacity somebody claims."""

    AUTHOR = "author"
    HEIR = "heir"
    ASSIGNEE = "assignee"
    EXCLUSIVE_LICENSEE = "exclusive_licensee"
    AGENT = "agent"
    COLLECTING_SOCIETY = "collecting_society"
