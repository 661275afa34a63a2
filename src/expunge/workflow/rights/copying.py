"""Does the model give the works back? Works that were found in the data are asked for by the captions that trained.

What was asked is in the log before its seed, which follows from the log up to it; a question that was killed is answered before
any other. Counts of all questions to one model add up, so that nobody asks until nothing comes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.core.codec import canonical, encode
from expunge.core.errors import InputError
from expunge.core.finding import Verdict
from expunge.data._pictures import Pictures
from expunge.evidence.commitment import commit, keyed
from expunge.evidence.durable import write_file
from expunge.training.text_to_image.sampler import Sampling
from expunge.workflow.rights.facts import Copies
from expunge.workflow.rights.requests import entries_of, key_of, private, require_open
from expunge.workflow.rights.searching import WorkFound, best, findings
from expunge.workflow.styles.evidence import drawing
from expunge.workflow.styles.extraction import Claim, Extraction, extract

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.workspace import Workspace

ASKED, TOLD = "rights.copies_asked", "rights.copies_told"
WORKS, PICTURES = 20, 100
"""Of the works that were found so many are asked for, and so often each, where nobody says otherwise."""
_REFERENCE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What the model gave back. `asked`: records that were asked for, of so many that were `found`; `same_manner`: were the works
    that no training saw by the same artists? `entry`: the answer's number in the log."""

    extraction: Extraction
    asked: int
    found: int
    same_manner: bool
    steps: int
    guidance: str
    model: str
    entry: int


def extract_works(workspace: Workspace, handle: str, *, works: int = WORKS, pictures: int = PICTURES) -> Extracted:
    """Ask the model in service for the works of a request that a search found, and log what came.

    Raises InputError where no search found any, or where no work is held out: what nobody was trained on has to come out as no
    copy, or nothing is said. Cost: (works + as many held-out ones) x pictures of sampling.
    """
    require_open(workspace, handle)
    if not (1 <= works <= 1000 and 1 <= pictures <= 100_000):
        raise InputError(
            "counts out of range", expected="works 1..1000, pictures 1..100000", got=f"{works}, {pictures}"
        )
    found = best(workspace, handle)
    if found is None or not found[1].present:
        raise InputError(
            "no work of this request was found in the training data, so no caption of one is there to ask with",
            hint="expunge rights search REQUEST FOLDER",
        )
    searched = findings(workspace, handle, found[0])
    _materials(workspace, searched, works, "")  # before anything is logged
    for killed in _unanswered(workspace, handle):
        _answer(workspace, handle, killed)
    table = workspace.config.styles
    asked = {
        "model": workspace.served().digest,
        "search": found[0].index,
        "works": works,
        "pictures": pictures,
        "steps": table.steps,
        "guidance": str(table.guidance),
    }
    entry = workspace.log.append(ASKED, asked, case=handle)
    workspace.log.checkpoint()
    return _answer(workspace, handle, entry)


def _unanswered(workspace: Workspace, handle: str) -> list[Entry]:
    """Questions to the model in service that were killed before they told: whoever sees copies coming and kills it has asked."""
    told = {entry.payload["asked"] for entry in entries_of(workspace, handle, TOLD)}
    rows = [entry for entry in entries_of(workspace, handle, ASKED) if entry.index not in told]
    return [entry for entry in rows if entry.payload["model"] == workspace.served().digest]


def _answer(workspace: Workspace, handle: str, asked: Entry) -> Extracted:
    """Draw and log. The seed is the same whenever it is answered."""
    searched = findings(workspace, handle, workspace.log.entry(int(asked.payload["search"])))
    seed = keyed(workspace.secret("copies"), workspace.log.root(asked.index + 1)).hex()[:32]
    said, served = asked.payload, workspace.served()
    claim, present, same = _materials(workspace, searched, int(asked.payload["works"]), seed)
    model = drawing(workspace, workspace.root / served.run / "model.safetensors")
    how = Sampling(seed=seed, steps=int(said["steps"]), guidance=float(said["guidance"]))
    pictures = int(asked.payload["pictures"])
    found = extract(model, claim, how, pictures=pictures, progress=workspace.progress)
    plain = {"extraction": encode(found), "records": list(claim.claimed.ids)}
    digest = commit(key_of(workspace, handle), plain)
    write_file(private(workspace, handle) / f"copies-{digest[-16:]}.json", canonical(plain), mode=0o600)
    counts: dict[str, Any] = {
        "verdict": found.verdict,
        "copies": found.copies,
        "pictures": found.pictures,
        "control_copies": found.control_copies,
        "control_pictures": found.control_pictures,
        "works": len(claim.claimed),
        "found": present,
        "same_manner": same,
    }
    payload = {"asked": asked.index, "model": served.digest, "answer": digest, **counts}
    entry = workspace.log.append(TOLD, payload, case=handle)
    workspace.log.checkpoint()
    return Extracted(
        extraction=found,
        asked=len(claim.claimed),
        found=present,
        same_manner=same,
        steps=int(said["steps"]),
        guidance=said["guidance"],
        model=served.digest,
        entry=entry.index,
    )


def _materials(workspace: Workspace, searched: tuple[WorkFound, ...], works: int, seed: str) -> tuple[Claim, int, bool]:
    """The works to ask for, drawn by the seed where there are more; held-out works, of the same artists where there are any; and
    others to compare with. How many were found, and whether the held-out ones are by the same artists."""
    train, test, book = workspace.data.train, workspace.data.test, workspace.book
    names = frozenset().union(*(one.records for one in searched))
    slots = [slot for slot, name in enumerate(book.ids) if name in names]
    drawn = sorted(slots, key=lambda slot: keyed(b"draw", f"{seed}|{slot}".encode()))[:works]
    claimed = train.only(sorted(drawn))
    alike = {name for one in searched for name in one.held_out}
    seen = {train.images[slot].tobytes() for slot in slots}
    free = [row for row, name in enumerate(test.ids) if name not in alike and test.images[row].tobytes() not in seen]
    artists = {train.styles[slot] for slot in slots} - {""}
    mine = [row for row in free if test.styles[row] in artists]
    unseen = (mine or free)[: len(claimed)]
    reference = _others(train, test, [row for row in free if row not in unseen], _not_claimed(book.ids, slots), seen)
    if not unseen or not len(reference):
        raise InputError(
            "no works are held out of the training, so nothing shows what is no copy",
            expected="a test split with works that nothing was trained on",
        )
    return Claim(claimed=claimed, unseen=test.only(unseen), reference=reference), len(slots), bool(mine)


def _not_claimed(ids: Any, slots: Collection[int]) -> list[int]:
    mine = frozenset(slots)
    return [slot for slot, name in enumerate(ids) if name is not None and slot not in mine]


def _others(train: Pictures, test: Pictures, rows: list[int], slots: list[int], seen: Collection[bytes]) -> Pictures:
    """Held-out works first, then works of the training that nobody claims here."""
    held = test.only(rows[:_REFERENCE])
    left = [slot for slot in slots if train.images[slot].tobytes() not in seen][: _REFERENCE - len(held)]
    more = train.only(left)
    texts = {
        name: (*getattr(held, name), *getattr(more, name))
        for name in ("ids", "captions", "styles", "objects", "blocks")
    }
    return Pictures(images=np.concatenate([held.images, more.images]), **texts)


def copies_of(workspace: Workspace, handle: str) -> tuple[list[Entry], Copies | None]:
    """All answers of the model in service about this request, and the fact that follows; None where they decide nothing.

    Copies in one answer are copies, whatever the others say. What is counted as none is only what came of answers that would have
    seen a copy; and where works that no training saw pass for copies, nothing is said.
    """
    state = workspace.state()
    rows = [entry for entry in entries_of(workspace, handle, TOLD) if entry.payload["model"] == state.model]
    failed = [entry for entry in rows if entry.payload["verdict"] == Verdict.FAIL.value]
    if not failed and any(entry.payload["control_copies"] for entry in rows):
        return rows, None
    counted = [entry for entry in rows if entry.payload["verdict"] != Verdict.UNVERIFIABLE.value]
    if not counted:
        return rows, None
    found = sum(int(entry.payload["copies"]) for entry in failed)
    draws = sum(int(entry.payload["pictures"]) for entry in counted)
    return rows, Copies(found=found, draws=draws, entry=(failed or counted)[-1].index)


def words_of(found: Extracted) -> list[str]:
    """Line by line, with what it does not reach."""
    said = found.extraction
    whose = "by the same artists" if found.same_manner else "by other artists, because none by these is held out"
    each = said.pictures // max(1, found.asked)
    reason = f", because {said.reason}" if said.reason else ""
    return [
        f"Entry {found.entry} of the log: {said.verdict.value}{reason}.",
        f"{found.asked} of the {found.found} training records that are the works were asked for by the captions that trained, "
        f"{each} times each: {said.copies} of {said.pictures} pictures are near-copies, so at most {said.at_most:.2%} (95 %).",
        f"Asked alike, {said.control_copies} of {said.control_pictures} pictures are near-copies of works that no training saw "
        f"({whose}).",
        f"Shown with a little noise, {said.planted:.0%} of the works themselves are recognised.",
        f"Model {found.model[:23]}…, {found.steps} steps, guidance {found.guidance}.",
        "Distance: Carlini et al. 2023, arXiv 2301.13188, sections 4.2 and 5.1.",
        "Pictures are held against the training records that were found; whether one found by likeness is the claimant's "
        "work is for a person.",
        "A copy that is mirrored, cut or recoloured is none to this distance, and other prompts than captions were not tried: "
        "no copy seen is no proof that none can be drawn.",
    ]
