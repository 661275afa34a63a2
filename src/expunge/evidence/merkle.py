"""The Merkle tree of RFC 9162 section 2.1 over SHA-256, and its two proofs. Nothing is invented here.

Everything takes leaf *hashes* (32 bytes); `leaf_hash` makes one from an entry. Sizes and indices count leaves from 0.
Two rules are stricter than the RFC's text: a hash that is hashed further is exactly 32 bytes, and nothing is consistent
with the empty tree (an empty log promises nothing, so a proof from size 0 would only look like evidence).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from expunge.core.errors import EvidenceError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

_HEX = re.compile(r"[0-9a-f]{64}\Z")


class ProofError(EvidenceError):
    """A Merkle proof does not lead to the root. `claimed` and `computed` are roots in hex, or say why not."""

    code = "proof"

    def __init__(self, message: str, *, claimed: str, computed: str, hint: str | None = None) -> None:
        super().__init__(message, expected=claimed, got=computed, hint=hint)
        self.claimed = claimed
        self.computed = computed


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data): RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right): RFC 9162 section 2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: one perfect-subtree hash per set bit of the size, so a root costs O(log n)."""

    __slots__ = ("_edge", "size")

    def __init__(self) -> None:
        self._edge: list[bytes] = []
        self.size = 0

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        index, carried = self.size, leaf
        while index & 1:
            carried = node_hash(self._edge.pop(), carried)
            index >>= 1
        self._edge.append(carried)
        self.size += 1

    def root(self) -> bytes:
        """The root of everything appended so far."""
        if not self._edge:
            return EMPTY_ROOT
        result = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            result = node_hash(left, result)
        return result


class Tree:
    """A tree kept in memory, for many proofs over the same leaves. Levels hold perfect subtrees only."""

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Iterable[bytes]) -> None:
        level = list(leaf_hashes)
        if any(len(leaf) != HASH_BYTES for leaf in level):
            raise ProofError("a leaf hash has the wrong length", claimed="32 bytes", computed="another length")
        self._levels = [level]
        while len(level) > 1:
            level = [node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
            self._levels.append(level)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` leaves (all by default)."""
        size = self.size if size is None else size
        _check_at_most(size, self.size)
        return range_root(0, size, self.node) if size else EMPTY_ROOT

    def node(self, level: int, index: int) -> bytes:
        """Hash of the perfect subtree over leaves index * 2^level up to (index + 1) * 2^level."""
        return self._levels[level][index]

    def inclusion(self, index: int, size: int | None = None) -> tuple[bytes, ...]:
        """RFC 9162 section 2.1.3.1 path of leaf `index` in the first `size` leaves."""
        size = self.size if size is None else size
        _check_at_most(size, self.size)
        return tuple(range_root(low, high, self.node) for low, high in inclusion_ranges(index, size))

    def consistency(self, old: int, new: int | None = None) -> tuple[bytes, ...]:
        """RFC 9162 section 2.1.4.1 path from the first `old` leaves to the first `new`."""
        new = self.size if new is None else new
        _check_at_most(new, self.size)
        return tuple(range_root(low, high, self.node) for low, high in consistency_ranges(old, new))


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 9162 section 2.1.1; the empty tree has the hash of the empty string."""
    return Tree(leaf_hashes).root()


def inclusion_path(leaf_hashes: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Siblings from leaf `index` up to the root. Raises ProofError when the index is outside the tree."""
    return Tree(leaf_hashes).inclusion(index)


def consistency_path(leaf_hashes: Sequence[bytes], old: int) -> tuple[bytes, ...]:
    """Proof that the first `old` leaves are a prefix of all of them. Raises ProofError unless 0 < old <= size."""
    return Tree(leaf_hashes).consistency(old)


def range_root(low: int, high: int, node: Callable[[int, int], bytes]) -> bytes:
    """Root over leaves low..high-1, where `low` is a multiple of a power of two that is at least high - low."""
    hashes, position, left = [], low, high - low
    for level in reversed(range(left.bit_length())):
        if left >> level & 1:
            hashes.append(node(level, position >> level))
            position += 1 << level
    result = hashes.pop()
    while hashes:
        result = node_hash(hashes.pop(), result)
    return result


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The leaf ranges whose roots make the inclusion path, leaf first."""
    if not 0 <= index < size:
        raise ProofError("no such leaf", claimed=f"an index below {size}", computed=str(index))
    ranges, low, high = [], 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """The leaf ranges whose roots make the consistency path: SUBPROOF of RFC 9162 section 2.1.4.1, unrolled."""
    if not 0 < old <= new:
        raise ProofError("no consistency proof", claimed=f"an old size from 1 to {new}", computed=str(old))
    ranges, low, high, known = [], 0, new, True
    while old < high:
        middle = low + _split(high - low)
        if old <= middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low, known = middle, False
    if not known:
        ranges.append((low, high))
    return ranges[::-1]


def verify_inclusion(*, leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 section 2.1.3.2; `leaf` is a leaf hash. Raises ProofError, otherwise the leaf is in the tree."""
    for item in (leaf, root, *path):
        _check_hash(item, "hash in an inclusion proof")
    if not 0 <= index < size:
        raise ProofError("leaf index outside the tree", claimed=root.hex(), computed=f"index {index} of size {size}")
    node, last, computed = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("inclusion path is too long", claimed=root.hex(), computed=computed.hex())
        if node & 1 or node == last:
            computed = node_hash(sibling, computed)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofError("inclusion path is too short", claimed=root.hex(), computed=computed.hex())
    if computed != root:
        raise ProofError("the leaf is not in this tree", claimed=root.hex(), computed=computed.hex())


def verify_consistency(
    *, old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]
) -> None:
    """RFC 9162 section 2.1.4.2. Raises ProofError, otherwise the old tree is a prefix of the new one."""
    if not 0 < old_size <= new_size:
        raise ProofError(
            "sizes cannot be consistent", claimed=f"0 < old <= new = {new_size}", computed=f"old = {old_size}"
        )
    if old_size == new_size:
        if path or old_root != new_root:
            raise ProofError("two trees of one size differ", claimed=old_root.hex(), computed=new_root.hex())
        return
    for item in (old_root, new_root, *path):
        _check_hash(item, "hash in a consistency proof")
    if not path:
        raise ProofError("consistency path is empty", claimed=old_root.hex(), computed=new_root.hex())
    _walk_consistency(old_size, new_size, old_root, new_root, path)


def _walk_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> None:
    hashes = list(path) if old_size & (old_size - 1) else [old_root, *path]
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise ProofError("consistency path is too long", claimed=new_root.hex(), computed=new.hex())
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last != 0:
        raise ProofError("consistency path is too short", claimed=new_root.hex(), computed=new.hex())
    if old != old_root:
        raise ProofError("the old tree is not a prefix of the new one", claimed=old_root.hex(), computed=old.hex())
    if new != new_root:
        raise ProofError("the new tree does not extend the old one", claimed=new_root.hex(), computed=new.hex())


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """Leaf `index` is in the tree of `size` leaves; `path` are hex hashes, leaf first."""

    index: int
    size: int
    path: tuple[str, ...]

    def verify(self, leaf: bytes, root: bytes) -> None:
        """`leaf` is a leaf hash. Raises ProofError."""
        verify_inclusion(leaf=leaf, index=self.index, size=self.size, path=unhex(self.path), root=root)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyProof:
    """The tree of `old` leaves, whose `root` is given, is a prefix of that of `new` leaves. All hashes are hex."""

    old: int
    new: int
    root: str
    path: tuple[str, ...]

    def verify(self, old_root: bytes, new_root: bytes) -> None:
        """Raises ProofError, also when the proof is about another old root than yours."""
        if unhex([self.root])[0] != old_root:
            raise ProofError("the proof is about another old tree", claimed=old_root.hex(), computed=self.root)
        verify_consistency(
            old_size=self.old, new_size=self.new, old_root=old_root, new_root=new_root, path=unhex(self.path)
        )


def unhex(path: Iterable[str]) -> tuple[bytes, ...]:
    """Hex hashes as bytes; raises ProofError on anything that is not 64 lower-case hex digits."""
    hashes = []
    for text in path:
        if not _HEX.match(text):
            raise ProofError("not a hash", claimed="64 lower-case hex digits", computed=text[:80])
        hashes.append(bytes.fromhex(text))
    return tuple(hashes)


def _split(count: int) -> int:
    """Largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _check_hash(item: bytes, what: str) -> None:
    if len(item) != HASH_BYTES:
        raise ProofError(f"{what} has the wrong length", claimed="32 bytes", computed=f"{len(item)} bytes")


def _check_at_most(size: int, available: int) -> None:
    if not 0 <= size <= available:
        raise ProofError("the tree is not that large", claimed=f"at most {available}", computed=str(size))
