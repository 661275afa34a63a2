"""Proof that a leaf was in one sorted tree and is not in another, without showing anybody's data.

Leaves are 32-byte keyed hashes (evidence/records.py), sorted. A leaf is absent when two *neighbours* in the tree lie on
either side of it; at the ends one of them is missing. Sound only if the tree is really sorted: whoever holds the
manifest can check that (`audit_sorted`), so a certificate says who did.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.core.errors import EvidenceError
from expunge.evidence.merkle import EMPTY_ROOT, InclusionProof, ProofError, Tree, leaf_hash, unhex


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A leaf (hex), beside a gap for one, and the proof that it stands where it stands."""

    leaf: str
    proof: InclusionProof


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsenceProof:
    """Neighbours of an absent leaf in a sorted tree. `left` is None before the first leaf, `right` after the last."""

    left: Neighbour | None
    right: Neighbour | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionProof:
    """The very leaf that was ingested is absent from what was retained. `kind` is `id` or `content`.

    `became`: the content leaf that is retained in its stead, where a history became shorter and its user stayed.
    """

    kind: str
    leaf: str
    ingested: InclusionProof
    absent: AbsenceProof
    became: Neighbour | None = None


class SortedTree:
    """Merkle tree over sorted leaves; a leaf may come more than once (the same content under two ids)."""

    __slots__ = ("_tree", "leaves")

    def __init__(self, leaves: Sequence[str]) -> None:
        self.leaves = tuple(sorted(leaves))
        self._tree = Tree(leaf_hash(raw) for raw in unhex(self.leaves))

    @property
    def root(self) -> str:
        """`sha256:<hex>`."""
        return "sha256:" + self._tree.root().hex()

    def count(self, leaf: str) -> int:
        """How often the leaf is there: the same content may come under several ids."""
        return bisect_right(self.leaves, leaf) - bisect_left(self.leaves, leaf)

    def prove_inclusion(self, leaf: str, nth: int = 0) -> InclusionProof:
        """Where the leaf stands, for the `nth` time from 0. Raises EvidenceError when it is not there so often."""
        place = bisect_left(self.leaves, leaf) + nth
        if place >= len(self.leaves) or self.leaves[place] != leaf:
            raise EvidenceError("the leaf is not in this manifest", got=leaf)
        return self._inclusion(place)

    def prove_absence(self, leaf: str) -> AbsenceProof:
        """Raises EvidenceError when the leaf is there."""
        place = bisect_left(self.leaves, leaf)
        if place < len(self.leaves) and self.leaves[place] == leaf:
            raise EvidenceError("the leaf is still in this manifest", got=leaf, hint="another record has this content")
        return AbsenceProof(
            left=self._neighbour(place - 1) if place else None,
            right=self._neighbour(place) if place < len(self.leaves) else None,
        )

    def _neighbour(self, place: int) -> Neighbour:
        return Neighbour(leaf=self.leaves[place], proof=self._inclusion(place))

    def _inclusion(self, place: int) -> InclusionProof:
        path = tuple(item.hex() for item in self._tree.inclusion(place))
        return InclusionProof(index=place, size=len(self.leaves), path=path)


def tree_leaf(leaf: str) -> bytes:
    """The Merkle leaf hash of a keyed leaf: over its 32 raw bytes, so that hex case cannot make two of one."""
    return leaf_hash(unhex([leaf])[0])


def root_bytes(root: str) -> bytes:
    """The 32 bytes of a `sha256:<hex>` root. Raises ProofError."""
    return unhex([root.removeprefix("sha256:")])[0]


def verify_absence(proof: AbsenceProof, leaf: str, root: str, size: int) -> None:
    """Raises ProofError, otherwise `leaf` is not in the sorted tree of `size` leaves with this root."""
    tree_leaf(leaf)
    left = -1 if proof.left is None else proof.left.proof.index
    right = size if proof.right is None else proof.right.proof.index
    if size == 0 and root_bytes(root) != EMPTY_ROOT:
        raise ProofError("an empty manifest has another root", claimed=root, computed=EMPTY_ROOT.hex())
    if right != left + 1:
        raise ProofError(
            "these leaves are not neighbours", claimed=f"places {left} and {left + 1}", computed=str(right)
        )
    if (proof.left and proof.left.leaf >= leaf) or (proof.right and leaf >= proof.right.leaf):
        raise ProofError("the leaf does not lie between these neighbours", claimed=root, computed=leaf)
    for neighbour in (proof.left, proof.right):
        if neighbour is not None:
            _verify_place(neighbour.proof, neighbour.leaf, root, size)


def verify_deletion(proof: DeletionProof, *, ingested: tuple[str, int], retained: tuple[str, int]) -> None:
    """`ingested` and `retained` are (root, number of leaves). Raises ProofError unless both halves hold."""
    _verify_place(proof.ingested, proof.leaf, *ingested)
    verify_absence(proof.absent, proof.leaf, *retained)
    if proof.became is not None:
        _verify_place(proof.became.proof, proof.became.leaf, *retained)


def _verify_place(proof: InclusionProof, leaf: str, root: str, size: int) -> None:
    if proof.size != size:
        raise ProofError("proof is for a manifest of another size", claimed=str(size), computed=str(proof.size))
    proof.verify(tree_leaf(leaf), root_bytes(root))
