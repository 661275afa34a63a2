"""What a report shows of a case, as plain JSON; reports render it and decide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from expunge.core import registry
from expunge.core.codec import encode
from expunge.core.selftest import Tally
from expunge.evidence.log_entry import Entry
from expunge.evidence.predicate import NON_CLAIMS, Predicate
from expunge.evidence.sentence import custody_line, sentence_of
from expunge.evidence.verify_steps import TESTED
from expunge.workflow.figures import figure_data
from expunge.workflow.policy import BY_KIND, checks_of
from expunge.workflow.purge import NOT_COVERED, Accepted, Purge
from expunge.workflow.selftest.gate import latest
from expunge.workflow.styles.sheet import kept_sheet

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace


def view(workspace: Workspace, accepted: Accepted, purged: Purge, draft: Predicate) -> Mapping[str, Any]:
    """What a report shows, as plain JSON."""
    names = [root.name for root in workspace.roots().role("operator", "verifier")]
    absent = set(registry.names("checks")) - {finding.check for finding in draft.findings}
    foreign = _of_other_kinds(workspace, absent)
    shown = {
        "kind": workspace.policy.kind,
        "unit": draft.erased.unit,
        "case": draft.case.handle,
        "custody": custody_line(draft, names),
        "sentence": sentence_of(draft),
        "guarantee": draft.guarantee,
        "guarantee_basis": draft.guarantee_basis,
        "issued_at": draft.issued_at,
        "expires_at": draft.expires_at,
        "attempt": draft.attempts,
        "findings": list(draft.findings),
        "skipped": dict.fromkeys(
            sorted(absent - foreign), f"the policy does not ask for it under {draft.guarantee.value}"
        ),
        "other_kinds": len(foreign),
        "demands": {name: demand.value for name, demand in workspace.policy.rules(draft.guarantee).items()},
        "figures": figure_data(workspace),
        "sheet": kept_sheet(workspace, accepted.record.run),
        "bank_n": draft.bank.n if draft.bank else 0,
        "facts": _facts(workspace, accepted, draft),
        "selftest": _selftest(workspace, draft),
        "purged": list(purged.purged),
        "retiring": list(purged.retiring),
        "failed": _failed(accepted),
        "not_covered": [*NOT_COVERED.values(), *purged.not_covered],
        "non_claims": list(NON_CLAIMS),
        "log": [_entry(entry, draft.case.handle) for entry in _cited(workspace, draft)],
    }
    return encode(shown)  # type: ignore[no-any-return]


def _of_other_kinds(workspace: Workspace, checks: set[str]) -> set[str]:
    """Those of the checks that only another kind's policy knows. One that no default policy knows belongs to any kind."""
    known = frozenset().union(*map(checks_of, BY_KIND))
    return checks & known - checks_of(workspace.policy.kind)


def _cited(workspace: Workspace, draft: Predicate) -> list[Entry]:
    """Log entries that the certificate rests on, in order: the data as it was, the self-test, and the case's own."""
    before, entries = encode(draft.data_before), list(workspace.log.entries())
    data = [e for e in entries if e.kind in ("data.ingested", "data.purged") and e.payload.get("data") == before]
    tests = [e for e in entries if e.kind == TESTED and e.payload.get("report") == draft.selftest]
    cited = {entry.index for entry in (*data[:1], *tests[:1], *workspace.log.case(draft.case.handle))}
    return [entry for entry in entries if entry.index in cited]


_DIGESTS = {"plan.committed": "plan", "findings.recorded": "findings"}


def _entry(entry: Entry, handle: str) -> Mapping[str, Any]:
    """What a reader sees of an entry; `own`: it is this case's. Never whose it is otherwise, and none of its ids."""
    digest = entry.payload.get(_DIGESTS.get(entry.kind, ""))
    return {
        "index": entry.index,
        "kind": entry.kind,
        "own": entry.case == handle,
        "time": entry.body["time"],
        "digest": None if digest is None else f"{str(digest)[:19]}…",
    }


def _failed(accepted: Accepted) -> list[str]:
    earlier = accepted.attempt - 1
    if not earlier:
        return []
    return [
        f"{earlier} earlier attempt(s) on these records, each in the log; the tests of this one ran at alpha / 2^{earlier}"
    ]


def _selftest(workspace: Workspace, draft: Predicate) -> Mapping[str, Any]:
    """What the self-test found, in its own words, cheat by cheat and check by check; only a sentence where there is none."""
    found = latest(workspace, before=draft.plan.index)
    if found is None:
        return {"sentence": draft.selftest_reason, "made": "", "cheats": [], "alarms": []}
    report = found.report
    return {
        "sentence": report.sentence,
        "made": f"{report.size}, {encode(report.made_at)[:10]}, {report.pairs} pairs, {report.anchors} anchors, {found.digest}",
        "cheats": [_cheat(tally) for tally in report.tallies],
        "alarms": [{"check": item.check, "source": item.source, "claim": item.claim} for item in report.alarms],
    }


def _cheat(tally: Tally) -> Mapping[str, Any]:
    caught = [f"{check} {count}" for check, count in tally.caught.items()]
    undecided = [f"undecided {tally.undecided}"] if tally.undecided else []
    return {
        "name": tally.saboteur.replace("_", " "),
        "tried": tally.tried,
        "certified": tally.certified,
        "upper": tally.upper,
        "by": tally.skipped or ", ".join([*caught, *undecided]),
    }


def _facts(workspace: Workspace, accepted: Accepted, draft: Predicate) -> dict[str, str]:
    who = {"recommender": "users", "generator": "works"}.get(workspace.policy.kind, "records")
    return {
        "method": f"{draft.method.name} ({draft.method.origin}), {accepted.seconds:.2f} s, "
        f"{accepted.steps_run} of {accepted.steps_total} steps run",
        "full training": "not measured, the original was adopted"
        if accepted.original.adopted
        else f"{accepted.original.seconds:.2f} s measured",
        "model before": draft.models.before,
        "model after": draft.models.after,
        who: f"{draft.data_before.present:,} before, {draft.data_after.present:,} after, {workspace.data.note}",
        "plan": f"{draft.plan.digest}, log entry {draft.plan.index}, before anything ran",
        "policy": draft.policy,
        "legal basis": f"{draft.basis.ground}, received {encode(draft.basis.received)[:10]}",
        "numerics": ", ".join(f"{key} {value}" for key, value in encode(draft.numerics).items() if value is not None),
    }
