"""The tree against the official vectors, against naive twins written from the RFC's recursion, and against forgers."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.evidence.merkle import (
    EMPTY_ROOT,
    ConsistencyProof,
    Frontier,
    InclusionProof,
    ProofError,
    Tree,
    consistency_path,
    inclusion_path,
    leaf_hash,
    root_of,
    unhex,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).parents[2] / "../shared/data/tee-vectors/merkle-transparency-dev/testdata"


def naive_root(data: list[bytes]) -> bytes:
    """MTH, word for word from RFC 9162 section 2.1.1."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = naive_split(len(data))
    return hashlib.sha256(b"\x01" + naive_root(data[:k]) + naive_root(data[k:])).digest()


def naive_split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def naive_path(m: int, data: list[bytes]) -> list[bytes]:
    """PATH, RFC 9162 section 2.1.3.1."""
    if len(data) == 1:
        return []
    k = naive_split(len(data))
    if m < k:
        return [*naive_path(m, data[:k]), naive_root(data[k:])]
    return [*naive_path(m - k, data[k:]), naive_root(data[:k])]


def naive_subproof(m: int, data: list[bytes], b: bool) -> list[bytes]:
    """SUBPROOF, RFC 9162 section 2.1.4.1."""
    if m == len(data):
        return [] if b else [naive_root(data)]
    k = naive_split(len(data))
    if m <= k:
        return [*naive_subproof(m, data[:k], b), naive_root(data[k:])]
    return [*naive_subproof(m - k, data[k:], False), naive_root(data[:k])]


def leaves(n: int) -> list[bytes]:
    return [b"leaf %d" % i for i in range(n)]


def hashes(data: list[bytes]) -> list[bytes]:
    return [leaf_hash(item) for item in data]


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_official_vectors(kind: str) -> None:
    if not VECTORS.is_dir():
        pytest.skip("../shared/data/tee-vectors is not here: the transparency-dev vectors were not run")
    files = sorted((VECTORS / kind).rglob("*.json"))
    assert len(files) == 98
    wrong = [str(file) for file in files if verdict(kind, json.loads(file.read_text())) is False]
    assert wrong == []


def verdict(kind: str, vector: dict) -> bool:
    """Whether we say what the vector wants."""

    def raw(text: str | None) -> bytes:
        return base64.b64decode(text or "")

    path = [raw(item) for item in vector["proof"] or []]
    try:
        if kind == "inclusion":
            verify_inclusion(
                leaf=raw(vector["leafHash"]),
                index=vector["leafIdx"],
                size=vector["treeSize"],
                path=path,
                root=raw(vector["root"]),
            )
        else:
            verify_consistency(
                old_size=vector["size1"],
                new_size=vector["size2"],
                old_root=raw(vector["root1"]),
                new_root=raw(vector["root2"]),
                path=path,
            )
    except ProofError:
        return vector["wantErr"]
    return not vector["wantErr"]


def test_every_proof_of_every_small_tree_equals_the_twin() -> None:
    for n in range(1, 34):
        data = leaves(n)
        hashed, root = hashes(data), naive_root(data)
        tree = Tree(hashed)
        assert tree.root() == root_of(hashed) == root
        for index in range(n):
            path = tree.inclusion(index)
            assert list(path) == naive_path(index, data)
            verify_inclusion(leaf=hashed[index], index=index, size=n, path=path, root=root)
        for old in range(1, n + 1):
            path = tree.consistency(old)
            assert list(path) == naive_subproof(old, data, True)
            verify_consistency(old_size=old, new_size=n, old_root=naive_root(data[:old]), new_root=root, path=path)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=70))
def test_root_equals_the_twin(data: list[bytes]) -> None:
    frontier = Frontier()
    for item in data:
        frontier.append(leaf_hash(item))
    assert root_of(hashes(data)) == naive_root(data) == frontier.root()
    assert frontier.size == len(data)


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 200), st.data())
def test_no_other_leaf_index_size_or_sibling_is_accepted(n: int, draw: st.DataObject) -> None:
    hashed = hashes(leaves(n))
    index = draw.draw(st.integers(0, n - 1))
    path = list(inclusion_path(hashed, index))
    good = {"leaf": hashed[index], "index": index, "size": n, "path": path, "root": root_of(hashed)}
    verify_inclusion(**good)
    other = draw.draw(st.integers(0, n - 1).filter(lambda i: i != index))
    position, bit = draw.draw(st.integers(0, len(path) - 1)), draw.draw(st.integers(0, 255))
    flipped = bytearray(path[position])
    flipped[bit // 8] ^= 1 << bit % 8
    forgeries = [
        {"leaf": hashed[other]},
        {"index": other},
        {"index": -1},
        {"path": path[:-1]},
        {"path": [*path, path[0]]},
        {"path": [*path[:position], bytes(flipped), *path[position + 1 :]]},
        {"leaf": hashed[index][:31]},
        {"root": b""},
        {"size": index},
    ]
    for forgery in forgeries:
        with pytest.raises(ProofError):
            verify_inclusion(**{**good, **forgery})


@settings(max_examples=80, deadline=None)
@given(st.integers(2, 200), st.data())
def test_rewritten_history_is_not_consistent(n: int, draw: st.DataObject) -> None:
    hashed = hashes(leaves(n))
    old = draw.draw(st.integers(1, n - 1))
    path = list(consistency_path(hashed, old))
    changed = list(hashed)
    changed[draw.draw(st.integers(0, old - 1))] = leaf_hash(b"rewritten")
    good = {
        "old_size": old,
        "new_size": n,
        "old_root": root_of(hashed[:old]),
        "new_root": root_of(hashed),
        "path": path,
    }
    verify_consistency(**good)
    for forgery in (
        {"new_root": root_of(changed), "path": list(consistency_path(changed, old))},
        {"old_root": root_of(changed[:old])},
        {"path": []},
        {"path": path[:-1]},
        {"path": [*path, path[-1]]},
        {"old_size": n, "new_size": old},
        {"old_size": 0, "old_root": EMPTY_ROOT},
    ):
        with pytest.raises(ProofError):
            verify_consistency(**{**good, **forgery})


def test_nothing_is_consistent_with_the_empty_tree() -> None:
    with pytest.raises(ProofError):
        verify_consistency(old_size=0, new_size=0, old_root=EMPTY_ROOT, new_root=EMPTY_ROOT, path=[])


def test_a_proof_error_carries_both_roots() -> None:
    hashed = hashes(leaves(5))
    with pytest.raises(ProofError) as caught:
        verify_inclusion(leaf=hashed[0], index=0, size=5, path=inclusion_path(hashed, 0), root=root_of(hashed[:4]))
    assert caught.value.claimed == root_of(hashed[:4]).hex()
    assert caught.value.computed == root_of(hashed).hex()


@pytest.mark.parametrize("index", [-1, 5, 6])
def test_no_path_for_a_leaf_that_is_not_there(index: int) -> None:
    with pytest.raises(ProofError):
        inclusion_path(hashes(leaves(5)), index)


@pytest.mark.parametrize("size", [-1, 6])
def test_no_root_beyond_the_tree(size: int) -> None:
    with pytest.raises(ProofError):
        Tree(hashes(leaves(5))).root(size)


def test_proof_nouns_check_their_hex() -> None:
    hashed = hashes(leaves(5))
    root = root_of(hashed)
    path = tuple(item.hex() for item in inclusion_path(hashed, 2))
    InclusionProof(index=2, size=5, path=path).verify(hashed[2], root)
    old = tuple(item.hex() for item in consistency_path(hashed, 3))
    link = ConsistencyProof(old=3, new=5, root=root_of(hashed[:3]).hex(), path=old)
    link.verify(root_of(hashed[:3]), root)
    with pytest.raises(ProofError):
        link.verify(root_of(hashed[:2]), root)
    for bad in (path[0].upper(), path[0][:-2], "zz" * 32):
        with pytest.raises(ProofError):
            unhex([bad])
