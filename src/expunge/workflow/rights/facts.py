"""The facts of a request, each with the measurement behind it, and what they read as in the table.

None means not measured, and never reads as if nothing were there. Nothing here has a name, an address or a work in it:
people are keyed handles, and what was looked at is a digest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from expunge.core.errors import InputError, InputProblems
from expunge.core.finding import Verdict
from expunge.stats.intervals import share_at_least, share_at_most
from expunge.workflow.rights.jurisdictions import Jurisdiction
from expunge.workflow.rights.policy import RightsPolicy
from expunge.workflow.rights.terms import AuthorityKind, Readings

LEAST_PLANTED = 0.8
"""Of altered copies of the works themselves, the share that a search has to find before "none" is an answer."""
_RECORD = re.compile(r"(sha256|hmac-sha256):[0-9a-f]{64}\Z")


def check_record(text: str, what: str) -> None:
    """Raises InputError unless this names a record by digest or commitment."""
    if not _RECORD.match(text):
        raise InputError(f"{what} names no record", expected="sha256: or hmac-sha256: and 64 hex digits", got=text[:20])


def _counts(what: str, **counts: int) -> None:
    odd = [f"{name} is {count}" for name, count in counts.items() if count < 0]
    if odd:
        raise InputProblems(what, odd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """May they claim? `record` is the digest of the check: proof and refutation both need one."""

    kind: AuthorityKind
    state: Literal["proven", "refuted"]
    record: str

    def __post_init__(self) -> None:
        check_record(self.record, "the check of authority")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Whose the works are. `record` is the digest of what that rests on; `clear` needs none."""

    state: Literal["clear", "competing", "public_domain", "mixed"] = "clear"
    record: str = ""

    def __post_init__(self) -> None:
        if self.state != "clear":
            check_record(self.record, f"rights that are {self.state}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Works:
    """Join of the listed works with the training manifest. `present`: records that are one of them, near-duplicates too;
    `searched`: records that were looked at, of all `records` that were trained on; `by`: how (`sha256`, `perceptual`,
    `embedding`). Who looked at a part has not shown that nothing is there.

    Of a search that the log has (`entry`: its number there): how many of the listed works were `brought`, and (found, of so many)
    altered copies that it was shown. None of these where somebody typed in what another search found."""

    listed: int
    present: int
    searched: int
    records: int
    by: tuple[str, ...]
    brought: int | None = None
    planted: tuple[int, int] | None = None
    entry: int | None = None

    def __post_init__(self) -> None:
        _counts("works", listed=self.listed, present=self.present, searched=self.searched, records=self.records)
        _counts("works", **{name: getattr(self, name) or 0 for name in ("brought", "entry")})
        if (self.brought or 0) > self.listed:
            raise InputError("more works were brought than are listed", got=f"{self.brought} of {self.listed}")
        if not self.present <= self.searched <= self.records or self.listed < 1:
            got = f"{self.present} of {self.searched} of {self.records} for {self.listed}"
            raise InputError("works that were not searched for", got=got)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Extraction of the works (Carlini et al. 2023): near-copies among the draws from their captions; `entry`: number of the
    last that the log has, None where somebody typed it in."""

    found: int
    draws: int
    entry: int | None = None

    def __post_init__(self) -> None:
        _counts("copies", found=self.found, draws=self.draws, entry=self.entry or 0)
        if self.found > self.draws:
            raise InputError("more copies than draws", got=f"{self.found} of {self.draws}")

    @property
    def at_most(self) -> float:
        """Clopper-Pearson upper 95 % limit of the share of draws that are near-copies; 1 where nothing was drawn."""
        return share_at_most(self.found, self.draws) if self.draws else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The answer of `stats.styles.not_learned` on the served model: PASS is shown not to draw the style."""

    verdict: Verdict
    rate: float
    at_most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OptOut:
    """Over the works that are present: how many were reserved when they were fetched, and of how many nobody knows."""

    reserved: int
    unknown: int

    def __post_init__(self) -> None:
        _counts("opt-out", reserved=self.reserved, unknown=self.unknown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Whose style it is, by the judges. `others`: other artists whose own works they put into it, of `asked`; `movement`: the
    name is one of a movement. A name alone makes nothing generic."""

    others: int
    asked: int
    movement: bool = False

    def __post_init__(self) -> None:
        _counts("style", others=self.others, asked=self.asked)
        if self.others > self.asked:
            raise InputError("more artists in the style than were judged", got=f"{self.others} of {self.asked}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What the edit does to others, tried on a copy before anything is accepted: `at_most` is the upper limit of what is lost
    most of, be it retained styles on average, objects, or both as asked (`stats.style_collateral`), over `neighbours`; `shift`
    the largest relative move of their embeddings (`training.concepts.uce.Edit.shift`), which is reported and decides nothing."""

    at_most: float
    neighbours: int
    shift: float | None = None

    def __post_init__(self) -> None:
        if not (-1 <= self.at_most <= 1) or self.neighbours < 1 or (self.shift is not None and not self.shift >= 0):
            raise InputError("harm is a share over at least one neighbour", got=f"{self.at_most}, {self.neighbours}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Edits since the last training, and the upper limit of what they cost retained styles together."""

    edits: int = 0
    lost: float = 0.0

    def __post_init__(self) -> None:
        if self.edits < 0 or not -1 <= self.lost <= 1:
            raise InputError("a load of edits out of range", got=f"{self.edits}, {self.lost}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything the table asks. `held`: a person or a court ordered a hold."""

    authority: Authority | None = None
    rights: Rights = Rights()
    works: Works | None = None
    copies: Copies | None = None
    learned: Learned | None = None
    opt_out: OptOut | None = None
    style: Style | None = None
    harm: Harm | None = None
    load: Load = Load()
    held: bool = False


def readings(facts: Facts, policy: RightsPolicy, jurisdiction: Jurisdiction) -> Readings:
    """The facts in the table's words, by the policy's limits."""
    limits, switches = policy.limits, jurisdiction.switches
    spent = facts.load.edits >= limits.edits or facts.load.lost > limits.cumulative_loss
    return Readings(
        hold="ordered" if facts.held else "none",
        rights=facts.rights.state,
        authority=_authority(facts.authority, policy),
        works=_works(facts.works, policy),
        copies=_copies(facts.copies, limits.copies_at_most),
        learned=_learned(facts.learned),
        opt_out=_opt_out(facts.opt_out),
        style=_style(facts.style, policy),
        harm="open" if facts.harm is None else "beyond" if facts.harm.at_most > limits.neighbour_loss else "within",
        room="spent" if spent else "left",
        reproduction=switches.reproduction,
        protectable=switches.protectable,
        training=switches.training,
    )


def _authority(found: Authority | None, policy: RightsPolicy) -> Literal["proven", "refuted", "open"]:
    """Somebody in a capacity that the policy does not know is neither: a person looks."""
    if found is None or (found.state == "proven" and found.kind not in policy.intake.authority):
        return "open"
    return found.state


def _works(found: Works | None, policy: RightsPolicy) -> Literal["none", "few", "some", "many", "open"]:
    if found is None or not found.searched or not found.by:
        return "open"
    if not found.present:
        return "none" if found.searched == found.records and _sees(found) else "open"
    limits = policy.limits
    if found.present < limits.imitation_low:
        return "few"
    return "some" if found.present < limits.imitation_high else "many"


def _sees(found: Works) -> bool:
    """Whether finding nothing says something: all that is listed was looked for, by a search that finds altered copies (lower
    95 % limit)."""
    whole = found.brought is None or found.brought == found.listed
    return whole and (found.planted is None or share_at_least(*found.planted) >= LEAST_PLANTED)


def _copies(found: Copies | None, allowed: float) -> Literal["found", "none", "open"]:
    if found is None:
        return "open"
    return "found" if found.found else "none" if found.at_most <= allowed else "open"


def _learned(found: Learned | None) -> Literal["learned", "not_learned", "open"]:
    verdicts: Mapping[Verdict, Literal["learned", "not_learned"]]
    verdicts = {Verdict.PASS: "not_learned", Verdict.FAIL: "learned"}
    return "open" if found is None else verdicts.get(found.verdict, "open")


def _opt_out(found: OptOut | None) -> Literal["valid", "none", "open"]:
    if found is None:
        return "open"
    return "valid" if found.reserved else "open" if found.unknown else "none"


def _style(found: Style | None, policy: RightsPolicy) -> Literal["own", "shared", "generic", "open"]:
    if found is None:
        return "open"
    if found.others >= policy.limits.shared_by:
        return "generic" if found.movement else "shared"
    return "own" if found.asked >= policy.limits.shared_asked else "open"


def measurements(facts: Facts, fields: tuple[str, ...]) -> dict[str, str]:
    """Reading -> what was measured for it, in numbers, for those of `fields` that rest on a measurement."""
    said = {
        "authority": facts.authority
        and f"{facts.authority.kind.value}: {facts.authority.state} by {facts.authority.record}",
        "rights": facts.rights.record and f"{facts.rights.state} by {facts.rights.record}",
        "works": facts.works and _said_works(facts.works),
        "copies": facts.copies
        and f"{facts.copies.found} near-copies of {facts.copies.draws} draws, at most {facts.copies.at_most:.2%}, "
        f"{_on_record(facts.copies.entry)}",
        "learned": facts.learned
        and f"asked for by name it comes in {facts.learned.rate:.1%}, at most {facts.learned.at_most:.1%}",
        "opt_out": facts.opt_out
        and f"{facts.opt_out.reserved} works reserved when fetched, {facts.opt_out.unknown} not known",
        "style": facts.style
        and f"works of {facts.style.others} of {facts.style.asked} other artists are judged to be in it",
        "harm": facts.harm and _said_harm(facts.harm),
        "room": f"{facts.load.edits} edits since the last training, which cost others up to {facts.load.lost:.1%}",
    }
    return {name: str(said[name]) for name in fields if said.get(name)}


def _said_works(works: Works) -> str:
    searched = f"{works.searched} of {works.records} records searched by {', '.join(works.by)}"
    said = f"{works.present} records are among the {works.listed} works; {searched}, {_on_record(works.entry)}"
    if works.brought is not None and works.brought < works.listed:
        said += f"; {works.listed - works.brought} of the works were not brought and not looked for"
    if works.planted is not None:
        said += f"; of {works.planted[1]} altered copies that were planted the search finds {works.planted[0]}"
    return said


def _on_record(entry: int | None) -> str:
    return "as typed in at the desk" if entry is None else f"by entry {entry} of the log"


def _said_harm(harm: Harm) -> str:
    moved = "" if harm.shift is None else f"; embeddings move by up to {harm.shift:.1%}"
    return f"{harm.neighbours} neighbours lose up to {harm.at_most:.1%}{moved}"
