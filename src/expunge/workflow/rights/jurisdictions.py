"""What courts and statutes said, as data with source, date and confidence. A reading of public sources: no legal advice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from expunge.core.codec import digest_of
from expunge.core.documents import read_document
from expunge.core.errors import InputProblems
from expunge.workflow.rights.terms import Switch

BUILT_IN = Path(__file__).with_name("jurisdictions.yaml")
UNKNOWN = "other"
_NOTICE = "no legal advice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A decision or a statute. `confidence`: V = read in the source, V secondary = read in secondary sources, M = from memory.
    `date` is as far as it is known, empty where it is not. `final` is False while it can be overturned."""

    name: str
    citation: str
    date: str
    status: str
    final: bool
    confidence: Literal["V", "V secondary", "M"]
    says: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """Is a memorised copy a reproduction? Is a style protectable? Can the training itself be tried?"""

    reproduction: Switch
    protectable: Switch
    training: Switch


@dataclass(frozen=True, slots=True, kw_only=True)
class Jurisdiction:
    """One law and what it switches. `within` names others whose sources are quoted with it."""

    code: str
    name: str
    within: tuple[str, ...]
    switches: Switches
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jurisdictions:
    """The book. Raises InputProblems where it does not say that it is no legal advice, or a switch rests on no source."""

    kind: Literal["jurisdictions"]
    version: int
    as_of: str
    notice: str
    jurisdictions: tuple[Jurisdiction, ...]

    def __post_init__(self) -> None:
        codes = [one.code for one in self.jurisdictions]
        problems = [f"{code}: comes twice" for code in sorted({code for code in codes if codes.count(code) > 1})]
        if _NOTICE not in self.notice:
            problems.append(f"notice: must say {_NOTICE!r}")
        if UNKNOWN not in codes:
            problems.append(f"no entry {UNKNOWN!r} for laws that the book does not know")
        for one in self.jurisdictions:
            problems += [
                f"{one.code}: within {name}, which is not in the book" for name in one.within if name not in codes
            ]
            thrown = {one.switches.reproduction, one.switches.protectable, one.switches.training} != {"open"}
            if thrown and not any(source.confidence != "M" for source in one.sources):
                problems.append(f"{one.code}: a switch rests on memory, or on nothing")
        if problems:
            raise InputProblems("jurisdictions", problems, code="policy")

    @property
    def digest(self) -> str:
        """`sha256:` of the book as it was understood."""
        return digest_of(self)

    def find(self, code: str) -> Jurisdiction:
        """The law of a code, or the entry for unknown ones, in which everything is open."""
        by_code = {one.code: one for one in self.jurisdictions}
        return by_code.get(code, by_code[UNKNOWN])

    def sources(self, jurisdiction: Jurisdiction) -> tuple[Source, ...]:
        """Its own, and those of what it lies within."""
        return (*jurisdiction.sources, *(source for code in jurisdiction.within for source in self.find(code).sources))


def parse_jurisdictions(text: str, *, what: str = "jurisdictions.yaml") -> Jurisdictions:
    """A book from YAML, strictly."""
    return read_document(Jurisdictions, text, what=what)


@cache
def default_jurisdictions() -> Jurisdictions:
    """The book that ships with expunge."""
    return parse_jurisdictions(BUILT_IN.read_text(encoding="utf-8"))
