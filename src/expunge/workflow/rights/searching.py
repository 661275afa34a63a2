"""Were the works in the training data? A claimant's files against the manifest: by file, by pixels, by what still looks alike.

Searched are the records of this workspace as its model reads them, and what the slot book still knows of those that were
erased. The log has counts and a commitment; names of files and records lie in the request's private folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from expunge.core import registry
from expunge.core.codec import canonical, decode, digest_of, encode, loads
from expunge.core.errors import InputError, InputProblems, IntegrityError
from expunge.data._near import Wanted, indexed, matches, unit, wanted
from expunge.data._picture_files import plain_bytes, shown, squares, uploaded
from expunge.data._pictures import Pictures, picture_digest
from expunge.evidence.commitment import commit, keyed
from expunge.evidence.durable import storage_errors, write_file
from expunge.farm.opened import open_data
from expunge.training.judging.embedding import open_embedding
from expunge.workflow.linkage import Searcher, cosine_beyond, planted_recall
from expunge.workflow.rights.facts import Works
from expunge.workflow.rights.requests import claim_of, entries_of, key_of, private, require_open

if TYPE_CHECKING:
    from expunge.evidence.log_entry import Entry
    from expunge.workflow.rights.policy import RightsPolicy
    from expunge.workflow.workspace import Workspace

SEARCHED = "rights.searched"
COINCIDENCES = 100
"""Held-out works that are looked up too: how often a work that nothing was trained on is linked with a record."""
MOST_TRIED = 5_000_000
"""Captions times works: the manifest's digest of a picture is of its caption too, so every caption is tried with every work."""
EMBEDDING, EMBEDDING_RATE = "embedding", 1e-4
_Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFound:
    """One work, by the hex SHA-256 of its file, and the records it was found as: `file` has the same bytes, `pixels` the same
    pixels once the loader has cut and scaled it, or as the manifest committed to them, `near` looks the same; `erased`: places
    that held it and are empty now; `held_out`: records of the test split, on which nothing is trained. Private: names."""

    work: str
    file: tuple[str, ...]
    pixels: tuple[str, ...]
    near: tuple[str, ...]
    erased: tuple[int, ...]
    held_out: tuple[str, ...]

    @property
    def records(self) -> frozenset[str]:
        """Every training record that is there and is this work."""
        return frozenset((*self.file, *self.pixels, *self.near))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the log has of a search. Of `listed` works `brought` were handed in; so many of them were found by file, by pixels,
    and by nothing but their likeness (`near`), were found in emptied places only (`erased`), or not at all (`missed`).

    present: training records that are one of the works; beside: records of the artists they stand under, these included;
    searched, of `records` that are there; by: the searches; planted: (found, of so many) altered copies of the works that the
    same search was shown; coincidences: (linked, of so many) works that nothing was trained on; data: digest of the data.
    """

    listed: int
    brought: int
    file: int
    pixels: int
    near: int
    erased: int
    missed: int
    held_out: int
    present: int
    beside: int
    searched: int
    records: int
    places_erased: int
    by: tuple[str, ...]
    planted: tuple[int, int]
    coincidences: tuple[int, int]
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """`counts` for everybody, `works` for whoever has the request's folder; `entry`: its number in the log."""

    counts: Counts
    works: tuple[WorkFound, ...]
    entry: int


@dataclass(frozen=True, kw_only=True)
class _Data:
    """What is searched: the training records by pixels and by file, the index, and captions that go with a picture in the
    manifest, None where they are too many to try."""

    train: Pictures
    there: tuple[int, ...]
    by_pixels: Mapping[bytes, tuple[str, ...]]
    by_file: Mapping[str, str] | None
    captions: frozenset[str] | None
    searcher: Searcher


def search(
    workspace: Workspace, handle: str, folder: Path, policy: RightsPolicy, *, embedder: Path | None = None
) -> Search:
    """Look up every file of a folder, log the counts, and keep the findings privately. Every file has to be a listed work of the
    request, so that nobody searches for something else and reports that nothing was found.

    Raises InputProblems with all that is wrong with the folder, DataError on what is no picture; nothing is logged then. Cost:
    one pass over the index for each work and each of its 75 mirrored, shifted and cut views.
    """
    require_open(workspace, handle)
    if not isinstance(workspace.data.train, Pictures):
        raise InputError("only captioned pictures are searched for works", got=workspace.policy.kind)
    if workspace.state().model is not None and workspace.served().adopted:
        raise InputError(
            "nobody here has what the adopted model was trained on, so no search of it says what was in it",
            hint="leave the works open in the facts: a person decides",
        )
    claim = claim_of(workspace, handle)
    files = _listed(uploaded(folder, policy.intake.works), claim.works)
    data = _searched(workspace, len(files), embedder)
    found, middles, ones = [], [], {}
    for number, (digest, file) in enumerate(files.items()):
        views = squares(plain_bytes(file), file.name, data.train.images.shape[1])
        looks = [wanted(view, data.searcher.embed) for view in views]
        found.append(_looked_up(workspace, data, digest, views, looks))
        middles.append(views[0])
        ones[number] = looks[0]
        workspace.progress("works searched for", number + 1, len(files))
    seed = int.from_bytes(keyed(workspace.secret("search"), handle.encode())[:8], "big")
    planted = planted_recall(data.searcher, np.stack(middles), ones, seed)
    counts = _counted(workspace, data, found, len(claim.works), planted)
    return _log(workspace, handle, counts, tuple(found))


def _listed(files: list[Path], works: Iterable[str]) -> dict[str, Path]:
    """Digest -> file. A file that comes twice is one work."""
    listed, found, strange = frozenset(works), {}, []
    for file in files:
        digest = hashlib.sha256(plain_bytes(file)).hexdigest()
        if digest in listed:
            found[digest] = file
        else:
            strange.append(f"{shown(file.name)} is none of the works that the letter lists (SHA-256 {digest[:12]}…)")
    if strange:
        raise InputProblems(
            "the folder of works", strange[:20], hint="bring the files of the letter and nothing else", code="upload"
        )
    return found


def _searched(workspace: Workspace, works: int, embedder: Path | None) -> _Data:
    book, train = workspace.book, workspace.data.train
    there = tuple(slot for slot, name in enumerate(book.ids) if name is not None)
    by_pixels: dict[bytes, tuple[str, ...]] = {}
    for slot in there:
        key = _pixels(train.images[slot])
        by_pixels[key] = (*by_pixels.get(key, ()), train.ids[slot])
    source = registry.load("data", workspace.named_data["source"])(**workspace.named_data["options"])
    digests = source.file_digests() if hasattr(source, "file_digests") else None
    captions = frozenset((*open_data(workspace.named_data).train.captions, *(train.captions[slot] for slot in there)))
    return _Data(
        train=train,
        there=there,
        by_pixels=by_pixels,
        by_file=digests,
        captions=captions if len(captions) * works <= MOST_TRIED else None,
        searcher=_with_embedder(workspace, Searcher.of(workspace), embedder),
    )


def _with_embedder(workspace: Workspace, searcher: Searcher, folder: Path | None) -> Searcher:
    """A vision model of the owner's votes beside hash and thumbnail. Its cosine is measured on this data: what one pair of
    different records in ten thousand reaches."""
    if folder is None:
        return searcher
    model = open_embedding(folder)

    def of(images: _Images) -> NDArray[np.float32]:
        return unit(np.asarray(model.of(images), np.float32))

    data, index = workspace.data, searcher.index
    table = indexed(np.concatenate([data.train.images, data.test.images]), {EMBEDDING: of}).embeddings[EMBEDDING]
    index = replace(index, embeddings={**index.embeddings, EMBEDDING: table})
    cosine = cosine_beyond(index, EMBEDDING, EMBEDDING_RATE)
    rule = replace(searcher.rule, agree={**searcher.rule.agree, EMBEDDING: cosine})
    return replace(searcher, index=index, embed={**searcher.embed, EMBEDDING: of}, rule=rule)


def _looked_up(workspace: Workspace, data: _Data, digest: str, views: _Images, looks: list[Wanted]) -> WorkFound:
    """One work, by each search."""
    book, split = workspace.book, len(data.train)
    slots = [book.place_of(name) for name, file in (data.by_file or {}).items() if file == digest]
    same = {slot for slot in slots if slot is not None}
    held = set(book.holding({picture_digest(caption, views[0]) for caption in data.captions or ()}))
    pixels = {name for view in views for name in data.by_pixels.get(_pixels(view), ())}
    pixels |= {str(book.ids[slot]) for slot in held - book.tombstones}
    file = {str(book.ids[slot]) for slot in same - book.tombstones}
    rows = sorted({int(row) for look in looks for row in matches(data.searcher.index, look, data.searcher.rule)})
    near = {data.train.ids[row] for row in rows if row < split}
    return WorkFound(
        work=digest,
        file=tuple(sorted(file)),
        pixels=tuple(sorted(pixels)),
        near=tuple(sorted(near - file - pixels)),
        erased=tuple(sorted((same | held) & book.tombstones)),
        held_out=tuple(workspace.data.test.ids[row - split] for row in rows if row >= split),
    )


def _counted(
    workspace: Workspace, data: _Data, found: list[WorkFound], listed: int, planted: tuple[int, int]
) -> Counts:
    book = workspace.book
    records = frozenset().union(*(one.records for one in found))
    blocks = {book.blocks[slot] for slot in data.there if book.ids[slot] in records}
    by = ["sha256"] * (data.by_file is not None) + ["manifest"] * (data.captions is not None) + ["pixels", "perceptual"]
    return Counts(
        listed=listed,
        brought=len(found),
        file=sum(bool(one.file) for one in found),
        pixels=sum(bool(one.pixels and not one.file) for one in found),
        near=sum(bool(one.near and not one.file and not one.pixels) for one in found),
        erased=sum(bool(one.erased and not one.records) for one in found),
        missed=sum(not one.records and not one.erased for one in found),
        held_out=sum(bool(one.held_out) for one in found),
        present=len(records),
        beside=sum(book.blocks[slot] in blocks for slot in data.there),
        searched=len(data.there),
        records=len(data.there),
        places_erased=len(book.tombstones),
        by=(*by, *([EMBEDDING] * (EMBEDDING in data.searcher.embed))),
        planted=planted,
        coincidences=_coincidences(workspace, data.searcher),
        data=_data_digest(workspace),
    )


def _coincidences(workspace: Workspace, searcher: Searcher) -> tuple[int, int]:
    """(linked, of so many): works of the test split, evenly drawn, that the same search links with a training record."""
    test, split = workspace.data.test, len(workspace.data.train)
    rows = [int(row) for row in np.linspace(0, len(test) - 1, min(len(test), COINCIDENCES))]
    linked = 0
    for row in rows:
        found = matches(searcher.index, wanted(test.images[row], searcher.embed), searcher.rule)
        linked += bool((found < split).any())
    return linked, len(rows)


def _pixels(image: _Images) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


def _data_digest(workspace: Workspace) -> str:
    """`sha256:` of the manifest's roots as they are now."""
    return digest_of(workspace.book.data_ref(workspace.config.data.source))


def _log(workspace: Workspace, handle: str, counts: Counts, works: tuple[WorkFound, ...]) -> Search:
    """The findings are on disk before the log says so."""
    plain = {"counts": encode(counts), "works": encode(list(works))}
    digest = commit(key_of(workspace, handle), plain)
    write_file(private(workspace, handle) / _named(digest), canonical(plain), mode=0o600)
    payload = {"search": digest, "counts": encode(counts)}
    entry = workspace.log.append(SEARCHED, payload, case=handle)
    workspace.log.checkpoint()
    return Search(counts=counts, works=works, entry=entry.index)


def _named(digest: str) -> str:
    return f"search-{digest[-16:]}.json"


def searches(workspace: Workspace, handle: str) -> list[tuple[Entry, Counts]]:
    """Every search of a request in the data as it is now, oldest first. After a deletion the data is another."""
    rows = entries_of(workspace, handle, SEARCHED)
    told = [(entry, decode(Counts, entry.payload["counts"], what="a search")) for entry in rows]
    return [(entry, counts) for entry, counts in told if counts.data == _data_digest(workspace)]


def best(workspace: Workspace, handle: str) -> tuple[Entry, Counts] | None:
    """The search that a decision cites: the one that found most, and of those that found nothing the one that was brought most.
    Who searches again with less does not make what was found go away."""
    return max(
        searches(workspace, handle), key=lambda one: (one[1].present, one[1].brought, one[0].index), default=None
    )


def findings(workspace: Workspace, handle: str, entry: Entry) -> tuple[WorkFound, ...]:
    """The private findings of a logged search. Raises IntegrityError where they are not those that were logged."""
    file = private(workspace, handle) / _named(str(entry.payload["search"]))
    with storage_errors(file, "read search"):
        plain = loads(file.read_bytes(), what=file.name)
    if commit(key_of(workspace, handle), plain) != entry.payload["search"]:
        raise IntegrityError("the findings are not those of the search that was logged", got=handle)
    return tuple(decode(WorkFound, one, what="a finding") for one in plain["works"])


def works_of(workspace: Workspace, handle: str) -> Works | None:
    """The fact that the table asks for, from the log; None where nothing was searched in the data as it is now."""
    found = best(workspace, handle)
    if found is None:
        return None
    entry, counts = found
    return Works(
        listed=counts.listed,
        present=counts.present,
        searched=counts.searched,
        records=counts.records,
        by=counts.by,
        brought=counts.brought,
        planted=counts.planted,
        entry=entry.index,
    )
