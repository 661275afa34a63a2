"""The relying party's check of a not-learned statement, with its own keys, policy, receipt and clock: the steps of a bundle,
where they apply, under the same numbers. Needs neither numpy nor torch nor a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from expunge.core.case import Case, State
from expunge.core.codec import digest_of
from expunge.core.errors import EvidenceError, ExpungeError, OutOfOrder
from expunge.core.finding import Verdict
from expunge.core.policy import Policy
from expunge.core.selftest import Subject
from expunge.evidence import verify_steps as steps
from expunge.evidence.bundle import LoggedEntry
from expunge.evidence.commitment import Opening, check_opening
from expunge.evidence.envelope import Opened, verify_envelope
from expunge.evidence.keys import TrustRoots
from expunge.evidence.not_learned import (
    ASKED,
    FOUND,
    ISSUED,
    Issued,
    NotLearned,
    objections,
    parse,
    read_issued,
    sentence_of,
)
from expunge.evidence.note import Checkpoint, open_checkpoint
from expunge.evidence.sentence import custody_line
from expunge.evidence.verify import CLOCK_SKEW, Expectation, Step, Verification

KIND = "generator"


@dataclass(slots=True, kw_only=True)
class _Run:
    """What is brought, and what the steps found so far."""

    source: Path
    roots: TrustRoots
    policy: Policy
    against: str | None
    expect: Expectation
    now: datetime
    steps: list[Step] = field(default_factory=list)
    issued: Issued | None = None
    opened: Opened | None = None
    found: NotLearned | None = None
    digest: str = ""
    checkpoint: Checkpoint | None = None


def verify_not_learned(
    source: Path,
    *,
    roots: TrustRoots,
    policy: Policy,
    against: str | None = None,
    expect: Expectation | None = None,
    now: datetime | None = None,
) -> Verification:
    """Check a statement; raises nothing for a bad one. Steps 11 and 12 are skipped where nothing is brought."""
    expect = expect or Expectation()
    run = _Run(source=source, roots=roots, policy=policy, against=against, expect=expect, now=now or datetime.now(UTC))
    for number, (name, check) in enumerate(_CHECKS, start=1):
        run.steps.append(_step(run, number, name, check))
    found = run.found
    result = Verification(
        steps=tuple(run.steps),
        sentence=None,
        custody=custody_line(found, [root.name for root in run.opened.signers]) if found and run.opened else None,
        basis="as measured by the owner" if found else None,
        guarantee=None,
        case=found.case.handle if found else None,
        model=found.model if found else None,
        certificate=run.digest or None,
    )
    if not result.ok or found is None:
        return result
    fields = {name: getattr(result, name) for name in result.__dataclass_fields__}
    return Verification(**{**fields, "sentence": sentence_of(found)})


def _step(run: _Run, number: int, name: str, check: Callable[[_Run], str | None]) -> Step:
    broken = [step.number for step in run.steps if step.status == "failed"]
    if broken:
        return Step(number=number, name=name, status="skipped", reason=f"step {broken[0]} did not hold")
    try:
        said = check(run)
    except ExpungeError as error:
        return Step(number=number, name=name, status="failed", reason=" ".join(error.lines()[:3]))
    if said is None:
        return Step(number=number, name=name, status="skipped", reason="you brought nothing to compare with")
    return Step(number=number, name=name, status="ok", reason=said)


def _read(run: _Run) -> str:
    run.issued = read_issued(run.source)
    return f"{len(run.issued.log.entries)} log entries"


def _signed(run: _Run) -> str:
    run.opened = verify_envelope(steps.have(run.issued).envelope, run.roots)
    return ", ".join(f"{root.name} ({root.role})" for root in run.opened.signers)


def _parsed(run: _Run) -> str:
    run.found, run.digest = parse(steps.have(run.opened).payload)
    return f"not-learned statement v{run.found.version} {run.digest}"


def _promised(run: _Run) -> str:
    found, issued = steps.have(run.found), steps.have(run.issued)
    run.checkpoint = open_checkpoint(issued.checkpoint, run.roots.require("log"))
    steps.require("log of the checkpoint", found.log.origin, run.checkpoint.origin)
    if run.checkpoint.size <= found.log.size:
        raise EvidenceError("the checkpoint is older than the statement", got=str(run.checkpoint.size))
    return f"{run.checkpoint.origin} at size {run.checkpoint.size}"


def _included(run: _Run) -> str:
    steps.check_inclusion(steps.have(run.issued).log, steps.have(run.checkpoint))
    return "every entry is in the tree"


def _ordered(run: _Run) -> str:
    """The battery was in the log before its answer; the case ends with this statement; nothing was executed or released."""
    found, entries = steps.have(run.found), steps.have(run.issued).log.entries
    handle = found.case.handle
    own = [(entry.index, entry.body) for entry in entries if entry.body["case"] == handle]
    foreign = [entry.index for entry in entries if entry.body["case"] not in (None, handle)]
    if any(entry.body["kind"] == steps.REVOKED for entry in entries):
        raise EvidenceError("the statement was revoked")
    try:
        state = Case.fold(handle, own).state
    except (OutOfOrder, KeyError) as error:
        raise EvidenceError("the entries of the case are out of order", got=str(error)[:200], code="order") from error
    steps.require("end of the case", State.NOT_LEARNED.value, state.value)
    payloads = {str(body["kind"]): body["payload"] for _, body in own}
    steps.require("request in the log", found.case.request, payloads["request.received"].get("request"))
    steps.require("statement in the log", run.digest, payloads[ISSUED].get("statement"))
    steps.require(
        "entries of other cases but of data and models", [], [i for i in foreign if not _is_shared(entries, i)]
    )
    steps.require(
        "models that the case put in service", [], [i for i, body in own if body["kind"] in steps.MODEL_KINDS]
    )
    asked = _one(entries, ASKED, battery=found.battery.digest, model=found.model, attempt=found.battery.attempt)
    steps.require("index of the battery", found.battery.index, asked)
    issued = next(index for index, body in own if body["kind"] == ISSUED)
    _check_served(found, entries, asked, issued)
    return f"asked at index {asked}, answered at {_answered(found, entries, asked, issued)}"


def _check_served(found: NotLearned, entries: Sequence[LoggedEntry], asked: int, issued: int) -> None:
    """The model that was asked is the one that was put in service last, and no other was until the statement was issued."""
    put = {
        entry.index: entry.body["payload"].get("model") for entry in entries if entry.body["kind"] in steps.MODEL_KINDS
    }
    before = [index for index in put if index < asked]
    if not before:
        raise EvidenceError("nothing shows that the model that was asked was in service", code="order")
    for index in (before[-1], *(index for index in put if asked < index < issued)):
        steps.require(f"model put in service at index {index}", found.model, put[index])


def _answered(found: NotLearned, entries: Sequence[LoggedEntry], asked: int, issued: int) -> int:
    """All questions about this style and model are there, as many as are counted, each with one answer; none is FAIL, and the
    statement says what came of each. Returns where the answer to this one is."""
    bodies = {entry.index: entry.body for entry in entries}
    about = bodies[asked]["payload"].get("style"), found.model
    questions = {
        index: body["payload"]
        for index, body in bodies.items()
        if body["kind"] == ASKED and (body["payload"].get("style"), body["payload"].get("model")) == about
    }
    numbers = [_whole(payload.get("attempt")) for payload in questions.values()]
    steps.require("questions about this style and model", list(range(1, len(found.battery.others) + 2)), numbers)
    told = {index: body["payload"] for index, body in bodies.items() if body["kind"] == FOUND}
    answers = {index: _answer(payload, index, told) for index, payload in questions.items()}
    steps.require("answers to questions that are here", sorted(told), sorted(answers.values()))
    verdicts = {index: told[at].get("verdict") for index, at in answers.items()}
    if Verdict.FAIL.value in verdicts.values():
        raise EvidenceError("a question about this style and model showed that it was learned")
    this = told[answers[asked]]
    steps.require("answer", [Verdict.PASS.value, digest_of(found.finding)], [verdicts[asked], this.get("finding")])
    others = [verdict for index, verdict in verdicts.items() if index != asked]
    steps.require("other answers about this style and model", list(found.battery.others), others)
    if max(answers.values()) > issued:
        raise EvidenceError("an answer is younger than the statement", got=str(max(answers.values())), code="order")
    return answers[asked]


def _answer(question: Mapping[str, Any], asked: int, told: Mapping[int, Mapping[str, Any]]) -> int:
    """Where the one answer to a question is. Raises EvidenceError where there is none, where there are several, of which the last
    would otherwise hide the first, or where it is the older of the two."""
    fits = [index for index, payload in told.items() if payload.get("battery") == question.get("battery")]
    if len(fits) != 1 or fits[0] < asked or _whole(told[fits[0]].get("attempt")) != question["attempt"]:
        raise EvidenceError(
            "a question about this style and model does not have one answer", got=f"{len(fits)}", code="order"
        )
    return fits[0]


def _whole(value: object) -> int | None:
    """A whole number; a truth value, which equals one, is none."""
    return value if type(value) is int else None


def _is_shared(entries: Any, index: int) -> bool:
    kinds = (*steps.DATA_KINDS, *steps.MODEL_KINDS)
    return any(entry.index == index and entry.body["kind"] in kinds for entry in entries)


def _one(entries: Any, kind: str, **wanted: object) -> int:
    """Index of the one entry of a kind that says this. Raises EvidenceError where there is none, or several."""
    fits = [entry.index for entry in entries if entry.body["kind"] == kind and _says(entry.body["payload"], wanted)]
    if len(fits) != 1:
        raise EvidenceError(f"no {kind} in the log says what the statement says", got=f"{len(fits)} do", code="order")
    return int(fits[0])


def _says(payload: Mapping[str, Any], wanted: Mapping[str, object]) -> bool:
    return all(payload.get(name) == value for name, value in wanted.items())


def _logged_data(run: _Run) -> str:
    found, entries = steps.have(run.found), steps.have(run.issued).log.entries
    known = [entry for entry in entries if entry.body["kind"] in steps.DATA_KINDS]
    logged = [steps.logged_roots(entry.body["payload"].get("data")) for entry in known]
    if steps.roots_of(found.data) not in logged:
        raise EvidenceError("the training data is not one that was logged", expected=found.data.root)
    return f"{found.data.present} records, {found.works} under the artist's name"


def _judged(run: _Run) -> str:
    """A policy of the kind that you expect, and a self-test that is good enough for an edit of a style and older than the
    question: cheats against edits were tried, and none against the question itself."""
    found, issued = steps.have(run.found), steps.have(run.issued)
    steps.require("kind of your policy", KIND, run.policy.kind)
    steps.require("report of the self-test", found.selftest, digest_of(issued.selftest))
    tested = _one(issued.log.entries, steps.TESTED, report=found.selftest)
    if tested > found.battery.index:
        raise EvidenceError("the self-test was not logged before the question", code="order")
    subject = Subject(policy=found.policy, bank=issued.selftest.bank, expunge=issued.selftest.expunge, kind=KIND)
    problems = objections(run.policy.selftest, issued.selftest, found.issued_at, subject)
    if problems:
        raise EvidenceError("the self-test does not vouch for it", got="; ".join(problems)[:300], code="policy")
    asked = len(found.battery.others) + 1
    if asked > run.policy.limits.max_attempts:
        raise EvidenceError("asked more often than you allow", got=str(asked), code="policy")
    return f"{run.policy.name!r}; self-test: {issued.selftest.sentence}; none against the question itself"


def _said(run: _Run) -> str:
    found = steps.have(run.found)
    steps.require("sentence", sentence_of(found), found.sentence)
    return "generated, not written"


def _current(run: _Run) -> str:
    found = steps.have(run.found)
    if found.issued_at > run.now + CLOCK_SKEW or run.now >= found.expires_at:
        raise EvidenceError("expired, or from the future", got=found.expires_at.isoformat(), hint="ask for a new one")
    return f"until {found.expires_at.date().isoformat()}"


def _extends(run: _Run) -> str | None:
    if run.against is None:
        return None
    kept, checkpoint = open_checkpoint(run.against, run.roots.require("log")), steps.have(run.checkpoint)
    offered = [*steps.have(run.issued).log.consistency]
    offered += [run.expect.consistency] if run.expect.consistency else []
    steps.check_extends(kept, checkpoint, offered)
    return f"from size {kept.size} to {checkpoint.size}"


def _yours(run: _Run) -> str | None:
    found, expect = steps.have(run.found), run.expect
    if expect.model is None and expect.opening is None:
        return None
    if expect.model is not None:
        steps.require("model at hand", found.model, expect.model)
    if expect.opening is not None:
        style = _asked_for(check_opening(found.case.request, expect.opening))
        _about(style, steps.have(run.issued).log.entries, found.battery.index, expect.style)
    return "as expected"


def _asked_for(request: Any) -> object:
    """The style. Whoever asked for the deletion of works is not answered by a statement about a style."""
    selectors = request.get("selectors", []) if isinstance(request, Mapping) else []
    steps.require("what was asked for", ["style"], [item.get("kind") for item in selectors])
    values = selectors[0].get("values")
    steps.require("styles that were asked for", 1, len(values) if isinstance(values, list) else None)
    return values[0]


def _about(style: object, entries: Sequence[LoggedEntry], index: int, opening: Opening | None) -> None:
    """The question in the log was about the style of the request, and not about somebody else's."""
    if opening is None:
        raise EvidenceError(
            "your receipt does not open the style's handle", hint="bring the receipt you were given at intake"
        )
    asked = next(entry.body["payload"].get("style") for entry in entries if entry.index == index)
    steps.require("style that was asked about", style, check_opening(str(asked), opening))


_CHECKS: tuple[tuple[str, Callable[[_Run], str | None]], ...] = (
    ("the file is read safely", _read),
    ("operator and verifier signed the statement, with keys from your roots", _signed),
    ("the statement is of a version this verifier knows", _parsed),
    ("the checkpoint is signed by a log key from your roots", _promised),
    ("every entry is in the log at that checkpoint", _included),
    ("the question was logged before its answer, and nothing was executed", _ordered),
    ("the training data is as it was logged", _logged_data),
    ("your policy accepts the self-test behind it", _judged),
    ("the sentence is the one that this finding earns", _said),
    ("the statement has not expired", _current),
    ("the log still extends the checkpoint you kept", _extends),
    ("it answers your request and names the model at hand", _yours),
)
