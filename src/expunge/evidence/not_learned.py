"""The statement that a model was asked for a style and does not draw it, so that nothing was changed. No deletion certificate.

A deletion certificate says that data was taken out and that weights are those without it. Here nothing was taken out, so it
is a statement of its own (as a recomputation is): in-toto, signed by operator and verifier, about the one model that was
asked, in one file with the log's entries and the checkpoint that they lead to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from expunge.core.codec import Json, canonical, decimal, decode, encode, loads
from expunge.core.errors import EvidenceError, InputError, InputProblems
from expunge.core.finding import Finding, Verdict
from expunge.core.refs import DataRef, check_digest
from expunge.core.selftest import SelftestReport
from expunge.evidence.bundle import LogExtract
from expunge.evidence.commitment import is_commitment
from expunge.evidence.durable import storage_errors
from expunge.evidence.log_entry import body_problem
from expunge.evidence.predicate import NON_CLAIMS, CaseRef, LegalBasis, LogRef
from expunge.evidence.statement import statement_digest, unwrap, wrap

PREDICATE_TYPE = "urn:x-expunge:not-learned:v0.1"
VERSION = "0.1"
CHECK = "baseline"
WORDS, WIDEST, ABOVE = ("direct", "reworded"), 0.10, 0.15
"""Probes that no statement can do without; the largest share of pictures, and of what attacks bring above controls, that any gate
allows."""
LEVEL = 0.05
"""Error of all questions about a style on a model together."""
LARGEST = 8 << 20
ASKED, FOUND, ISSUED = "baseline.committed", "baseline.recorded", "not_learned.issued"
"""What the log must hold: the battery before anything was drawn, what was found, and the statement."""


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
        return decimal(1 - LEVEL * 2.0**-self.attempt)


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
        if not _shows(self.finding):
            problems.append("finding: does not show that the style was not learned")
        if self.version != VERSION:
            problems.append(f"version: {self.version!r} is not {VERSION}")
        if self.works < 0 or self.works > self.data.present:
            problems.append("works and data do not fit together")
        problems += _odd_questions(self.battery, self.finding)
        if self.battery.index < 0 or self.log.size <= self.battery.index or self.issued_at >= self.expires_at:
            problems.append("battery, log and times do not fit together")
        if problems:
            raise InputProblems("not-learned statement", problems)


def _odd_questions(battery: Battery, finding: Finding) -> list[str]:
    """What does not fit about the number of this question, the error it may spend, and what came of all others."""
    if not 1 <= battery.attempt <= len(battery.others) + 1:
        return ["battery: attempt and other answers do not fit together"]
    found = []
    if Verdict.FAIL.value in battery.others:
        found.append("battery: another question showed that the style was learned")
    if {*battery.others} - {verdict.value for verdict in Verdict}:
        found.append("battery: an answer that is none")
    if finding.details.get("level") != battery.level:
        found.append(f"finding: not at the level that question {battery.attempt} may spend, {battery.level}")
    return found


def _shows(finding: Finding) -> bool:
    """PASS, and by its probes: both ways of asking in words passed, and so did an attack, each within the widest gate of its
    kind; none failed or was undecided."""
    passed = {item.name: item.limit for item in finding.conditions if item.verdict is Verdict.PASS}
    undecided = {Verdict.FAIL, Verdict.INCONCLUSIVE} & {item.verdict for item in finding.conditions}
    asked = set(WORDS) <= set(passed) and len(passed) > len(WORDS)
    limits = [(finding.limit, WIDEST), *((most, WIDEST if name in WORDS else ABOVE) for name, most in passed.items())]
    within = all(most is not None and most <= widest for most, widest in limits)
    return finding.check == CHECK and finding.verdict is Verdict.PASS and within and asked and not undecided


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The file: envelope, the log's entries with their proofs, the checkpoint, and the self-test's report."""

    v: int
    envelope: Mapping[str, Any]
    log: LogExtract
    checkpoint: str
    selftest: SelftestReport


def sentence_of(found: NotLearned) -> str:
    """All that may be said: what was asked, how often, and what that does not show. Generated, never written."""
    asked = found.finding
    probes = ", ".join(f"{item.name} {item.verdict.value}" for item in asked.conditions)
    works = (
        "No record of the training data is listed under the artist's name."
        if found.works == 0
        else f"{found.works} records of the training data are listed under the artist's name; their deletion was not asked "
        "for here, and they are still in it."
    )
    return (
        f"Not learned, as measured: the file {found.model} was asked for the style in {asked.n} pictures and was not shown to "
        f"draw it more often than styles that no training saw ({probes}). {asked.reason} {_questions(found.battery)}Nothing was "
        f"changed. {works} No cheat was tried against this question, only against edits of a style. Other "
        f"probes and budgets were not tried, and this is no proof of absence. Scale: {asked.details.get('scale', 'not said')}."
    )


def _questions(battery: Battery) -> str:
    """How often the model was asked for this style, and what else it said; nothing where it was once."""
    if not battery.others:
        return ""
    total = len(battery.others) + 1
    return (
        f"This was question {battery.attempt} of {total} about this style and model, at a level of {battery.level}; the other "
        f"answers: {', '.join(battery.others)}. "
    )


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
