"""Step 9 of the walk: destroy what derived from the deleted records, and say what was not reached."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.core.case import State as CaseState
from expunge.core.codec import canonical, digest_of, encode, loads
from expunge.core.errors import EvidenceError, InputError, InputProblems
from expunge.core.request import DeletionRequest
from expunge.evidence.durable import destroy_file, write_file
from expunge.farm.index import DESTROY, RETIRE, Index
from expunge.workflow.artefacts import promised
from expunge.workflow.derived import ANSWERS, PACKAGES, RUNS, SKETCHES, UNFINISHED, derived_from
from expunge.workflow.histories import Cut, cut_of, digests_after, kept_items
from expunge.workflow.intake import all_cases, destroy_cleartext, fold, select
from expunge.workflow.places import drop_copies, keep_traces, kept_traces, put_in_place, traces_of
from expunge.workflow.slots import SlotBook
from expunge.workflow.state import ModelRecord
from expunge.workflow.train import bank_folder, logged_transcript, read_bank, save_bank_slots, seed_digest

if TYPE_CHECKING:
    from expunge.workflow.intake import OpenCase
    from expunge.workflow.workspace import Workspace

TRACES = "traces.json"  # of a case, private
PARTLY = "partly deleted: the rest has to be asked for again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Private: an accepted candidate on its way to a certificate, kept so that a crash in between loses nothing.

    `attempt` names the plan and findings files. `cut`: where events go and the slots stay; `contents` are then the content
    leaves of the histories as they were, by slot.
    """

    slots: tuple[int, ...]
    block: str | None
    split: str
    attempt: int
    method: str
    seconds: float
    steps_run: int
    steps_total: int
    record: ModelRecord
    original: ModelRecord
    cut: Cut | None = None
    contents: tuple[tuple[int, str], ...] = ()

    @property
    def before(self) -> dict[int, str]:
        """Content leaves that were others before, by slot."""
        return dict(self.contents)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """What is gone, what stays until a date, and what expunge cannot reach."""

    purged: tuple[str, ...]
    retiring: tuple[str, ...]
    not_covered: tuple[str, ...]


def purge(workspace: Workspace, case: OpenCase, accepted: Accepted) -> Purge:
    """Put the accepted model in service, remove everything else that was trained on the records, blank the records.

    What derives from them is looked up before anything is touched, and looked for again when it should be gone. Safe
    to run again after a crash: what is already gone is skipped, and what was found at first still counts.
    """
    _release(workspace, case, accepted)
    _close_other_cases(workspace, case, accepted)
    derived = _inventory(workspace, case, accepted)
    _remember_traces(workspace, case, accepted)
    _destroy_other_runs(workspace, accepted.record)
    _blank(workspace, accepted).save(workspace.slots_file)
    workspace.reread()
    _clean_places(workspace, case, accepted)
    _destroy_leftovers(workspace, derived)
    banks = _blank_banks(workspace, accepted.slots)
    _blank_packages(workspace)
    _nothing_left(workspace, accepted)
    kinds = derived.counts()
    counts = {
        "runs": kinds.get(RUNS, 0),
        "files": derived.with_fate(DESTROY).files,
        "unfinished_banks": kinds.get(UNFINISHED, 0),
        "answers": kinds.get(ANSWERS, 0),
        "sketches": kinds.get(SKETCHES, 0),
        "packages": kinds.get(PACKAGES, 0),
        "records": 0 if accepted.cut else len(accepted.slots),
        "histories": len(accepted.slots) if accepted.cut else 0,
    }
    after = workspace.book.data_ref(workspace.config.data.source, accepted.record.absent)
    workspace.log.append("data.purged", {"data": encode(after), "banks": banks, **counts}, case=case.handle)
    return Purge(
        purged=_purged(counts, accepted.cut),
        retiring=(*_retiring(workspace, derived), *promised(workspace, accepted.record.digest)),
        not_covered=_not_reached(workspace, accepted),
    )


def _remember_traces(workspace: Workspace, case: OpenCase, accepted: Accepted) -> None:
    """While the records are still known: what has to be gone from the places outside."""
    if workspace.config.places and not _blanked(workspace, accepted):
        keep_traces(case.private / TRACES, traces_of(workspace, accepted.slots, accepted.cut))


def _clean_places(workspace: Workspace, case: OpenCase, accepted: Accepted) -> None:
    """What lies outside is swapped, and looked at once more. It comes after the slot book, because the source may be one of
    these places; a crash in between leaves the traces, and they say what is still to be done."""
    run, file = workspace.root / accepted.record.run, case.private / TRACES
    if file.exists():
        put_in_place(workspace, run, kept_traces(file))
        os.replace(file, file.with_suffix(".done"))  # in one step: half a list would be none
    drop_copies(run)


def _blanked(workspace: Workspace, accepted: Accepted) -> bool:
    """Is the slot book already without the records, or the events?"""
    if accepted.cut is None:
        return any(workspace.book.ids[slot] is None for slot in accepted.slots)
    return any(workspace.book.leaf(slot)[1] != leaf for slot, leaf in accepted.contents)


def _blank(workspace: Workspace, accepted: Accepted) -> SlotBook:
    """The slot book without the records; or with the shorter histories, and tags of what they keep."""
    if accepted.cut is None:
        return workspace.book.erased(accepted.slots)
    if _blanked(workspace, accepted):
        return workspace.book
    items = [workspace.data.items[column] for column in accepted.cut.items]
    digests = digests_after(workspace, accepted.cut)
    return workspace.book.shortened(digests, kept_items(workspace, accepted.cut), items)


def _inventory(workspace: Workspace, case: OpenCase, accepted: Accepted) -> Index:
    """What derives from the records, kept with the case, because after a crash half of it is already gone."""
    file = case.private / "derived.json"
    before = Index.read(file) if file.exists() else Index()
    derived = derived_from(workspace, accepted.record).of(accepted.slots) | before
    derived.write(file)
    return derived


def _nothing_left(workspace: Workspace, accepted: Accepted) -> None:
    left = derived_from(workspace, accepted.record).of(accepted.slots).with_fate(DESTROY)
    if len(left):
        raise EvidenceError(
            "something that derives from the records is still there, so no certificate is issued",
            got=", ".join(sorted(artefact.path for artefact in left))[:200],
            hint="remove it, and run the case again",
        )


def _release(workspace: Workspace, case: OpenCase, accepted: Accepted) -> None:
    """The served model changes only from the original that was planned for, to the candidate that was checked. Where both
    are the same weights, it is the new run that stays, and what is known of it is that it was made without the records."""
    served = workspace.state().model
    if served == accepted.record.digest and released_by(workspace, case):
        return
    if served != accepted.original.digest:
        raise EvidenceError(
            "another model has been released since this candidate was checked",
            expected=accepted.original.digest,
            got=served,
            hint="file the request again",
        )
    workspace.remember_model(accepted.record)
    payload = {
        "model": accepted.record.digest,
        "replaces": accepted.original.digest,
        "transcript": logged_transcript(workspace.root / accepted.record.run),
        "seed": seed_digest(accepted.record.seed),
    }
    workspace.log.append("model.released", payload, case=case.handle)


def released_by(workspace: Workspace, case: OpenCase) -> bool:
    """Whether the case has put its model into service."""
    return any(entry.kind == "model.released" for entry in workspace.log.case(case.handle))


def _close_other_cases(workspace: Workspace, case: OpenCase, accepted: Accepted) -> None:
    """Other cases about these records: their cleartext names what is now erased, so it goes, and open ones are answered."""
    if _blanked(workspace, accepted):
        return  # after a crash: it was done before the book was written
    for other in all_cases(workspace):
        if other.handle == case.handle or not (other.private / "request.json").exists():
            continue
        left = _left_of(workspace, other.request(), accepted)
        if left is None:
            continue
        if fold(workspace, other).state in (CaseState.RECEIVED, CaseState.RESOLVED, CaseState.DECIDED):
            workspace.log.append("request.refused", {"reason": left or "already deleted"}, case=other.handle)
        destroy_cleartext(other)


def _left_of(workspace: Workspace, other: DeletionRequest, accepted: Accepted) -> str | None:
    """Of another request that ends with this deletion, what it leaves to be asked for again: "" for nothing. None: it goes on.

    A whole user is not answered by the deletion of some events, nor an item by that of one of its users. But where
    something that the request names has nothing left, it cannot be carried out as it stands, and would never be.
    """
    gone, cut = frozenset(accepted.slots), accepted.cut
    if other.style is not None:
        return None  # whether the new model draws the style is a question of its own
    if other.events is None:
        return "" if cut is None and not gone.isdisjoint(select(workspace, other)) else None
    try:
        events = cut_of(workspace, other.events).events
    except InputProblems:
        return PARTLY  # it was overtaken before
    except InputError:
        return None  # it will be answered when it is run
    taken = frozenset(cut.events) if cut is not None else frozenset(event for event in events if event[0] in gone)
    left = {_named_by(other, event) for event in events if event not in taken}
    if not left:
        return ""
    return PARTLY if {_named_by(other, event) for event in events} - left else None


def _named_by(request: DeletionRequest, event: tuple[int, int]) -> object:
    """What of the request an event is there for: itself, its user in a time window, or its item."""
    return {"window": event[0], "item": event[1]}.get(request.unit, event)


def _destroy_other_runs(workspace: Workspace, released: ModelRecord) -> None:
    """Every run but the released one: the original, candidates that were not accepted, and what a crash left behind."""
    kept = workspace.root / released.run
    for folder in sorted((workspace.root / "store" / "runs").iterdir()):
        if folder != kept:
            _destroy(folder)
    mine = f"{released.digest.removeprefix('sha256:')}.json"
    for record in (workspace.root / "store" / "models").glob("*.json"):
        if record.name != mine:
            destroy_file(record)


def _destroy_leftovers(workspace: Workspace, derived: Index) -> None:
    """Unfinished banks, and answers about the records that an interrupted judgement left."""
    for artefact in derived.with_fate(DESTROY):
        if artefact.kind != RUNS:
            _destroy(workspace.root / artefact.path)


def _blank_banks(workspace: Workspace, slots: tuple[int, ...]) -> dict[str, str]:
    """Blank the records in every bank that is still there; returns the digest of its answers as they are now."""
    blanked = {}
    for record in workspace.state().banks:
        if (bank_folder(workspace, record.digest) / "spec.json").exists():
            bank = read_bank(workspace, record.digest, whole=False)
            save_bank_slots(workspace, bank.folder)
            bank.forget(slots)
            blanked[record.digest] = digest_of(bank.sketch_digests())
    return blanked


def _blank_packages(workspace: Workspace) -> None:
    """Recompute packages of earlier cases list what was retained then: the records erased since are blanked, and of histories
    that were shortened since only what is retained now is listed."""
    for package in sorted((workspace.root / "cases").glob("*/recompute.json")):
        plain = loads(package.read_bytes(), what="recompute package")
        now = workspace.book.ids
        plain["ids"] = [name if now[slot] is not None else None for slot, name in enumerate(plain["ids"])]
        plain["blocks"] = [block if now[slot] is not None else "" for slot, block in enumerate(plain["blocks"])]
        plain["cuts"] = workspace.book.cuts.to_json()  # an older list less a newer one would be the list of the deleted
        write_file(package, canonical(plain), mode=0o600)


def _destroy(folder: Path) -> None:
    for file in sorted(folder.rglob("*")) if folder.exists() else ():
        if file.is_file():
            destroy_file(file)
    shutil.rmtree(folder, ignore_errors=True)


def _purged(counts: Mapping[str, int], cut: Cut | None) -> tuple[str, ...]:
    """What is gone, as the certificate says it: counts by kind from the index, never a slot or a path."""
    lines = [
        f"weights, checkpoints and transcripts of {_many(counts['runs'], 'run')} trained on the records, the original "
        "among them",
        f"ids and content digests of {_many(counts['records'], 'record')} in the slot book",
    ]
    if cut is not None:
        stays = (
            "keyed tombstones of the items"
            if cut.items
            else "keyed tags of what is retained, and of nothing that went,"
        )
        kept = "the content digest of a history" if counts["histories"] == 1 else "content digests of histories"
        lines[1] = f"{kept} as it was, in the slot book; {stays} stay there"
    if counts["sketches"]:
        lines.append(f"answers about the records in {counts['sketches']} score sketches of the bank")
    if counts["unfinished_banks"]:
        lines.append(f"{counts['unfinished_banks']} unfinished banks")
    if counts["answers"]:
        lines.append(f"{counts['answers']} sets of answers of models that were trained on the records")
    return (*lines, f"{counts['files']} files in all, overwritten and removed")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _retiring(workspace: Workspace, derived: Index) -> tuple[str, ...]:
    """Banks that judge until their window ends, with how many of their models derive from the records."""
    lines = []
    for bank in workspace.state().banks:
        folder = str(bank_folder(workspace, bank.digest).relative_to(workspace.root))
        saw = derived.with_fate(RETIRE).under(folder).counts()
        lines.append(
            f"bank {bank.digest[:19]}…: {saw.get('bank models', 0)} of {bank.n} models and {saw.get('anchors', 0)} of "
            f"{bank.anchors} anchors were trained on the records: to be destroyed by {bank.destroy_by}"
        )
    return tuple(lines)


NOT_COVERED = {
    "recipients": "recipients of the records or of the original model (GDPR Art. 19): not covered",
    "backups": "backups, snapshots, and blocks a solid-state disk has not yet overwritten: not covered",
    "released_copies": "copies of the original model that were released or exported: not covered",
    "derived_models": "models derived from the original (distilled, fine-tuned, merged): not covered",
}


def _not_reached(workspace: Workspace, accepted: Accepted) -> tuple[str, ...]:
    cut = accepted.cut
    if cut is None:
        return (_SOURCE, *([_ELSEWHERE] if accepted.record.adopted else []))
    hidden = cut.unit == "window" and workspace.config.data.options.get("duplicates") == "last"
    return (_SOURCE, _WHOLE_USERS, *([_COLUMN] if cut.items else []), *([_HIDDEN] if hidden else []))


_ELSEWHERE = (
    "what the model was trained on: it was trained elsewhere, and nobody here saw its data or the log of its training; a "
    "retraining without the works was not available, so its weights were edited"
)
_WHOLE_USERS = "cheats on single events: the self-test tries its cheats on whole users"
_HIDDEN = (
    "rows of the time window that the source keeps beside a later row of the same user and item: they were never trained on, "
    "and stay in places of events when the later row lies outside the window"
)

_COLUMN = "the item's id in the private vocabulary, which is frozen: its column stays, empty"
_SOURCE = "the data source outside the workspace: not covered; the owner has to remove the records there"
