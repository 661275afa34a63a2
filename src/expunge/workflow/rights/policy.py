"""The policy kind `rights_holder`: read from YAML, and held to floors that are in code, as every policy is.

The document that ships is `rights_holder.yaml`. It has the deadlines, the limits, the decision table and the letters; what
a table may do at all is in `terms`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from string import Template
from typing import Literal

from expunge.core.codec import digest_of
from expunge.core.documents import read_document
from expunge.core.errors import InputError, InputProblems
from expunge.workflow.rights.terms import ACTIONS, DOMAINS, NEEDS, Action, AuthorityKind, Ground, Readings

BUILT_IN = Path(__file__).with_name("rights_holder.yaml")
MITIGATION_LABEL = "This is a mitigation, not a removal"
HONEST = (
    "suppressed, not removed, unless attempts to recover the style fail as they fail for styles that no training saw",
    "copies of the weights that were released cannot be recalled",
    "This is no legal advice",
)
"""What every letter says, whatever the policy: its honest words have to hold these, word for word."""
_TOO_MUCH = re.compile(r"(?<!not )\b(removed|forgotten|unlearned|compliant|anonymi[sz]ed|guaranteed?)\b", re.IGNORECASE)
PLACEHOLDERS = frozenset({"present", "listed", "searched", "copies", "draws", "others", "neighbours", "expiry"})
"""Numbers that a letter may quote, as `$present`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Who may claim, and with how much. Limits are counts of items in a request."""

    authority: tuple[AuthorityKind, ...]
    works: int
    names: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """From receipt. `acknowledge` in business days, `mitigation` in hours, `gdpr_*` in months, the rest in days."""

    acknowledge: int
    triage: int
    mitigation: int
    decision: int
    edit: int
    retrain: int
    gdpr_answer: int
    gdpr_extension: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Numbers that decide. Losses and shares are 0 to 1.

    imitation_low, imitation_high: works of one style that a model was found to need before it imitates it (Verma et al. 2024,
    arXiv 2410.15002: 200 to 600). copies_at_most: upper 95 % limit of the share of draws that may be near-copies where none was
    found. shared_by: other artists in the same style that make it shared, of at least shared_asked that were judged.
    neighbour_loss: of one edit, upper limit; cumulative_loss, edits: of all edits since the last training.
    """

    imitation_low: int
    imitation_high: int
    copies_at_most: float
    shared_by: int
    shared_asked: int
    neighbour_loss: float
    cumulative_loss: float
    edits: int
    window_days: int
    window_size: int
    mitigation_days: int
    published_floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Appeals:
    """What a claimant may bring, and how long it takes: prompts and reference works are counts, the rest are days."""

    prompts: int
    works: int
    file_within: int
    outcome: int


FLOORS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "intake": {"works": (100, 100_000), "names": (5, 100)},
    "deadlines": {
        "acknowledge": (1, 2),
        "triage": (1, 7),
        "mitigation": (1, 72),
        "decision": (1, 14),
        "edit": (1, 30),
        "retrain": (1, 180),
        "gdpr_answer": (1, 1),
        "gdpr_extension": (0, 2),
    },
    "limits": {
        "imitation_low": (1, 200),
        "imitation_high": (200, 600),
        "copies_at_most": (0.0001, 0.01),
        "shared_by": (2, 50),
        "shared_asked": (5, 1000),
        "neighbour_loss": (0.005, 0.05),
        "cumulative_loss": (0.005, 0.05),
        "edits": (1, 100),
        "window_days": (1, 14),
        "window_size": (1, 50),
        "mitigation_days": (1, 180),
        "published_floor": (5, 100),
    },
    "appeals": {"prompts": (10, 50), "works": (5, 20), "file_within": (14, 365), "outcome": (1, 30)},
}
"""section: name: (lowest, highest) that any policy may set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table: applies where every reading in `when` has one of these values. `also` comes with the action."""

    when: Mapping[str, tuple[str, ...]]
    action: Action
    ground: Ground
    also: tuple[Action, ...] = ()

    def applies(self, readings: Readings) -> bool:
        """Does every condition hold?"""
        return all(getattr(readings, name) in values for name, values in self.when.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class RightsPolicy:
    """A policy for requests of rights holders. Raises InputProblems with everything that is wrong."""

    kind: Literal["rights_holder"]
    name: str
    version: int
    intake: Intake
    deadlines: Deadlines
    limits: Limits
    appeals: Appeals
    table: tuple[Row, ...]
    letters: Mapping[str, str]
    mitigation: str
    honest_words: tuple[str, ...]

    def __post_init__(self) -> None:
        problems = [*self._numbers(), *self._rows(), *self._order(), *self._words()]
        if problems:
            raise InputProblems(f"policy {self.name!r}", problems, code="policy")

    @property
    def digest(self) -> str:
        """`sha256:` of the policy as it was understood; every decision carries it."""
        return digest_of(self)

    def _numbers(self) -> list[str]:
        found = [
            f"{section}.{name}: {getattr(getattr(self, section), name)} is outside [{low}, {high}]"
            for section, floors in FLOORS.items()
            for name, (low, high) in floors.items()
            if not low <= getattr(getattr(self, section), name) <= high
        ]
        if self.limits.imitation_low >= self.limits.imitation_high:
            found.append("limits: imitation_low is not below imitation_high")
        if not self.intake.authority:
            found.append("intake.authority: nobody may claim")
        return found

    def _rows(self) -> list[str]:
        return [
            f"table[{number}]: {problem}" for number, row in enumerate(self.table) for problem in _row_problems(row)
        ]

    def _order(self) -> list[str]:
        if not self.table or self.table[-1].when or self.table[-1].action is not Action.LEGAL_HOLD:
            return ["table: the last row has no conditions and holds, so that everything is decided by somebody"]
        return [
            f"table: {name} {value} does not always lead to a hold"
            for name, value in (("hold", "ordered"), ("rights", "competing"))
            if not self._always_holds(name, value)
        ]

    def _always_holds(self, name: str, value: str) -> bool:
        """Walk down until a row that catches all of these requests; whatever could catch one before it has to hold too."""
        for row in self.table:
            if value not in row.when.get(name, (value,)):
                continue
            if row.action is not Action.LEGAL_HOLD:
                return False
            if set(row.when) <= {name}:
                return True
        return False

    def _words(self) -> list[str]:
        used = {row.ground.value for row in self.table}
        found = [f"letters.{ground}: missing" for ground in sorted(used - set(self.letters))]
        found += [f"letters.{ground}: unknown ground" for ground in self.letters if ground not in set(Ground)]
        for ground, text in self.letters.items():
            found += [f"letters.{ground}: {problem}" for problem in _text_problems(text)]
        if MITIGATION_LABEL not in self.mitigation:
            found.append(f"mitigation: must say {MITIGATION_LABEL!r}")
        together = " ".join(self.honest_words)
        found += [f"honest_words: must say {words!r}" for words in HONEST if words not in together]
        return found


def _row_problems(row: Row) -> list[str]:
    found = [f"when.{name}: no such reading" for name in row.when if name not in DOMAINS]
    for name, values in row.when.items():
        odd = [value for value in values if value not in DOMAINS.get(name, values)]
        if odd or not values:
            found.append(f"when.{name}: {', '.join(odd) or 'empty'}")
    if row.action not in ACTIONS[row.ground]:
        found.append(f"{row.ground.value} cannot lead to {row.action.value}")
    if row.ground in NEEDS:
        name, value = NEEDS[row.ground]
        if row.when.get(name) != (value,):
            found.append(f"{row.ground.value} rests on {name}: [{value}], which is not a condition of the row")
    odd = [action.value for action in row.also if action not in (Action.EXCLUDE_NEXT, Action.NOT_LEARNED)]
    if odd or (row.also and row.action is Action.LEGAL_HOLD):
        found.append(f"also: {', '.join(odd) or 'nothing comes with a hold'}")
    return found


def _text_problems(text: str) -> list[str]:
    template = Template(text)
    if not template.is_valid():
        return ["a $ that begins no name"]
    unknown = sorted(set(template.get_identifiers()) - PLACEHOLDERS)
    found = [f"unknown ${name}" for name in unknown]
    said = _TOO_MUCH.search(text)
    if said is not None:
        found.append(f"claims too much: {said.group()!r}")
    return found if text.strip() else ["empty"]


def parse_rights_policy(text: str, *, what: str = "policy.yaml") -> RightsPolicy:
    """A policy of the kind `rights_holder` from YAML; unknown fields, broken floors and soft tables are refused."""
    return read_document(RightsPolicy, text, what=what)


def read_rights_policy(path: Path) -> RightsPolicy:
    """The policy in a file; absent means refused."""
    try:
        return parse_rights_policy(path.read_text(encoding="utf-8"), what=path.name)
    except FileNotFoundError as error:
        raise InputError(f"no policy at {path}", hint="absent means refused", code="policy") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not text", code="policy") from error


@cache
def default_rights_policy() -> RightsPolicy:
    """The policy that ships with expunge."""
    return read_rights_policy(BUILT_IN)


def check_floors_cover_everything() -> None:
    """Raises InputError where a number of a policy has no floor. For tests: a new number must get one."""
    sections = {"intake": Intake, "deadlines": Deadlines, "limits": Limits, "appeals": Appeals}
    bare = [
        f"{section}.{field.name}"
        for section, noun in sections.items()
        for field in fields(noun)
        if field.name not in FLOORS[section] and field.name != "authority"
    ]
    if bare:
        raise InputError("numbers without a floor", got=", ".join(bare))
