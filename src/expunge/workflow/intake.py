"""Step 1 and 2 of the walk: log the request, give the requester a receipt, resolve it to exact slots."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.core.case import CLOSED, Case
from expunge.core.case import State as CaseState
from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.errors import InputError, InputProblems
from expunge.core.refs import ForgetSplit
from expunge.core.request import DeletionRequest, EventSelector, Selector, Unit
from expunge.evidence.commitment import KeyFile, commit, keyed, open_commitment
from expunge.evidence.durable import destroy_file, write_file
from expunge.workflow.histories import Cut, check_supported, cut_of, digests_after, named_pairs
from expunge.workflow.linkage import log_links

if TYPE_CHECKING:
    from expunge.workflow.workspace import Workspace

ANSWER_DAYS = 30  # GDPR Art. 12(3): one month; extensions are for the controller to decide and log


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCase:
    """A case on disk. `handle` is a keyed pseudonym; `folder`/private holds what must be destroyed at closing."""

    handle: str
    folder: Path

    @property
    def private(self) -> Path:
        """0700 folder with cleartext, keys and sealed scores of this case."""
        return self.folder / "private"

    @property
    def receipt(self) -> Path:
        """What the requester keeps: checkpoint, inclusion proof and the opening of the commitment."""
        return self.folder / "receipt.json"

    @property
    def bundle(self) -> Path:
        """The certificate, once there is one."""
        return self.folder / "certificate.zip"

    @property
    def statement(self) -> Path:
        """That a style was not learned, where that is the answer."""
        return self.folder / "not-learned.json"

    def key(self) -> bytes:
        """The commitment key of this case."""
        return KeyFile(path=self.private / "case.key").read()

    def request(self) -> DeletionRequest:
        """The request in clear; gone once the case is closed."""
        return decode(DeletionRequest, self.committed(), what="request.json")

    def committed(self) -> Any:
        """The very JSON that the log holds a commitment to, whichever release wrote it."""
        return loads((self.private / "request.json").read_bytes(), what="request.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """A request as exact slots. `copies` are slots outside it with the same content: listed, never deleted by closure.
    `test_copies` are rows of the test split with the same content: nothing is trained on them, so they hold no case.

    `blocks` are those of the slots, sorted; `block` is the only one, None where there are several.

    `commitment` is the keyed commitment to the split; `subjects` are the records' keyed handles under which attempts are
    counted, so that a re-filed or overlapping request starts no new count. `cut`: where events go and the slots stay.
    """

    slots: tuple[int, ...]
    ids: tuple[str, ...]
    block: str | None
    copies: tuple[int, ...]
    commitment: str
    subjects: tuple[str, ...]
    test_copies: tuple[int, ...] = ()
    cut: Cut | None = None
    blocks: tuple[str, ...] = ()

    @property
    def unit(self) -> Unit:
        """What is deleted."""
        return "records" if self.cut is None else self.cut.unit


def receive(
    workspace: Workspace,
    *,
    ids: Sequence[str] = (),
    block: str | Sequence[str] | None = None,
    style: str | None = None,
    events: EventSelector | None = None,
    subject: str = "",
    basis: str = "",
) -> OpenCase:
    """Check a request completely, log its commitment, and write the receipt. A bad request logs nothing."""
    blocks = [block] if isinstance(block, str) and block else list(block or ())
    selectors = tuple(
        Selector(kind=kind, values=tuple(values))
        for kind, values in (("id", ids), ("block", blocks), ("style", [style] if style else []))
        if values
    )
    received = datetime.now(UTC)
    request = DeletionRequest(
        id=f"r-{secrets.token_hex(8)}",
        received=received,
        subject=subject or "the person named in the controller's request file",
        selectors=selectors,
        models=("served",),
        due=received + timedelta(days=ANSWER_DAYS),
        events=events,
        **({"basis": basis} if basis else {}),
    )
    if request.events is not None:
        check_supported(workspace, request.events)
    if request.style is not None:
        _check_style(workspace, request.style)
    select(workspace, request)
    workspace.served()
    handle = "case-" + keyed(workspace.secret("case"), request.id.encode()).hex()[:16]
    case = OpenCase(handle=handle, folder=workspace.root / "cases" / handle)
    case.private.mkdir(parents=True, mode=0o700)
    KeyFile.create(case.private / "case.key")
    write_file(case.private / "request.json", canonical(encode(request)), mode=0o600)
    payload = {"request": commit(case.key(), request), "due": encode(request.due), "basis": request.basis}
    workspace.log.append("request.received", payload, case=handle)
    write_receipt(workspace, case)
    return case


def _check_style(workspace: Workspace, style: str) -> None:
    """Somebody can be asked for under this name. Raises InputError; of a name that nobody here knows, with where it was looked
    for."""
    from expunge.workflow.styles.baseline import unstated

    why = unstated(workspace, style)
    if why:
        raise InputError("the style cannot be asked for", got=why, hint="works are asked for with --block or --id")


def _style_opening(workspace: Workspace, style: str) -> Any:
    """Whoever asks about a style can tell its handle in the log, and so that it was theirs that was asked about."""
    from expunge.workflow.styles.material import style_opening

    return encode(style_opening(workspace, style))


def received_index(workspace: Workspace, case: OpenCase) -> int:
    """Where the request stands in the log."""
    return next(entry.index for entry in workspace.log.case(case.handle) if entry.kind == "request.received")


def write_receipt(workspace: Workspace, case: OpenCase) -> None:
    """Checkpoint, inclusion proof and openings for the requester; written again when a crash lost it.

    Of a history that becomes shorter also the opening of what is left, so that its user can work out both. Whoever asks
    for an item gets nobody's history.
    """
    request, index = case.request(), received_index(workspace, case)
    checkpoint = workspace.log.checkpoint()
    receipt = {
        "case": case.handle,
        "checkpoint": checkpoint,
        "inclusion": encode(workspace.log.prove_inclusion(index)),
        "opening": encode(open_commitment(case.key(), case.committed())),
        **({} if request.style is None else {"style": _style_opening(workspace, request.style)}),
        **_openings(workspace, request),
    }
    write_file(case.receipt, canonical(receipt), mode=0o600)


def stale_receipt(workspace: Workspace, case: OpenCase) -> bool:
    """Does it open a history that another deletion has changed since?"""
    receipt, now = loads(case.receipt.read_bytes(), what="receipt"), _openings(workspace, case.request())
    return any(receipt.get(name, []) != found for name, found in now.items())


def _openings(workspace: Workspace, request: DeletionRequest) -> dict[str, Any]:
    """Of the records that the requester may open, and of what is left of histories that become shorter."""
    book = workspace.book
    if request.events is None:
        return {"records": [encode(book.opening(slot)) for slot in select(workspace, request)], "remains": []}
    cut = cut_of(workspace, request.events)
    left = {} if cut.unit == "item" else digests_after(workspace, cut)
    return {
        "records": [encode(book.opening(slot)) for slot in left],
        "remains": [encode(book.opening_as(slot, digest)) for slot, digest in left.items()],
    }


def select(workspace: Workspace, request: DeletionRequest) -> list[int]:
    """Slots a request names, or whose events it names. Unknown, repeated and already deleted ones are refused together."""
    if request.events is not None:
        return list(cut_of(workspace, request.events).slots)
    slots: list[int] = []
    for selector in request.selectors:
        if selector.kind == "id":
            slots += workspace.book.slots_of(selector.values, frozenset(workspace.data.test.ids))
        elif selector.kind == "style":
            slots += works_of(workspace, selector.values[0])
        else:
            slots += [slot for block in selector.values for slot in workspace.book.in_block(block)]
    repeated = sorted(slot for slot, times in Counter(slots).items() if times > 1)
    if repeated:
        raise InputProblems("the request names records twice", [workspace.book.ids[slot] or "?" for slot in repeated])
    return sorted(slots)


def works_of(workspace: Workspace, style: str) -> list[int]:
    """Present slots that are listed under an artist; of one of whom the data has nothing, none."""
    book = workspace.book
    return [slot for slot, name in enumerate(book.blocks) if name == style and book.ids[slot] is not None]


def find_case(workspace: Workspace, handle: str | None = None) -> OpenCase:
    """A case by handle, or the newest open one."""
    handles = workspace.state().cases
    if handle is None:
        opened = [name for name in handles if not closed(workspace, _case_at(workspace, name))]
        if not opened:
            raise InputError("there is no open case", hint="expunge request --id ID")
        handle = opened[-1]
    if handle not in handles:
        raise InputError("no such case", expected=", ".join(handles[-5:]) or "none yet", got=handle)
    return _case_at(workspace, handle)


def _case_at(workspace: Workspace, handle: str) -> OpenCase:
    return OpenCase(handle=handle, folder=workspace.root / "cases" / handle)


def all_cases(workspace: Workspace) -> list[OpenCase]:
    """Every case in the log, oldest first."""
    return [_case_at(workspace, handle) for handle in workspace.state().cases]


def closed(workspace: Workspace, case: OpenCase) -> bool:
    """Nothing is left to do: refused, not erased, or certified with its bundle written and its cleartext gone."""
    state = fold(workspace, case).state
    if state is CaseState.CERTIFIED:
        return case.bundle.exists() and not _cleartext(case)
    if state is CaseState.NOT_LEARNED:
        return case.statement.exists() and not _cleartext(case)
    return state in CLOSED


def _cleartext(case: OpenCase) -> bool:
    return case.private.exists() and any(case.private.iterdir())


def destroy_cleartext(case: OpenCase) -> None:
    """Destroy the private folder's files and reduce the owner's copy of the receipt to what proves the intake."""
    for secret in sorted(case.private.iterdir()) if case.private.exists() else ():
        destroy_file(secret)
    if case.receipt.exists():
        receipt = loads(case.receipt.read_bytes(), what="receipt")
        kept = {name: receipt[name] for name in ("case", "checkpoint", "inclusion")}
        write_file(case.receipt, canonical(kept), mode=0o600)


def fold(workspace: Workspace, case: OpenCase) -> Case:
    """The case as its log entries leave it."""
    return Case.fold(case.handle, ((entry.index, entry.body) for entry in workspace.log.case(case.handle)))


def resolve(workspace: Workspace, case: OpenCase) -> Resolution:
    """Exact slots, their split of the data, and copies of the same content elsewhere. Logs nothing."""
    request = case.request()
    if request.events is not None:
        if not fold(workspace, case).accepted:
            check_supported(workspace, request.events)  # once more: places may have been declared since
        return _resolve_events(workspace, case, cut_of(workspace, request.events))
    slots = select(workspace, request)
    book = workspace.book
    ids = tuple(str(book.ids[slot]) for slot in slots)
    reference = book.data_ref(workspace.config.data.source)
    split = ForgetSplit(
        data=reference,
        forget=frozenset(ids),
        retain=frozenset(str(name) for name in book.ids if name is not None) - frozenset(ids),
        holdout=frozenset(workspace.data.test.ids),
    )
    blocks = {workspace.data.train.blocks[slot] for slot in slots}
    secret = workspace.secret("subject")
    subjects = tuple(keyed(secret, str(slot).encode()).hex()[:24] for slot in slots)
    return Resolution(
        slots=tuple(slots),
        ids=ids,
        block=next(iter(blocks)) if len(blocks) == 1 else None,
        copies=tuple(_copies(workspace, slots)),
        commitment=commit(case.key(), {"forget": sorted(split.forget), "data": encode(reference)}),
        subjects=subjects,
        test_copies=tuple(_test_copies(workspace, slots)),
        blocks=tuple(sorted(blocks)),
    )


def _resolve_events(workspace: Workspace, case: OpenCase, cut: Cut) -> Resolution:
    """The same for events. Other people's histories hold the deleted item rightly until they are cut with it, so only a
    user's own events are looked for elsewhere."""
    book, slots, mine = workspace.book, list(cut.slots), cut.unit != "item"
    named = [[str(book.ids[slot]), item] for slot, item in named_pairs(workspace, cut)]
    blocks = {workspace.data.train.blocks[slot] for slot in slots}
    reference = book.data_ref(workspace.config.data.source)
    return Resolution(
        slots=cut.slots,
        ids=tuple(str(book.ids[slot]) for slot in slots),
        block=next(iter(blocks)) if len(blocks) == 1 else None,
        copies=tuple(_copies(workspace, slots)) if mine else (),
        commitment=commit(case.key(), {"unit": cut.unit, "events": named, "data": encode(reference)}),
        subjects=_handles(workspace, case.request(), cut),
        test_copies=tuple(_test_copies(workspace, slots)) if mine else (),
        cut=cut,
    )


def _handles(workspace: Workspace, request: DeletionRequest, cut: Cut) -> tuple[str, ...]:
    """One handle an event; of a time window filled up to a power of two, because their number is the length of a part of
    somebody's history. The handles of nothing are the same when the window is asked for again: what two plans have in
    common would be the real ones."""
    secret = workspace.secret("subject")
    names = [f"{slot}|{column}" for slot, column in cut.events]
    more = 2 ** (len(names) - 1).bit_length() - len(names) if cut.unit == "window" else 0
    if more and request.events is not None:
        window = f"{cut.slots}|{request.events.since}|{request.events.until}"
        names += [f"{window}|{number}" for number in range(more)]
    return tuple(sorted(keyed(secret, name.encode()).hex()[:24] for name in names))


def _copies(workspace: Workspace, slots: list[int]) -> list[int]:
    """Present slots outside the request with the very same content, whatever their id or label."""
    train, mine = workspace.data.train, frozenset(slots)
    wanted = {train.content(slot) for slot in slots}
    return [
        slot
        for slot, name in enumerate(workspace.book.ids)
        if name is not None and slot not in mine and train.content(slot) in wanted
    ]


def _test_copies(workspace: Workspace, slots: list[int]) -> list[int]:
    """Rows of the test split with the very same content as a record of the request."""
    train, test = workspace.data.train, workspace.data.test
    wanted = {train.content(slot) for slot in slots}
    return [row for row in range(len(test)) if test.content(row) in wanted]


def log_resolution(workspace: Workspace, case: OpenCase, resolution: Resolution) -> Any:
    """Search near-duplicates, and log what the request was resolved to: commitments and counts."""
    payload = {
        "unit": resolution.unit,
        "split": resolution.commitment,
        "forget": len(resolution.slots),
        "copies_outside_request": len(resolution.copies),
        "copies_in_test": len(resolution.test_copies),
        **log_links(workspace, case, resolution),
        "data": encode(workspace.book.data_ref(workspace.config.data.source)),
    }
    return workspace.log.append("request.resolved", payload, case=case.handle)
