"""The desk of a workspace for requests of rights holders: what comes in, is decided, filtered, appealed and closed, each an entry
of the log. Names, works and prompts stay in the request's private folder; the log has keyed pseudonyms and what was decided."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING

from expunge.core.codec import canonical, decode, digest_of, encode, loads, parse_timestamp, sha256_hex
from expunge.core.documents import read_document
from expunge.core.errors import InputError, IntegrityError
from expunge.evidence.commitment import commit, keyed
from expunge.evidence.durable import destroy_file, storage_errors, write_file
from expunge.workflow.rights.appeal import (
    Appeal,
    AppealOutcome,
    Decided,
    Outcome,
    decide_appeal,
    file_appeal,
    folded,
    held_out_of,
)
from expunge.workflow.rights.closing import CLOSED, LESS, case_pseudonym, closed_by
from expunge.workflow.rights.deadlines import deadlines
from expunge.workflow.rights.facts import Facts, Learned
from expunge.workflow.rights.intake import Claim, Remedy, check_claim
from expunge.workflow.rights.jurisdictions import Jurisdictions
from expunge.workflow.rights.load import heavier, load_of
from expunge.workflow.rights.logged import with_logged
from expunge.workflow.rights.mitigation import Filter, Mitigation, active, lapsed, mitigation_for
from expunge.workflow.rights.policy import RightsPolicy
from expunge.workflow.rights.probed import check_settled
from expunge.workflow.rights.published import Closed, Published, published
from expunge.workflow.rights.requests import (
    APPEALED,
    DECIDED,
    MITIGATED,
    RECEIVED,
    SETTLED,
    STEPS,
    claim_of,
    entries_of,
    key_of,
    last_of,
    private,
    require_open,
)
from expunge.workflow.rights.sealing import Unsealed, deposited
from expunge.workflow.rights.terms import Action, AuthorityKind, Basis
from expunge.workflow.rights.triage import Decision, Filed, triage
from expunge.workflow.styles.baseline import ask_first

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A request as it is written down at the desk, with its words. `works` are hex SHA-256 of the files."""

    claimant: str
    authority: AuthorityKind
    works: tuple[str, ...]
    names: tuple[str, ...]
    jurisdiction: str
    basis: Basis
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a request stands. `due`: what -> by when, of what is not done yet; `overdue` are those whose time has passed;
    `filters`: interim filters that hold now; `lapsed`: there were some, and none is left."""

    request: str
    state: str
    action: str
    due: Mapping[str, datetime]
    overdue: tuple[str, ...]
    filters: tuple[Mitigation, ...]
    lapsed: bool


def receive(workspace: Workspace, text: str, policy: RightsPolicy, book: Jurisdictions, received: datetime) -> Standing:
    """Check a letter completely, keep it privately, and log that it came. A bad letter logs nothing."""
    letter = read_document(Letter, text, what="the request")
    handle = "rights-" + keyed(workspace.secret("rights"), secrets.token_bytes(16)).hex()[:16]
    key = secrets.token_bytes(32)
    claim = check_claim(_claim(letter, handle, received, key), policy)
    due = deadlines(received, policy, claim.basis)
    folder = private(workspace, handle)
    folder.mkdir(parents=True, mode=0o700)
    write_file(folder / "case.key", key, mode=0o600)
    write_file(folder / "letter.json", canonical(encode(letter)), mode=0o600)
    write_file(folder / "claim.json", canonical(encode(claim)), mode=0o600)
    payload = {
        "claim": commit(key, claim),
        "basis": claim.basis,
        "jurisdiction": book.find(claim.jurisdiction).code,
        "policy": policy.digest,
        "due": encode(dict(due)),
    }
    workspace.log.append(RECEIVED, payload, case=handle)
    workspace.log.checkpoint()
    return standing(workspace, handle, received)


def decide(
    workspace: Workspace,
    handle: str,
    facts: str,
    policy: RightsPolicy,
    book: Jurisdictions,
    *,
    reviewer: str,
    style: str = "",
) -> Decision:
    """The table's answer to these facts (YAML), logged, with a letter to send beside it. The load is at least that of the log;
    what the log has of the works is not typed in anew. Where the facts do not say whether the style was learned and `style`
    names it, the served model is asked, or the answer that is there is taken."""
    require_open(workspace, handle)
    if not folded(reviewer):
        raise InputError("a decision is somebody's", expected="--reviewer")
    _check_reviewer(workspace, handle, reviewer)
    found = read_document(Facts, facts, what="the facts")
    found = replace(found, load=heavier(found.load, load_of(workspace)))
    found = with_logged(workspace, handle, found)
    if style and found.learned is None:
        found = replace(found, learned=_learned(workspace, style))
    claim = claim_of(workspace, handle)
    law = book.find(claim.jurisdiction)
    decision = triage(found, policy, Filed(received=claim.received, basis=claim.basis, jurisdiction=law))
    folder = private(workspace, handle)
    write_file(folder / "facts.json", canonical(encode(found)), mode=0o600)
    write_file(folder.parent / "decision.json", canonical(encode(decision)), mode=0o600)
    write_file(folder.parent / "letter.txt", decision.words.encode(), mode=0o600)
    payload = {
        "decision": commit(key_of(workspace, handle), decision),
        "action": decision.action,
        "also": list(decision.also),
        "ground": decision.ground,
        "cites": {"works": found.works and found.works.entry, "copies": found.copies and found.copies.entry},
        "row": decision.row,
        "policy": decision.policy,
        "law": book.digest,
        "mitigate": decision.mitigate,
        "due": encode(dict(decision.deadlines)),
        "reviewer": _pseudonym(workspace, reviewer),
    }
    workspace.log.append(DECIDED, payload, case=handle)
    workspace.log.checkpoint()
    return decision


def _check_reviewer(workspace: Workspace, handle: str, reviewer: str) -> None:
    """After an appeal that was not turned down somebody else decides than did before."""
    last = last_of(workspace, handle, DECIDED)
    if overturned(workspace, handle) and last.payload["reviewer"] == _pseudonym(workspace, reviewer):
        raise InputError("who decided first does not decide anew", expected="another reviewer", got=handle)


def mitigate(
    workspace: Workspace, handle: str, kind: Filter, settings: bytes, policy: RightsPolicy, now: datetime
) -> Mitigation:
    """Record that a filter stands in front of the unchanged model from now on, for as long as the policy allows. Of its settings
    the log has a keyed digest: they name somebody, and a plain digest of so few words can be guessed."""
    require_open(workspace, handle)
    if not settings.strip():
        raise InputError("a filter without settings blocks nothing", expected="what it blocks, in a file")
    digest = commit(key_of(workspace, handle), {"settings": sha256_hex(settings)})
    found = mitigation_for(handle, kind, digest, policy, now)
    workspace.log.append(MITIGATED, {"mitigation": encode(found)}, case=handle)
    workspace.log.checkpoint()
    return found


def appeal(
    workspace: Workspace,
    handle: str,
    prompts: Sequence[str],
    works: Sequence[bytes],
    policy: RightsPolicy,
    now: datetime,
    *,
    opening: Unsealed | None = None,
) -> Appeal:
    """Record an appeal with the claimant's probes, of which only keyed digests are kept: they test and never train. Prompts of an
    `opening` were sealed before the decision, which makes them decide; they come alone."""
    last = last_of(workspace, handle, DECIDED)
    if last is None:
        raise InputError("nothing was decided yet", got=handle)
    decided = Decided(
        request=handle,
        decision=digest_of([last.payload["decision"], last.index]),  # the same words twice are two decisions
        at=parse_timestamp(str(last.body["time"])),
        reviewer=str(last.payload["reviewer"]),
    )
    if opening is not None and prompts:
        raise InputError("sealed prompts and others are not mixed", expected="an opening, or prompts")
    sealed = None if opening is None else deposited(workspace, handle, opening)
    prompts = prompts if opening is None else opening.prompts
    probes = held_out_of(prompts, works, key_of(workspace, handle), policy)
    found = file_appeal(decided, probes, policy, now, _appeals(workspace, handle))
    served = workspace.state().model  # opened from here on: another model may have been fitted to them
    payload = {"appeal": encode(found), "sealed": sealed, "prompts": len(prompts), "model": served}
    workspace.log.append(APPEALED, payload, case=handle)
    workspace.log.checkpoint()
    return found


def settle(workspace: Workspace, handle: str, outcome: Outcome, reviewer: str, now: datetime) -> AppealOutcome:
    """How the oldest open appeal ended, by a second reviewer. Sealed prompts that were asked leave not every outcome."""
    filed = unsettled(workspace, handle)
    if not filed:
        raise InputError("there is no open appeal", got=handle)
    check_settled(workspace, handle, filed[0], outcome)
    named = _pseudonym(workspace, reviewer) if folded(reviewer) else ""
    found = decide_appeal(filed[0], outcome, named, now)
    workspace.log.append(SETTLED, {"outcome": encode(found)}, case=handle)
    workspace.log.checkpoint()
    return found


def close(workspace: Workspace, handle: str, policy: RightsPolicy, now: datetime, *, case: str = "") -> Closed:
    """A request is done with: by its last decision, which is none of a person's to come, and by the evidence of `case` where
    that decision promised that something is done or shown. Its letter and key are destroyed, so where it was granted less than
    it asked for, not before the time for an appeal has passed or one was turned down. Run again, it finishes after a crash."""
    done = last_of(workspace, handle, CLOSED)
    if done is not None and any(private(workspace, handle).iterdir()):
        return _destroyed(workspace, handle, decode(Closed, done.payload["closed"], what="a closed request"))
    require_open(workspace, handle)
    last = last_of(workspace, handle, DECIDED)
    if last is None or last.payload["action"] == Action.LEGAL_HOLD.value:
        raise InputError("a request that nobody decided stays open", got=handle)
    if unsettled(workspace, handle):
        raise InputError("an appeal is open", got=handle, hint="expunge rights settle")
    if overturned(workspace, handle):
        raise InputError(
            "the appeal was not turned down, so it is decided anew", got=handle, hint="expunge rights decide"
        )
    action = Action(last.payload["action"])
    _check_time(workspace, handle, action, policy, now)
    found = closed_by(workspace, action, workspace.log.case(handle)[0].index, case)
    payload = {"closed": encode(found), "by": case_pseudonym(workspace, case)}
    workspace.log.append(CLOSED, payload, case=handle)
    workspace.log.checkpoint()
    return _destroyed(workspace, handle, found)


def _check_time(workspace: Workspace, handle: str, action: Action, policy: RightsPolicy, now: datetime) -> None:
    """An appeal needs the key of the letter. Raises InputError while one can be filed."""
    decided, settled = last_of(workspace, handle, DECIDED), last_of(workspace, handle, SETTLED)
    turned_down = settled is not None and settled.index > decided.index
    until = parse_timestamp(str(decided.body["time"])) + timedelta(days=policy.appeals.file_within)
    if action in LESS and not turned_down and now <= until:
        raise InputError(
            "an appeal can still be filed, and needs the letter", expected=f"after {until:%Y-%m-%d}", got=handle
        )


def _destroyed(workspace: Workspace, handle: str, found: Closed) -> Closed:
    for file in sorted(private(workspace, handle).iterdir()):
        destroy_file(file)
    return found


def overturned(workspace: Workspace, handle: str) -> bool:
    """Whether an appeal against the last decision was granted or held, so that it is decided anew."""
    last, settled = last_of(workspace, handle, DECIDED), last_of(workspace, handle, SETTLED)
    if last is None or settled is None or settled.index < last.index:
        return False
    return bool(settled.payload["outcome"]["outcome"] != "upheld")


def facts_of(workspace: Workspace, handle: str) -> Facts:
    """The private facts of the last decision. Raises IntegrityError where they are not those that it was made on."""
    folder, last = private(workspace, handle), last_of(workspace, handle, DECIDED)
    files = folder / "facts.json", folder.parent / "decision.json"
    with storage_errors(folder, "read"):
        facts, decision = (loads(file.read_bytes(), what=file.name) for file in files)
    found, made = decode(Facts, facts, what="facts.json"), decode(Decision, decision, what="decision.json")
    logged = None if last is None else last.payload["decision"]
    if commit(key_of(workspace, handle), made) != logged or digest_of(found) != made.facts:
        raise IntegrityError(
            "the facts are not those of the decision that was logged", got=handle, hint="expunge rights decide"
        )
    return found


def accepted_at(workspace: Workspace, handle: str) -> datetime:
    """Since when its decisions have been what the last one is: who is decided again does not wait from the beginning."""
    rows = entries_of(workspace, handle, DECIDED)
    same = takewhile(lambda row: row.payload["action"] == rows[-1].payload["action"], reversed(rows))
    return parse_timestamp(str(list(same)[-1].body["time"]))


def counts(workspace: Workspace, policy: RightsPolicy, since: datetime, until: datetime) -> Published:
    """Public counts of the requests that were closed in [since, until)."""
    rows = [entry for entry in workspace.log.entries() if entry.kind == CLOSED]
    rows = [entry for entry in rows if since <= parse_timestamp(str(entry.body["time"])) < until]
    return published([decode(Closed, entry.payload["closed"], what="a closed request") for entry in rows], policy)


def docket(workspace: Workspace, now: datetime) -> list[Standing]:
    """Every request that is not closed, oldest first."""
    handles = [str(entry.case) for entry in workspace.log.entries() if entry.kind == RECEIVED]
    return [found for found in (standing(workspace, handle, now) for handle in handles) if found.state != "closed"]


def standing(workspace: Workspace, handle: str, now: datetime) -> Standing:
    """Where a request stands, as a fold over its entries."""
    entries = workspace.log.case(handle)
    if not entries or entries[0].kind != RECEIVED:
        raise InputError("no such request", got=handle, hint="expunge rights docket")
    last = [entry.kind for entry in entries if entry.kind in STEPS][-1].removeprefix("rights.")
    filters = [] if last == "closed" else _filters(workspace, handle)
    decided = last_of(workspace, handle, DECIDED)
    promised = (decided or entries[0]).payload["due"]
    done = {"acknowledge"} | ({"triage", "decision"} if decided else set()) | ({"mitigation"} if filters else set())
    left = {name: parse_timestamp(str(moment)) for name, moment in promised.items() if name not in done}
    for one in unsettled(workspace, handle)[:1]:
        left["appeal"] = one.due
    left = {} if last == "closed" else left
    return Standing(
        request=handle,
        state=last,
        action=str(decided.payload["action"]) if decided else "",
        due=left,
        overdue=tuple(sorted(name for name, moment in left.items() if moment < now)),
        filters=active(filters, now),
        lapsed=bool(lapsed(filters, frozenset({handle}), now)),
    )


def _claim(letter: Letter, handle: str, received: datetime, key: bytes) -> Claim:
    return Claim(
        id=handle,
        received=received.astimezone(UTC) if received.tzinfo else received,
        claimant=commit(key, folded(letter.claimant)),
        authority=letter.authority,
        works=letter.works,
        names=tuple(commit(key, folded(name)) for name in letter.names),
        jurisdiction=letter.jurisdiction,
        basis=letter.basis,
        remedies=letter.remedies,
    )


def _learned(workspace: Workspace, style: str) -> Learned:
    """What the baseline found on the model in service, whoever asked."""
    finding = ask_first(workspace, style).finding
    if finding.estimate is None or finding.limit is None:
        raise InputError("the baseline gave no share", got=finding.reason[:120])
    return Learned(verdict=finding.verdict, rate=finding.estimate, at_most=finding.limit)


def _pseudonym(workspace: Workspace, reviewer: str) -> str:
    return "reviewer-" + keyed(workspace.secret("reviewer"), folded(reviewer).encode()).hex()[:16]


def _filters(workspace: Workspace, handle: str) -> list[Mitigation]:
    rows = entries_of(workspace, handle, MITIGATED)
    return [decode(Mitigation, entry.payload["mitigation"], what="a mitigation") for entry in rows]


def _appeals(workspace: Workspace, handle: str) -> list[Appeal]:
    rows = entries_of(workspace, handle, APPEALED)
    return [decode(Appeal, entry.payload["appeal"], what="an appeal") for entry in rows]


def unsettled(workspace: Workspace, handle: str) -> list[Appeal]:
    """Appeals that nobody has decided, oldest first."""
    settled = {entry.payload["outcome"]["appeal"] for entry in entries_of(workspace, handle, SETTLED)}
    return [one for one in _appeals(workspace, handle) if one.digest not in settled]
