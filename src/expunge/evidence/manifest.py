"""What the data is made of, without saying what it is: one keyed leaf per record id and one per content.

With the manifest key K: record key = HMAC(K, "expunge/record/v1" || id), id leaf = HMAC(record key, id);
content key = HMAC(K, "expunge/content/v1" || content digest), content leaf = HMAC(content key, content digest).
Leaves are deterministic, so the same record has the same leaf in every manifest of this key and a deletion can be
shown; without K, or after it is destroyed, a leaf is 32 random bytes. Ids and digests go in as UTF-8 text.

The two trees are sorted by leaf. Ids are unique; contents need not be (the same pixels under two ids), and then the
content stays present until the last of them is gone. Tensors of a model: evidence/tensors.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from expunge.core.codec import Json
from expunge.core.errors import InputError, InputProblems, IntegrityError
from expunge.evidence.absence import (
    AbsenceProof,
    DeletionProof,
    Neighbour,
    SortedTree,
    verify_absence,
    verify_deletion,
)
from expunge.evidence.commitment import KEY_BYTES, keyed
from expunge.evidence.tensors import TensorManifest, TensorRow

Kind = Literal["id", "content"]
Leaves = Mapping[int, tuple[str, str]]
Row = tuple[int, str, str]

_RECORD = b"expunge/record/v1"
_CONTENT = b"expunge/content/v1"
_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordOpening:
    """What the requester keeps: with it, and without K, they can recompute their own two leaves. Keys are hex."""

    slot: int
    id: str
    record_key: str
    id_leaf: str
    content_digest: str
    content_key: str
    content_leaf: str


class RecordManifest:
    """N records by slot. Immutable; not a dataclass, so that no encoder can write its key into a record."""

    def __init__(self, leaves: Leaves, *, rows: Mapping[int, tuple[str, str]] | None = None, key: bytes = b"") -> None:
        self._leaves = dict(leaves)
        self._rows = rows
        self._key = key
        _check_leaves(self._leaves)

    @classmethod
    def build(cls, rows: Iterable[Row], *, key: bytes) -> RecordManifest:
        """From (slot, id, content digest as 64 hex digits). Raises InputProblems with every bad row."""
        if len(key) != KEY_BYTES:
            raise InputError("a manifest key has 32 bytes", got=f"{len(key)} bytes")
        listed = list(rows)
        _check_rows(listed)
        leaves = {slot: leaves_of(key, id_, digest) for slot, id_, digest in listed}
        return cls(leaves, rows={slot: (id_, digest) for slot, id_, digest in listed}, key=key)

    @classmethod
    def from_json(cls, plain: Json) -> RecordManifest:
        """What `to_json` wrote. Raises IntegrityError; openings need `build`."""
        ok = isinstance(plain, dict) and plain.keys() == {"v", "rows"} and plain["v"] == 1
        if not ok or not isinstance(plain["rows"], list):
            raise IntegrityError("not a record manifest", expected="an object of v and rows")
        leaves: dict[int, tuple[str, str]] = {}
        for row in plain["rows"]:
            if not (isinstance(row, list) and len(row) == 3 and type(row[0]) is int):
                raise IntegrityError("not a manifest row", expected="[slot, id leaf, content leaf]", got=repr(row)[:80])
            if row[0] in leaves:
                raise IntegrityError(f"slot {row[0]} comes twice in the manifest")
            leaves[row[0]] = (row[1], row[2])
        return cls(leaves)

    def to_json(self) -> Json:
        """Slots and leaves as plain JSON: no id, no content digest, no key."""
        return {"v": 1, "rows": [[slot, *self._leaves[slot]] for slot in sorted(self._leaves)]}

    @property
    def leaves(self) -> Leaves:
        """slot -> (id leaf, content leaf), lower-case hex."""
        return MappingProxyType(self._leaves)

    @property
    def size(self) -> int:
        """Number of records present, and of leaves in either tree."""
        return len(self._leaves)

    @property
    def root(self) -> str:
        """`sha256:<hex>` over the sorted id leaves."""
        return self._ids.root

    @property
    def content_root(self) -> str:
        """`sha256:<hex>` over the sorted content leaves."""
        return self._contents.root

    def tree(self, kind: Kind) -> SortedTree:
        """The sorted tree of ids or of contents."""
        return self._ids if kind == "id" else self._contents

    def without(self, slots: Collection[int]) -> RecordManifest:
        """The same manifest with these slots emptied. Raises InputError when one is not there."""
        missing = sorted(set(slots) - self._leaves.keys())
        if missing:
            raise InputError("no such slot in the manifest", got=", ".join(map(str, missing[:5])))
        gone = frozenset(slots)
        rows = None if self._rows is None else {slot: row for slot, row in self._rows.items() if slot not in gone}
        kept = {slot: leaf for slot, leaf in self._leaves.items() if slot not in gone}
        return RecordManifest(kept, rows=rows, key=self._key)

    def opening(self, slot: int) -> RecordOpening:
        """For the requester. Raises InputError for an unknown slot or a manifest read without its key."""
        if self._rows is None or slot not in self._rows:
            raise InputError(f"no opening for slot {slot}", hint="build the manifest from its rows and key")
        id_, digest = self._rows[slot]
        return RecordOpening(
            slot=slot,
            id=id_,
            record_key=keyed(self._key, _RECORD + id_.encode()).hex(),
            id_leaf=self._leaves[slot][0],
            content_digest=digest,
            content_key=keyed(self._key, _CONTENT + digest.encode()).hex(),
            content_leaf=self._leaves[slot][1],
        )

    def prove_absence(self, leaf: str, kind: Kind = "id") -> AbsenceProof:
        """Raises EvidenceError when the leaf is still there."""
        return self.tree(kind).prove_absence(leaf)

    def audit_sorted(self, *, root: str, content_root: str) -> None:
        """Whoever holds the manifest checks that the logged roots are those of the *sorted* trees over all its leaves.

        Without this audit an owner could hide a leaf out of order, and every absence proof would be worth nothing.
        """
        for kind, mine, logged in (("id", self.root, root), ("content", self.content_root, content_root)):
            if mine != logged:
                raise IntegrityError(
                    f"the logged {kind} root is not that of the sorted leaves", expected=mine, got=logged
                )

    @cached_property
    def _ids(self) -> SortedTree:
        return SortedTree([leaf for leaf, _ in self._leaves.values()])

    @cached_property
    def _contents(self) -> SortedTree:
        return SortedTree([leaf for _, leaf in self._leaves.values()])


def leaves_of(key: bytes, id_: str, content_digest: str) -> tuple[str, str]:
    """(id leaf, content leaf) of a record, lower-case hex."""
    name, digest = id_.encode(), content_digest.encode()
    id_leaf = keyed(keyed(key, _RECORD + name), name)
    return id_leaf.hex(), keyed(keyed(key, _CONTENT + digest), digest).hex()


def check_opening(opening: RecordOpening) -> None:
    """Raises IntegrityError unless both leaves follow from the opening's own keys, id and content digest."""
    try:
        id_leaf = keyed(bytes.fromhex(opening.record_key), opening.id.encode()).hex()
        content_leaf = keyed(bytes.fromhex(opening.content_key), opening.content_digest.encode()).hex()
    except ValueError as error:
        raise InputError("a key in the opening is not hex") from error
    for name, computed, claimed in (
        ("id", id_leaf, opening.id_leaf),
        ("content", content_leaf, opening.content_leaf),
    ):
        if computed != claimed:
            raise IntegrityError(f"the {name} leaf is not of this record", expected=claimed[:80], got=computed)


def prove_deletion(
    ingested: RecordManifest, retained: RecordManifest, slot: int
) -> tuple[DeletionProof, DeletionProof]:
    """For one slot: its id leaf and its content leaf were ingested and are not retained.

    Raises EvidenceError when either is still there: the id may be gone while the same content stays under another id.
    """
    if slot not in ingested.leaves:
        raise InputError(f"slot {slot} was never ingested")
    id_leaf, content_leaf = ingested.leaves[slot]
    nth = _rank(ingested, slot, content_leaf)
    return _deletion(ingested, retained, "id", id_leaf), _deletion(ingested, retained, "content", content_leaf, nth)


def prove_replacement(ingested: RecordManifest, retained: RecordManifest, slot: int) -> DeletionProof:
    """For a history that became shorter: its content leaf was ingested and is not retained, another one is in its stead.

    Raises EvidenceError when the old one is still there, InputError when the slot is not in both or kept its leaf.
    """
    if slot not in ingested.leaves or slot not in retained.leaves:
        raise InputError(f"slot {slot} is not in both manifests")
    old, new = ingested.leaves[slot][1], retained.leaves[slot][1]
    if old == new or ingested.leaves[slot][0] != retained.leaves[slot][0]:
        raise InputError(f"slot {slot} did not change its content and keep its id")
    gone = _deletion(ingested, retained, "content", old, _rank(ingested, slot, old))
    place = retained.tree("content").prove_inclusion(new, _rank(retained, slot, new))
    return replace(gone, became=Neighbour(leaf=new, proof=place))


def _rank(manifest: RecordManifest, slot: int, content_leaf: str) -> int:
    """How many earlier slots hold the same content, so that each of them is proven at a place of its own."""
    if manifest.tree("content").count(content_leaf) == 1:
        return 0
    return sum(other < slot and pair[1] == content_leaf for other, pair in manifest.leaves.items())


def _deletion(ingested: RecordManifest, retained: RecordManifest, kind: Kind, leaf: str, nth: int = 0) -> DeletionProof:
    return DeletionProof(
        kind=kind,
        leaf=leaf,
        ingested=ingested.tree(kind).prove_inclusion(leaf, nth),
        absent=retained.prove_absence(leaf, kind),
    )


def _check_rows(rows: list[Row]) -> None:
    problems = [
        f"slot {slot}: content digest is not 64 hex digits" for slot, _, digest in rows if not _HEX.match(digest)
    ]
    problems += [f"slot {slot} is negative" for slot, _, _ in rows if slot < 0]
    for what, values in (("slot", [slot for slot, _, _ in rows]), ("id", [id_ for _, id_, _ in rows])):
        seen: set[object] = set()
        for value in values:
            if value in seen:
                problems.append(f"{what} {str(value)[:80]!r} comes twice")
            seen.add(value)
    if problems:
        raise InputProblems("record manifest", problems)


def _check_leaves(leaves: dict[int, tuple[str, str]]) -> None:
    ids = set()
    for slot, pair in leaves.items():
        if not all(isinstance(leaf, str) and _HEX.match(leaf) for leaf in pair):
            raise IntegrityError(f"manifest slot {slot} holds no leaf", got=repr(pair)[:80])
        ids.add(pair[0])
    if len(ids) != len(leaves):
        raise IntegrityError("one id leaf comes under two slots of the manifest")


__all__ = [
    "AbsenceProof",
    "DeletionProof",
    "Neighbour",
    "RecordManifest",
    "RecordOpening",
    "TensorManifest",
    "TensorRow",
    "check_opening",
    "leaves_of",
    "prove_deletion",
    "prove_replacement",
    "verify_absence",
    "verify_deletion",
]
