"""The walk from request to certificate, top to bottom. There is one way back: to the next candidate.

1 the request was logged at intake      2 resolve it to exact slots
a text-to-image model is asked first: a style that was not learned is not edited, and a request for it alone ends there
for each candidate, strongest guarantee then cheapest, retrain last:
  3 log the plan digest                 4 execute into a new model (the original is never touched)
  5 verify: every check on candidate, original, references       6 integrity is among the checks
  7 decide (pure)                       8 log findings and decision
  if accepted: 9 purge what derived from the data, 10 certify; stop
otherwise NotErased: nothing is released, and an incident opens on the original
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expunge.core.case import State
from expunge.core.codec import canonical, decode, digest_of, encode, loads
from expunge.core.errors import Held, InputError, IntegrityError, NotErased
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.plan import Plan
from expunge.core.policy import Decision
from expunge.core.protocols import HasSufficientStatistics
from expunge.evidence.durable import write_file
from expunge.training.judging.judge import JudgeBlind
from expunge.workflow.certify import Certificate, certify, check_before, check_ready, close_case
from expunge.workflow.execute import Executed, discard_run, execute, seed_after
from expunge.workflow.histories import same_content_stays
from expunge.workflow.intake import (
    OpenCase,
    Resolution,
    all_cases,
    closed,
    fold,
    log_resolution,
    resolve,
    stale_receipt,
    works_of,
    write_receipt,
)
from expunge.workflow.ladder import LONGEST
from expunge.workflow.logged import check_book
from expunge.workflow.planner import LAST, Candidate, candidates, make_plan
from expunge.workflow.purge import Accepted, purge, released_by
from expunge.workflow.selftest.gate import check_surrogates, latest
from expunge.workflow.styles.baseline import answered, ask_first, unasked
from expunge.workflow.styles.edits import ELSEWHERE, is_edit, only_edits
from expunge.workflow.styles.questions import Answered
from expunge.workflow.styles.statement import Statement, answer_style, close_statement
from expunge.workflow.styles.vouching import unvouched
from expunge.workflow.verify import verify

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate that was tried: its plan, findings and decision."""

    method: str
    plan: Plan
    findings: tuple[Finding, ...]
    decision: Decision
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a case. `certificate` is None when nothing was released; `statement`: that a style was not learned."""

    case: str
    verdict: Verdict
    guarantee: Guarantee | None
    trials: tuple[Trial, ...]
    certificate: Certificate | None
    statement: Statement | None = None


def preview(workspace: Workspace, case: OpenCase, methods: Sequence[str] = ()) -> list[Candidate]:
    """The candidates of a case in order, priced; logs and runs nothing."""
    style = case.request().style
    if style is not None and not works_of(workspace, style):
        return []
    return candidates(workspace, resolve(workspace, case), methods)


def first_asked(workspace: Workspace, case: OpenCase, found: Sequence[Candidate]) -> str:
    """What a run will ask the untouched model first, in words; empty = nothing. An answer that is there is told."""
    styles = _asked_about(workspace, case, found)
    if not styles:
        return ""
    told = [answered(workspace, style) for style in styles]
    said = [one for one in told if one is not None]
    if len(said) < len(told):
        return "is the style learned? The untouched model is asked, before anything is edited"
    words = ("learned, or not shown not to be" if one.learned else "not learned" for one in said)
    both = (f"{word} ({one.finding.reason})" for word, one in zip(words, said, strict=True))
    return f"asked before: {'; '.join(both)}"


def _asked_about(workspace: Workspace, case: OpenCase, found: Sequence[Candidate]) -> tuple[str, ...]:
    """The styles to ask for: that of the request, or of the artists whose works go where an edit would be tried."""
    style = case.request().style
    if style is not None or not any(is_edit(candidate.method) and not candidate.refused for candidate in found):
        return () if style is None else (style,)
    blocks = resolve(workspace, case).blocks
    return () if any(unasked(workspace, block) for block in blocks) else blocks


def handle(workspace: Workspace, case: OpenCase, methods: Sequence[str] = ()) -> Outcome:
    """Carry a case through, from wherever an earlier run left it. Raises NotErased (incident open) or Held."""
    _refuse_closed(workspace, case)
    _finish_others_first(workspace, case)
    if fold(workspace, case).state is State.CERTIFIED:
        return _outcome(case, [], close_case(workspace, case))
    if fold(workspace, case).state is State.NOT_LEARNED:
        return _not_learned(case, close_statement(workspace, case))
    if fold(workspace, case).accepted:
        return _finish(workspace, case, [])
    check_book(workspace)
    vouched = workspace.vouched()
    if case.request().style is not None and fold(workspace, case).state is State.RECEIVED:
        statement = answer_style(workspace, case)
        if statement is not None:
            return _not_learned(case, statement)
    resolution = _resolved(workspace, case)
    one = () if resolution.block is None else (resolution.block,)
    check_surrogates(workspace, vouched, resolution.blocks if workspace.policy.kind == "generator" else one)
    trials: list[Trial] = []
    for candidate in _worth_trying(workspace, case, _tried(candidates(workspace, resolution, methods))):
        if trials and _attempts(workspace, resolution) >= workspace.policy.limits.max_attempts:
            break
        trial, executed = _try(workspace, case, resolution, candidate)
        if trial is None or executed is None:
            continue
        trials.append(trial)
        if trial.decision.accepted:
            return _finish(workspace, case, trials)
        discard_run(executed)
    raise _not_erased(workspace, case, trials)


def _not_learned(case: OpenCase, statement: Statement) -> Outcome:
    return Outcome(
        case=case.handle, verdict=Verdict.PASS, guarantee=None, trials=(), certificate=None, statement=statement
    )


def _worth_trying(workspace: Workspace, case: OpenCase, usable: list[Candidate]) -> Iterator[Candidate]:
    """All of them; but a style that was not learned is not edited, because there is nothing that an edit could be seen to
    take away; of several artists each has to be learned. They are asked for when the first edit's turn comes. The works are
    still deleted."""
    styles, left, asked = _asked_about(workspace, case, usable), 0, None
    for candidate in usable:
        if is_edit(candidate.method):
            asked = asked or _first_not_learned(workspace, styles)
            if asked is not None:
                continue
        left += 1
        yield candidate
    if not left:
        workspace.log.append("request.held", {"reason": "not learned"}, case=case.handle)
        works = ELSEWHERE if only_edits(workspace) else "the works are deleted by replay or retrain"
        raise Held(
            "the style was not learned, so nothing is edited",
            got=asked.finding.reason if asked else None,
            hint=f"{works}; a request for the style alone (--style) gets a statement",
        )


def _first_not_learned(workspace: Workspace, styles: Sequence[str]) -> Answered | None:
    """The first answer that shows that a style was not learned; an answer that is there is not asked for again."""
    for style in styles:
        found = _asked_first(workspace, style)
        if found is not None and not found.learned:
            return found
    return None


def _asked_first(workspace: Workspace, style: str) -> Answered | None:
    """The answer of the untouched model; None where no self-test vouches for one, or no judge sees the style: works are owed all
    the same, so that costs only the question."""
    if unvouched(workspace):
        return None
    try:
        return ask_first(workspace, style)
    except JudgeBlind:
        return None


def _resolved(workspace: Workspace, case: OpenCase) -> Resolution:
    """Step 2, logged once; what a crash at intake or in a candidate left half done is completed or closed."""
    if not case.receipt.exists() or stale_receipt(workspace, case):
        write_receipt(workspace, case)
    _close_interrupted(workspace, case)
    resolution = resolve(workspace, case)
    logged = [entry.payload for entry in workspace.log.case(case.handle) if entry.kind == "request.resolved"]
    if not logged or logged[-1]["split"] != resolution.commitment:  # another deletion changed the data since
        if fold(workspace, case).state is State.PLANNED:
            workspace.log.append("candidate.failed", {"reason": "interrupted"}, case=case.handle)
        log_resolution(workspace, case, resolution)
    _hold_copies(workspace, case, resolution)
    _hold_same_content(workspace, case, resolution)
    _hold_silent(workspace, case, resolution)
    return resolution


def _hold_silent(workspace: Workspace, case: OpenCase, resolution: Resolution) -> None:
    """Users without a single event, where even a retraining without them is not made. Elsewhere it is, shows that the weights
    did not have to change, and they leave the slot book and the places; docs/adr/0013."""
    summed = isinstance(workspace.adapter, HasSufficientStatistics)
    if workspace.policy.kind != "recommender" or summed or workspace.served().seconds <= LONGEST:
        return
    train = workspace.data.train
    if any(len(train.row(slot)[0]) for slot in resolution.slots):
        return
    workspace.log.append("request.held", {"reason": "no events"}, case=case.handle)
    raise Held(
        "these users have no events that the model is made of",
        hint="the model never depended on them: remove them at the source, and tell the person so",
    )


def _finish_others_first(workspace: Workspace, case: OpenCase) -> None:
    """A case that was accepted but not closed has a model on its way into service; no other may overtake it."""
    for other in all_cases(workspace):
        if other.handle != case.handle and fold(workspace, other).accepted and not closed(workspace, other):
            raise Held(
                f"{other.handle} is accepted and not finished",
                hint=f"expunge run --case {other.handle}, then this case again",
            )


def keep_accepted(
    workspace: Workspace, case: OpenCase, resolution: Resolution, trial: Trial, executed: Executed
) -> None:
    """Write down, privately, what purge and certify need, so that a crash between them is repaired by running again."""
    accepted = Accepted(
        slots=resolution.slots,
        block=resolution.block,
        split=resolution.commitment,
        attempt=trial.plan.attempt,
        method=trial.method,
        seconds=trial.seconds,
        steps_run=executed.result.steps - executed.result.resumed_at,
        steps_total=executed.result.steps,
        record=executed.record,
        original=workspace.served(),
        cut=resolution.cut,
        contents=tuple((slot, workspace.book.leaf(slot)[1]) for slot in resolution.slots) if resolution.cut else (),
    )
    write_file(case.private / "accepted.json", canonical(encode(accepted)), mode=0o600)


def _finish(workspace: Workspace, case: OpenCase, trials: list[Trial]) -> Outcome:
    """Steps 9 and 10, also after a crash in between. Nothing is destroyed before everything has been checked again."""
    accepted = decode(Accepted, loads((case.private / "accepted.json").read_bytes()), what="accepted.json")
    serving = workspace.state().model == accepted.original.digest and not released_by(workspace, case)
    if fold(workspace, case).state is State.DECIDED and serving:
        check_ready(workspace, case, accepted)
    else:
        check_before(workspace, case, accepted)
    purged = purge(workspace, case, accepted)
    return _outcome(case, trials, certify(workspace, case, accepted, purged))


def _outcome(case: OpenCase, trials: list[Trial], certificate: Certificate) -> Outcome:
    return Outcome(
        case=case.handle,
        verdict=Verdict.PASS,
        guarantee=certificate.guarantee,
        trials=tuple(trials),
        certificate=certificate,
    )


def _refuse_closed(workspace: Workspace, case: OpenCase) -> None:
    if closed(workspace, case):
        state = fold(workspace, case).state
        raise InputError(f"case {case.handle} is closed", got=state.value, hint="file a new request")


def _hold_copies(workspace: Workspace, case: OpenCase, resolution: Resolution) -> None:
    """Other people's records are never deleted by closure: the same content elsewhere holds the case for a person."""
    if not resolution.copies:
        return
    workspace.log.append("request.held", {"copies_outside_request": len(resolution.copies)}, case=case.handle)
    names = [str(workspace.book.ids[slot]) for slot in resolution.copies[:5]]
    raise Held(
        f"{len(resolution.copies)} other records hold the same content, so deleting these would delete nothing",
        got=", ".join(names),
        hint="find out whose they are; file a request that names them all, or refuse this one",
    )


def _hold_same_content(workspace: Workspace, case: OpenCase, resolution: Resolution) -> None:
    """Short histories are alike by chance, and empty ones always. Where somebody else's is the very same, nothing could be
    proven."""
    if workspace.policy.kind != "recommender" or not same_content_stays(workspace, resolution.slots, resolution.cut):
        return
    workspace.log.append("request.held", {"reason": "the same content stays"}, case=case.handle)
    raise Held(
        "somebody else has, or is left with, the very same history, so its absence could not be shown",
        hint="find out whose it is; file a request that names both users, or delete one history after the other",
    )


def _close_interrupted(workspace: Workspace, case: OpenCase) -> None:
    """A run killed after its candidate was executed left a plan without decision: that attempt counts as spent."""
    if fold(workspace, case).state in (State.EXECUTED, State.VERIFIED):
        workspace.log.append("candidate.failed", {"reason": "interrupted"}, case=case.handle)


def _tried(found: list[Candidate]) -> list[Candidate]:
    usable = [candidate for candidate in found if candidate.refused is None]
    if not usable:
        reasons = "; ".join(f"{candidate.method}: {candidate.refused}" for candidate in found)
        raise Held("no method can be used here", got=reasons, hint="retrain needs recipe and data")
    return usable


def _try(
    workspace: Workspace, case: OpenCase, resolution: Resolution, candidate: Candidate
) -> tuple[Trial | None, Executed | None]:
    """Steps 3 to 8 for one candidate. One whose own files are damaged is logged as failed, and the next is tried.

    Weights that did not change are no deletion, and are not judged; but those of a recommender are held against sums, or
    a training, made anew without the users, and if they equal these they are what a deletion has to give.
    """
    plan, index, seed = _commit_plan(workspace, case, resolution, candidate)
    try:
        executed = execute(workspace, case, resolution, plan, seed)
    except (IntegrityError, InputError) as error:
        workspace.log.append("candidate.failed", {"reason": error.code, "method": plan.method}, case=case.handle)
        if candidate.method == LAST:
            raise
        return None, None
    if executed.result.digest == plan.model.digest and workspace.policy.kind != "recommender":
        workspace.log.append("candidate.failed", {"reason": "same-weights", "method": plan.method}, case=case.handle)
        return None, None
    trial = judge(workspace, resolution, plan, executed, index, seed)
    if trial.decision.accepted:
        keep_accepted(workspace, case, resolution, trial, executed)
    _log_verdict(workspace, case, plan, trial.findings, trial.decision)
    return trial, executed


def judge(workspace: Workspace, resolution: Resolution, plan: Plan, executed: Executed, index: int, seed: str) -> Trial:
    """Steps 5 to 7 for one candidate, real or rehearsed: every check, then the policy. Logs nothing."""
    findings = verify(workspace, resolution, plan, executed, index, seed)
    decision = workspace.policy.judge(plan.aims_at, findings)
    return Trial(method=plan.method, plan=plan, findings=findings, decision=decision, seconds=executed.result.seconds)


def _attempts(workspace: Workspace, resolution: Resolution) -> int:
    """Judged attempts on any of the records, across cases. A plan that crashed before its findings saw nothing."""
    return max((workspace.state().judged.get(handle, 0) for handle in resolution.subjects), default=0)


def _commit_plan(
    workspace: Workspace, case: OpenCase, resolution: Resolution, candidate: Candidate
) -> tuple[Plan, int, str]:
    """Log the plan's digest before anything runs, and draw the seed from the checkpoint signed after it.

    A plan that a crash left unexecuted is taken up again, seed and all: a crash is neither a new attempt nor a new draw.
    """
    state = workspace.state()
    if _attempts(workspace, resolution) >= workspace.policy.limits.max_attempts:
        raise Held(
            "the attempts on these records are used up",
            expected=f"at most {workspace.policy.limits.max_attempts} (limits.max_attempts)",
            got=str(_attempts(workspace, resolution)),
            hint="a person has to look at the failed attempts in the log",
        )
    reference = state.banks[-1].digest if state.banks else "none"
    planned = max((state.planned.get(handle, 0) for handle in resolution.subjects), default=0)
    pending = _pending(
        workspace, case, make_plan(workspace, resolution, candidate, attempt=planned, reference=reference)
    )
    if pending is not None:
        return pending
    plan = make_plan(workspace, resolution, candidate, attempt=planned + 1, reference=reference)
    write_file(case.folder / f"plan-{plan.attempt}.json", canonical(encode(plan)))
    payload = {
        "plan": digest_of(plan),
        "subjects": list(resolution.subjects),
        "attempt": plan.attempt,
        "policy": plan.policy,
    }
    entry = workspace.log.append("plan.committed", payload, case=case.handle)
    checkpoint = workspace.log.checkpoint()
    write_file(case.private / f"checkpoint-{plan.attempt}.txt", checkpoint.encode(), mode=0o600)
    return plan, entry.index, seed_after(case, checkpoint)


def _pending(workspace: Workspace, case: OpenCase, plan: Plan) -> tuple[Plan, int, str] | None:
    """The committed plan that waits for its execution, if it is this very plan; another one is logged as interrupted."""
    if fold(workspace, case).state is not State.PLANNED:
        return None
    committed = [entry for entry in workspace.log.case(case.handle) if entry.kind == "plan.committed"][-1]
    checkpoint = case.private / f"checkpoint-{plan.attempt}.txt"
    vouched = latest(workspace)
    younger = vouched is not None and vouched.index > committed.index  # a certificate cites one older than its plan
    if committed.payload["plan"] == digest_of(plan) and checkpoint.exists() and not younger:
        return plan, committed.index, seed_after(case, checkpoint.read_text())
    workspace.log.append("candidate.failed", {"reason": "interrupted"}, case=case.handle)
    return None


def _log_verdict(
    workspace: Workspace, case: OpenCase, plan: Plan, findings: tuple[Finding, ...], decision: Decision
) -> None:
    write_file(case.folder / f"findings-{plan.attempt}.json", canonical(encode(list(findings))))
    payload = {
        "findings": digest_of(list(findings)),
        "plan": digest_of(plan),
        "verdicts": {finding.check: finding.verdict for finding in findings},
    }
    workspace.log.append("findings.recorded", payload, case=case.handle)
    made = {
        "accepted": decision.accepted,
        "guarantee": decision.guarantee,
        "verdict": decision.verdict,
        "reasons": len(decision.reasons),
    }
    workspace.log.append("decision.made", made, case=case.handle)


def _not_erased(workspace: Workspace, case: OpenCase, trials: list[Trial]) -> NotErased:
    """Nothing is released. The old model, with the person in it, is still in service: that is an incident."""
    served = workspace.served()
    payload = {"model": served.digest, "attempts": len(trials), "due": encode(case.request().due)}
    workspace.log.append("incident.opened", payload, case=case.handle)
    workspace.log.checkpoint()
    reasons = [f"{trial.method}: {reason}" for trial in trials for reason in trial.decision.reasons]
    refused = NotErased(
        f"no candidate of {case.handle} passed; nothing was released",
        got="; ".join(reasons) or "every candidate failed to run",
        hint=f"the original {served.digest[:19]}… is still in service with the records in it: restrict or withdraw it "
        f"by the deadline, and tell the person and the privacy officer{_no_fallback(workspace)}",
    )
    refused.trials = tuple(trials)
    return refused


def _no_fallback(workspace: Workspace) -> str:
    """Said where the last resort was never there."""
    return f"; {ELSEWHERE}: whoever trained it can train it without the works" if only_edits(workspace) else ""
