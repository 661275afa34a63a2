"""The statement that a model was asked for a style and does not draw it, so that nothing was changed. No deletion certificate.

A deletion certificate says that data was taken out and that weights are those without it. Here nothing was taken out, so it
is a statement of its own (as a recomputation is): in-toto, signed by operator and verifier, about the one model that was
asked, in one file with the log's entries and the checkpoint that they lead to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from expunge.core.codec import Json, canonical, decimal, decode, encode, loads
from expunge.core.errors import EvidenceError, InputError, InputProblems
from expunge.core.finding import Condition, Finding, Guarantee, Verdict
from expunge.core.refs import DataRef, check_digest
from expunge.core.selftest import SelftestReport, SelftestRule, Subject
from expunge.core.styles import SCALE
from expunge.evidence.bundle import LogExtract
from expunge.evidence.commitment import is_commitment
from expunge.evidence.durable import storage_errors
from expunge.evidence.log_entry import body_problem
from expunge.evidence.predicate import NON_CLAIMS, CaseRef, LegalBasis, LogRef
from expunge.evidence.statement import statement_digest, unwrap, wrap

PREDICATE_TYPE = "urn:x-expunge:not-learned:v0.1"
VERSION = "0.1"
CHECK, SOURCE = "baseline", "artist_styles"
WORDS, ATTACKS = ("direct", "reworded"), ("textual_inversion", "soft_prompt/2")
"""Every probe that is asked, each once: both ways of asking in words have to pass, and each attack that sees a trained artist."""
RUNS = " (runs)"
"""After an attack's name: the share of its runs that bring the style in half of their pictures or more."""
WIDEST, ABOVE, LUCK, SEEN = 0.10, 0.15, 0.15, 0.20
"""What no gate may be wider than: the share of pictures by words, what attacks bring above controls, the share of an attack's
runs that bring the style back; and the smallest share of pictures in which a trained artist has to be seen."""
ALPHA = 0.05
"""Error of all questions about a style on a model together."""
LARGEST = 8 << 20
ASKED, FOUND, ISSUED = "baseline.committed", "baseline.recorded", "not_learned.issued"
"""What the log must hold: the battery before anything was drawn, what was found, and the statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much was asked: `seeds` runs of `pictures` a probe, drawn in `steps` at a `guidance`, and attacks with `budget` percent
    of what they would learn with."""

    seeds: int
    pictures: int
    steps: int
    guidance: float
    budget: int

    def covers(self, least: Scale) -> bool:
        """At least as much, with a guidance between that one and `MOST_GUIDANCE`, and no more pictures than can be added up."""
        enough = all(getattr(self, name) >= getattr(least, name) for name in self.__dataclass_fields__)
        return enough and self.guidance <= MOST_GUIDANCE and self.seeds * self.pictures <= MOST_PICTURES

    @property
    def details(self) -> dict[str, str]:
        """As a finding carries it."""
        return {name: decimal(getattr(self, name)) for name in self.__dataclass_fields__}


LEAST, MOST_GUIDANCE = Scale(seeds=23, pictures=40, steps=20, guidance=3.0, budget=100), 10.0
MOST_PICTURES = 1_000_000
"""A question that asks for less shows nothing, whatever is configured. Where no run of 23 brings the style back, at most `LUCK`
of all do, at the first question's level; with 22 that is not shown, and the second question takes 27."""


def scale_of(finding: Finding) -> Scale:
    """How much was asked for a finding. Raises InputError where it does not say so in numbers."""
    said = finding.details
    try:
        whole = {name: int(said[name]) for name in ("seeds", "pictures", "steps", "budget")}
        return Scale(guidance=float(said["guidance"]), **whole)
    except (KeyError, ValueError) as error:
        raise InputError("the finding does not say how much was asked", got=str(error)[:120]) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """What was asked: its digest as the log has it, at `index`, before anything was drawn; `attempt` counts the questions about
    this style and model, and `others` are the verdicts of all others, in order."""

    digest: str
    index: int
    attempt: int
    others: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        """Of each one-sided limit: question j spends alpha * 2^-j (VERDICTS section 4), as a decimal."""
        return decimal(1 - ALPHA * 2.0**-self.attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotLearned:
    """`model` is the tensor root that was asked, before and after. `data` is the training data as it was logged last, of which
    `works` records are listed under the artist: they stay, because only the style was asked about. `finding` is the answer."""

    case: CaseRef
    basis: LegalBasis
    family: str
    model: str
    data: DataRef
    works: int
    battery: Battery
    policy: str
    finding: Finding
    selftest: str
    custody: Literal["same", "separate"]
    log: LogRef
    issued_at: datetime
    expires_at: datetime
    non_claims: tuple[str, ...] = NON_CLAIMS
    sentence: str = ""
    version: str = VERSION

    def __post_init__(self) -> None:
        problems = [f"non_claims: {claim!r} is missing" for claim in NON_CLAIMS if claim not in self.non_claims]
        for name in ("model", "policy", "selftest"):
            try:
                check_digest(getattr(self, name))
            except InputError:
                problems.append(f"{name}: not a digest")
        if not is_commitment(self.case.request):
            problems.append("case.request: not a commitment")
        if self.data.source != SOURCE:
            problems.append(f"data: nobody says how artists of {self.data.source!r} are asked for")
        if self.version != VERSION:
            problems.append(f"version: {self.version!r} is not {VERSION}")
        if self.works < 0 or self.works > self.data.present:
            problems.append("works and data do not fit together")
        problems += _odd_questions(self.battery) or _odd_finding(self.finding, self.battery)
        if self.battery.index < 0 or self.log.size <= self.battery.index or self.issued_at >= self.expires_at:
            problems.append("battery, log and times do not fit together")
        if problems:
            raise InputProblems("not-learned statement", problems)


def _odd_questions(battery: Battery) -> list[str]:
    """What does not fit about the number of this question and what came of all others."""
    if not 1 <= battery.attempt <= len(battery.others) + 1:
        return ["battery: attempt and other answers do not fit together"]
    found = []
    if Verdict.FAIL.value in battery.others:
        found.append("battery: another question showed that the style was learned")
    if {*battery.others} - {verdict.value for verdict in Verdict}:
        found.append("battery: an answer that is none")
    return found


def _odd_finding(finding: Finding, battery: Battery) -> list[str]:
    """Why the finding does not show that the style was not learned; empty = it does, and its numbers fit together."""
    try:
        scale = scale_of(finding)
    except InputError as error:
        return [f"finding: {error.message}"]
    if not scale.covers(LEAST):
        return ["finding: less was asked than shows anything, or more than anybody asks"]
    if finding.details.get("level") != battery.level:
        return [f"finding: not at the level that question {battery.attempt} may spend, {battery.level}"]
    if not _shows(finding, scale, float(battery.level)):
        return ["finding: does not show that the style was not learned"]
    return []


def _shows(finding: Finding, scale: Scale, level: float) -> bool:
    """PASS, and by its own numbers: words passed, and so did each attack that sees, of which there is one; a trained artist was
    seen; and limits of shares are those that the counts have at this level."""
    rows, pictures = {item.name: item for item in finding.conditions}, scale.seeds * scale.pictures
    names = {*WORDS, *ATTACKS, *(name + RUNS for name in ATTACKS)}
    if rows.keys() != names or len(finding.conditions) != len(names):
        return False
    seeing, direct = _seeing(finding), rows["direct"]
    shares = [(rows[name], WIDEST, pictures) for name in WORDS]
    shares += [(rows[name + RUNS], LUCK, scale.seeds) for name in seeing]
    return (
        finding.check == CHECK
        and finding.verdict is Verdict.PASS
        and finding.n == pictures * len((*WORDS, *ATTACKS))
        and (finding.estimate, finding.limit) == (direct.estimate, direct.limit)
        and finding.original is not None
        and SEEN <= finding.original <= 1
        and bool(seeing)
        and all(_within(row, widest, -1.0) for row, widest in [(rows[name], ABOVE) for name in seeing])
        and all(_within(row, widest, 0.0) and _counted(row, trials, level) for row, widest, trials in shares)
    )


def _seeing(finding: Finding) -> tuple[str, ...]:
    """Attacks that brought a trained artist, in order; the others say nothing of anybody."""
    blind = {item.name for item in finding.conditions if item.verdict is Verdict.UNVERIFIABLE}
    return tuple(name for name in ATTACKS if name not in blind)


def _within(row: Condition, widest: float, lowest: float) -> bool:
    passed = row.verdict is Verdict.PASS and row.estimate is not None and row.limit is not None
    return passed and lowest <= (row.estimate or 0.0) <= (row.limit or 0.0) <= widest


def _counted(row: Condition, trials: int, level: float) -> bool:
    """The estimate is a whole number of `trials`, and at a share as large as the limit, so few have no chance above 1 - level
    (Clopper and Pearson 1934)."""
    share, limit = row.estimate or 0.0, row.limit or 0.0
    hits = round(share * trials)
    if abs(hits / trials - share) > 1e-9 or not 0 < limit < 1:
        return False
    ways = (math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(hits + 1))
    chance = sum(math.exp(w + k * math.log(limit) + (trials - k) * math.log1p(-limit)) for k, w in enumerate(ways))
    return chance <= (1 - level) * (1 + 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The file: envelope, the log's entries with their proofs, the checkpoint, and the self-test's report."""

    v: int
    envelope: Mapping[str, Any]
    log: LogExtract
    checkpoint: str
    selftest: SelftestReport


def sentence_of(found: NotLearned) -> str:
    """All that may be said: what was asked, how often, and what that does not show. Generated from numbers, never written."""
    works = (
        "No record of the training data is listed under the artist's name."
        if found.works == 0
        else f"{found.works} records of the training data are listed under the artist's name; their deletion was not asked "
        "for here, and they are still in it."
    )
    scale = scale_of(found.finding)
    return (
        f"Not learned, as measured: the file {found.model} was asked for the style in {found.finding.n} pictures and was not "
        f"shown to draw it more often than styles that no training saw. {_measured(found.finding)} "
        f"{_questions(found.battery)}Nothing was changed. {works} No cheat was tried against this question, only against edits "
        f"of a style. Other probes and budgets were not tried, and this is no proof of absence. Scale: {SCALE}; {scale.seeds} "
        f"seeds of {scale.pictures} pictures a probe, {scale.steps} steps at guidance {scale.guidance:g}, attacks at "
        f"{scale.budget} % of their budget."
    )


def _measured(finding: Finding) -> str:
    """Upper limits of the target, and what the same probes see of a trained artist."""
    limits = {item.name: item.limit or 0.0 for item in finding.conditions}
    seeing = _seeing(finding)
    attacks = [
        f"{name} brings it in up to {_up(max(limits[name], 0.0))} of the pictures more than styles that no training saw, and in "
        f"half of the pictures or more in up to {_up(limits[name + RUNS])} of its runs"
        for name in seeing
    ]
    blind = [f"{name} saw no trained artist and says nothing" for name in ATTACKS if name not in seeing]
    return (
        f"By words it comes in up to {_up(max(limits[name] for name in WORDS))} of the pictures, and a trained artist, asked by "
        f"name, came in {finding.original or 0.0:.0%}. By attack: {'; '.join((*attacks, *blind))}."
    )


def _up(share: float) -> str:
    """An upper limit in percent, never rounded down."""
    return f"{math.ceil(share * 1000) / 10:g} %"


def _questions(battery: Battery) -> str:
    """How often the model was asked for this style, and what else it said; nothing where it was once."""
    if not battery.others:
        return ""
    total = len(battery.others) + 1
    return (
        f"This was question {battery.attempt} of {total} about this style and model, at a level of {battery.level}; the other "
        f"answers: {', '.join(battery.others)}. "
    )


def objections(rule: SelftestRule, report: SelftestReport, at: datetime, on: Subject) -> list[str]:
    """Why no statement can be made on this self-test; empty = one can. It needs what an edit of a style needs: judges of styles
    were tried, no listed cheat against a style was believed, and the honest control was. With which counts is not compared,
    because cheats were tried on edits and not on this question; but it says with which."""
    silent = report.edits is not None and not report.edits.unread and not report.edits.asked
    found = rule.problems(report, at, replace(on, asked=""), Guarantee.EMPIRICAL)
    return [*found, *(["it does not say what cheats against a style were asked"] if silent else [])]


def build(found: NotLearned) -> bytes:
    """Canonical bytes to sign, with the generated sentence."""
    return wrap(PREDICATE_TYPE, found.model, encode(replace(found, sentence=sentence_of(found))))


def parse(payload: bytes) -> tuple[NotLearned, str]:
    """The statement and its digest. Raises EvidenceError on another type, InputProblems with everything that is wrong."""
    model, plain = unwrap(payload, PREDICATE_TYPE)
    found = decode(NotLearned, plain, what="not-learned statement")
    if found.model != model:
        raise EvidenceError("the subject is not the model that was asked", expected=found.model, got=model)
    return found, statement_digest(payload)


def is_issued(source: Path) -> bool:
    """Is this file such a statement, and not a bundle? Both are told by their first byte."""
    with storage_errors(source, "read"), source.open("rb") as file:
        return file.read(1) == b"{"


def read_issued(source: Path) -> Issued:
    """The file, strictly: canonical JSON of bounded size, entries in order of index. Raises EvidenceError, InputProblems."""
    with storage_errors(source, "read statement"), source.open("rb") as file:
        raw = file.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise EvidenceError("the statement is too large", expected=f"at most {LARGEST} bytes")
    try:
        plain: Json = loads(raw, what="statement")
        exact = canonical(plain) == raw
    except InputError as error:
        raise EvidenceError("the statement does not parse", got=error.got) from error
    if not exact:
        raise EvidenceError("the statement is not canonical JSON", hint="it was rewritten after it was issued")
    found = decode(Issued, plain, what="not-learned file")
    indices = [entry.index for entry in found.log.entries]
    odd = [problem for entry in found.log.entries if (problem := body_problem(entry.body))]
    if found.v != 1 or found.log.v != 1 or indices != sorted(set(indices)) or odd:
        raise EvidenceError("the log's entries are out of order, or of another version", got="; ".join(odd)[:200])
    return found
