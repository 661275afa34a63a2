"""The slot book: which record sits in which slot, privately, and the keyed leaves of all of them.

A slot is a position at ingestion and is never reused. After a deletion the slot's id and content digest are gone from
the book; its leaves stay, because later proofs need their neighbours, and say nothing without the manifest key. A history
that shrinks keeps its slot and id, gets a new content digest and leaf, and keyed tags of what it keeps.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from expunge.core.codec import canonical, loads
from expunge.core.errors import InputError, InputProblems, IntegrityError
from expunge.core.refs import DataRef
from expunge.data._interactions import EMPTY
from expunge.evidence.durable import storage_errors, write_file
from expunge.evidence.manifest import RecordManifest, RecordOpening, leaves_of
from expunge.training.batches import Leaves
from expunge.workflow.cuts import Cuts

RESTORE = "restore store/slots.json; nothing was run"
_LEAF = re.compile(r"[0-9a-f]{64}\Z")
_WITH_CUTS = 3  # a version of its own: who does not know of cuts would bring the events back


class SlotBook:
    """ids, digests and blocks by slot (None where erased), and (id leaf, content leaf) of every slot ever given."""

    def __init__(
        self,
        ids: Sequence[str | None],
        digests: Sequence[str | None],
        blocks: Sequence[str],
        leaves: Sequence[tuple[str, str]],
        key: bytes,
        cuts: Cuts | None = None,
    ) -> None:
        self.ids, self.digests, self.blocks, self._leaves, self._key = ids, digests, blocks, leaves, key
        self.cuts = cuts or Cuts()

    @classmethod
    def ingest(cls, train: Any, key: bytes) -> SlotBook:
        """Slots in the order of the source."""
        digests = [train.content_digest(slot) for slot in range(len(train))]
        leaves = [leaves_of(key, name, digest) for name, digest in zip(train.ids, digests, strict=True)]
        return cls(list(train.ids), list(digests), list(train.blocks), leaves, key)

    @classmethod
    def load(cls, path: Path, key: bytes) -> SlotBook:
        """Read the private book. Raises IntegrityError when it is not one, or a slot's leaves are not of its record."""
        with storage_errors(path, "read"):
            raw = path.read_bytes()
        try:
            plain = loads(raw, what="store/slots.json")
            rows = plain["rows"]
            ids, digests, blocks, first, second = (list(column) for column in zip(*rows, strict=True))
            cuts = Cuts.from_json(plain["cuts"]) if plain.get("v") == _WITH_CUTS else None
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise IntegrityError("store/slots.json is not a slot book", hint=RESTORE) from error
        if plain.get("v") not in (1, _WITH_CUTS):
            raise IntegrityError(
                "store/slots.json is of another version", expected=f"1 or {_WITH_CUTS}", got=str(plain.get("v"))[:20]
            )
        book = cls(ids, digests, blocks, list(zip(first, second, strict=True)), key, cuts)
        book._check()
        return book

    def _check(self) -> None:
        """Every present slot's leaves follow from its id and content digest; no id and no id leaf comes twice."""
        seen: set[str] = set()
        rows = zip(self.ids, self.digests, self.blocks, self._leaves, strict=True)
        for slot, (name, digest, block, pair) in enumerate(rows):
            problem = _row_problem(self._key, name, digest, block, pair)
            if problem is None and pair[0] in seen:
                problem = "the same id as an earlier slot"
            if problem is not None:
                raise IntegrityError(f"store/slots.json, slot {slot}: {problem}", hint=RESTORE)
            seen.add(pair[0])

    def check_root(self, reference: DataRef) -> None:
        """Raises IntegrityError unless the records present are those of `reference`, a data set that was logged."""
        mine = self.data_ref(reference.source)
        fields = ("slots", "present", "root", "content_root")
        wrong = [name for name in fields if getattr(mine, name) != getattr(reference, name)]
        if wrong:
            raise IntegrityError(
                f"the slot book is not the data that was logged: {', '.join(wrong)}",
                expected=str(getattr(reference, wrong[0])),
                got=str(getattr(mine, wrong[0])),
                hint=RESTORE,
            )

    def save(self, path: Path) -> None:
        """Write the private book, 0600."""
        rows = [
            [name, digest, block, *pair]
            for name, digest, block, pair in zip(self.ids, self.digests, self.blocks, self._leaves, strict=True)
        ]
        plain = {"v": _WITH_CUTS, "rows": rows, "cuts": self.cuts.to_json()} if self.cuts else {"v": 1, "rows": rows}
        write_file(path, canonical(plain), mode=0o600)

    def save_ids(self, path: Path) -> None:
        """What a bank's workers need to put the source into slot order, 0600."""
        write_file(path, canonical({"ids": list(self.ids), "blocks": list(self.blocks)}), mode=0o600)

    # --------------------------------------------------------------------------------------------------------- lookups

    @cached_property
    def _slot_of(self) -> dict[str, int]:
        return {name: slot for slot, name in enumerate(self.ids) if name is not None}

    @cached_property
    def _erased(self) -> dict[str, int]:
        return {self._leaves[slot][0]: slot for slot, name in enumerate(self.ids) if name is None}

    @cached_property
    def _with_content(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for slot, (_, content) in enumerate(self._leaves):
            found.setdefault(content, []).append(slot)
        return found

    def slots_of(self, ids: Sequence[str], elsewhere: Container[str] = ()) -> list[int]:
        """Slots of ids; unknown and already deleted ones are all reported, with where they were looked for.

        `elsewhere` are ids of records that nothing was trained on.
        """
        problems, absent = [], 0
        for name in ids:
            if name in self._slot_of:
                continue
            gone = leaves_of(self._key, name, "0" * 64)[0] in self._erased
            absent += not gone
            if name in elsewhere:
                problems.append(
                    f"{name!r} is in the test split only: nothing was trained on it, remove it at the source"
                )
            else:
                problems.append(f"{name!r} was already deleted" if gone else f"{name!r} is not present")
        if problems:
            example = next((name for name in self.ids if name is not None), "none left")
            present, erased = len(self._slot_of), len(self._erased)
            raise InputProblems(
                "record ids",
                problems,
                hint=f"searched: {present} present records, {erased} erased ones and the test split, by id; ids look like "
                f"{example!r}",
                code="not_present" if absent == len(problems) else "unknown-id",
            )
        return [self._slot_of[name] for name in ids]

    def place_of(self, name: str) -> int | None:
        """Slot of an id that was ever given, erased ones too; None where none was."""
        slot = self._slot_of.get(name)
        return slot if slot is not None else self._erased.get(leaves_of(self._key, name, "0" * 64)[0])

    def holding(self, digests: Collection[str]) -> list[int]:
        """Slots, erased ones too, whose record was committed to with one of these content digests, in order."""
        leaves = {leaves_of(self._key, "", digest)[1] for digest in digests}
        return sorted(slot for leaf in leaves for slot in self._with_content.get(leaf, ()))

    def in_block(self, block: str) -> list[int]:
        """Present slots of a block."""
        found = [s for s, name in enumerate(self.blocks) if name == block and self.ids[s] is not None]
        if not found:
            raise InputProblems("blocks", [f"{block!r} is unknown or already deleted"], code="unknown-id")
        return found

    def align(self, dataset: Any) -> Any:
        """A data set with its training records in slot order; erased ones blank, cut events gone."""
        if not hasattr(dataset, "with_users"):
            return dataset.aligned(self.ids, self.blocks)
        nothing_left = {name for name, digest in zip(self.ids, self.digests, strict=True) if digest == EMPTY}
        found = dataset.aligned(self.ids, self.blocks, nothing_left)
        return self.cuts.applied(self._without_erased(found), self._key)

    def _without_erased(self, dataset: Any) -> Any:
        """Test users are chosen anew whenever the source is opened: somebody who was erased never becomes one."""
        test = dataset.test
        erased = {name for name in test.ids if leaves_of(self._key, name, EMPTY)[0] in self._erased}
        return dataset.with_users(dataset.train, test.others(erased)) if erased else dataset

    def was_cut(self, slot: int, item: str) -> bool:
        """Is it one that the slot's history may not have any more? Of a history that was shortened nobody can say whether it
        ever had it."""
        return not self.cuts.lets_in(self._key, slot, item)

    def item_was_cut(self, item: str) -> bool:
        """Was this item deleted?"""
        return self.cuts.has_item(self._key, item)

    def leaves(self) -> Leaves:
        """What the training loop needs for transcripts and receipts."""
        return Leaves(
            ids=[pair[0] for pair in self._leaves],
            contents=[pair[1] for pair in self._leaves],
            digests=[digest or "" for digest in self.digests],
        )

    # ------------------------------------------------------------------------------------------------------- manifests

    @property
    def tombstones(self) -> frozenset[int]:
        """Slots whose record was erased."""
        return frozenset(slot for slot, name in enumerate(self.ids) if name is None)

    def manifest(
        self, absent: Collection[int] | None = None, contents: Mapping[int, str] | None = None
    ) -> RecordManifest:
        """Leaves of every slot but these (the erased ones if not given); also for a state before an erasure.

        `contents` are content leaves of slots whose history was, or will be, another one than the book has now.
        """
        gone, other = self.tombstones if absent is None else frozenset(absent), contents or {}
        pairs = ((slot, (pair[0], other.get(slot, pair[1]))) for slot, pair in enumerate(self._leaves))
        return RecordManifest({slot: pair for slot, pair in pairs if slot not in gone})

    def data_ref(
        self, source: str, absent: Collection[int] | None = None, contents: Mapping[int, str] | None = None
    ) -> DataRef:
        """The data set by content, without the slots in `absent` (the erased ones if not given); see `manifest`."""
        manifest = self.manifest(absent, contents)
        return DataRef(
            source=source,
            slots=len(self.ids),
            present=manifest.size,
            root=manifest.root,
            content_root=manifest.content_root,
        )

    def opening(self, slot: int) -> RecordOpening:
        """What the requester keeps of one of their records."""
        return self.opening_as(slot, self.digests[slot])

    def opening_as(self, slot: int, digest: str | None) -> RecordOpening:
        """The same of a history with another content digest, as it is to be."""
        name = self.ids[slot]
        if name is None or digest is None:
            raise IntegrityError("an erased slot has no opening")
        return RecordManifest.build([(slot, name, digest)], key=self._key).opening(slot)

    def leaf(self, slot: int) -> tuple[str, str]:
        """(id leaf, content leaf) of a slot."""
        return self._leaves[slot]

    def erased(self, slots: Collection[int]) -> SlotBook:
        """The book without ids and digests of these slots."""
        gone = frozenset(slots)

        def blank(values: Sequence[str | None]) -> list[str | None]:
            return [None if slot in gone else value for slot, value in enumerate(values)]

        blocks = ["" if slot in gone else block for slot, block in enumerate(self.blocks)]
        return SlotBook(blank(self.ids), blank(self.digests), blocks, self._leaves, self._key, self.cuts.without(gone))

    def shortened(
        self, digests: Mapping[int, str], kept: Mapping[int, Sequence[str]], items: Sequence[str]
    ) -> SlotBook:
        """The book with new content digests for these slots, and tags of the items that each keeps, or tombstones of items
        that went from all."""
        new = [digests.get(slot, digest) for slot, digest in enumerate(self.digests)]
        leaves = list(self._leaves)
        for slot, digest in digests.items():
            leaves[slot] = leaves_of(self._key, str(self.ids[slot]), digest)
        cuts = self.cuts.with_items(self._key, items) if items else self.cuts.with_kept(self._key, kept)
        return SlotBook(self.ids, new, self.blocks, leaves, self._key, cuts)


def _row_problem(key: bytes, name: Any, digest: Any, block: Any, pair: tuple[Any, Any]) -> str | None:
    """What is wrong with one row of the file, which anybody may have edited."""
    if not (isinstance(block, str) and all(isinstance(leaf, str) and _LEAF.match(leaf) for leaf in pair)):
        return "no block or no leaves"
    if name is None and digest is None:
        return None
    if not (isinstance(name, str) and isinstance(digest, str)):
        return "id and content digest are not both there"
    if leaves_of(key, name, digest) != pair:
        return "its leaves are not of this id and content digest"
    return None
