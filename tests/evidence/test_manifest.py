"""Record manifests and deletion proofs: against an HMAC twin, brute force over small trees, and forgers."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.core.codec import canonical, decode, encode, loads
from expunge.core.errors import EvidenceError, InputError, IntegrityError
from expunge.evidence.absence import SortedTree
from expunge.evidence.manifest import (
    AbsenceProof,
    DeletionProof,
    RecordManifest,
    check_opening,
    leaves_of,
    prove_deletion,
    verify_absence,
    verify_deletion,
)
from expunge.evidence.merkle import ProofError, leaf_hash, root_of

KEY = bytes(range(32))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rows(n: int) -> list[tuple[int, str, str]]:
    return [(slot, f"train/{slot:04}", digest(f"pixels {slot}")) for slot in range(n)]


def twin_leaves(id_: str, content: str) -> tuple[str, str]:
    """Word for word from VERDICTS section 7, with the long way round to HMAC."""
    record_key = hmac.new(KEY, b"expunge/record/v1" + id_.encode(), hashlib.sha256).digest()
    content_key = hmac.new(KEY, b"expunge/content/v1" + content.encode(), hashlib.sha256).digest()
    return (
        hmac.new(record_key, id_.encode(), hashlib.sha256).hexdigest(),
        hmac.new(content_key, content.encode(), hashlib.sha256).hexdigest(),
    )


def whole(manifest: RecordManifest, kind: str = "id") -> tuple[str, int]:
    return (manifest.root if kind == "id" else manifest.content_root, manifest.size)


def test_leaves_and_roots_equal_the_twin() -> None:
    manifest = RecordManifest.build(rows(9), key=KEY)
    for slot, id_, content in rows(9):
        assert manifest.leaves[slot] == twin_leaves(id_, content) == leaves_of(KEY, id_, content)
    ids = sorted(leaf for leaf, _ in manifest.leaves.values())
    assert manifest.root == "sha256:" + root_of([leaf_hash(bytes.fromhex(leaf)) for leaf in ids]).hex()
    assert manifest.size == 9


def test_order_and_slot_numbers_do_not_change_the_root_but_the_key_does() -> None:
    plain = RecordManifest.build(rows(9), key=KEY)
    assert RecordManifest.build(rows(9)[::-1], key=KEY).root == plain.root
    other = RecordManifest.build(rows(9), key=bytes(32))
    assert other.root != plain.root
    assert not set(other.leaves.values()) & set(plain.leaves.values())


def test_manifest_round_trip_holds_no_id_digest_or_key() -> None:
    manifest = RecordManifest.build(rows(5), key=KEY)
    stored = canonical(manifest.to_json())
    again = RecordManifest.from_json(loads(stored))
    assert dict(again.leaves) == dict(manifest.leaves)
    assert again.root == manifest.root
    for secret in (b"train/", digest("pixels 1").encode(), KEY.hex().encode()):
        assert secret not in stored
    with pytest.raises(InputError, match="no opening"):
        again.opening(0)
    with pytest.raises(InputError):
        encode(manifest)


def test_openings_convince_the_requester_and_nobody_else() -> None:
    opening = RecordManifest.build(rows(5), key=KEY).opening(3)
    check_opening(opening)
    assert KEY.hex() not in repr(opening)
    for change in (
        {"id": "train/0004"},
        {"content_digest": digest("x")},
        {"record_key": "00" * 32},
        {"id_leaf": "00" * 32},
        {"content_leaf": "00" * 32},
    ):
        with pytest.raises(IntegrityError):
            check_opening(replace(opening, **change))
    with pytest.raises(InputError):
        check_opening(replace(opening, record_key="no hex"))


@pytest.mark.parametrize(
    "bad",
    [
        [(0, "a", digest("a")), (0, "b", digest("b"))],
        [(0, "a", digest("a")), (1, "a", digest("b"))],
        [(0, "a", "not a digest")],
        [(0, "a", digest("a").upper())],
        [(-1, "a", digest("a"))],
    ],
)
def test_rows_that_make_no_manifest(bad: list) -> None:
    with pytest.raises(InputError):
        RecordManifest.build(bad, key=KEY)


def test_short_key_is_refused() -> None:
    with pytest.raises(InputError, match="32 bytes"):
        RecordManifest.build(rows(1), key=b"short")


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        {"v": 2, "rows": []},
        {"v": 1, "rows": [], "x": 1},
        {"v": 1, "rows": [[0, "a" * 64]]},
        {"v": 1, "rows": [[0, "a" * 64, "short"]]},
        {"v": 1, "rows": [[0, "a" * 64, 5]]},
        {"v": 1, "rows": [[True, "a" * 64, "b" * 64]]},
        {"v": 1, "rows": [[0, "a" * 64, "b" * 64], [0, "c" * 64, "b" * 64]]},
        {"v": 1, "rows": [[0, "a" * 64, "b" * 64], [1, "a" * 64, "b" * 64]]},
    ],
)
def test_stored_manifests_that_are_damaged(plain: object) -> None:
    with pytest.raises(IntegrityError):
        RecordManifest.from_json(plain)


def test_without_keeps_slots_and_refuses_unknown_ones() -> None:
    manifest = RecordManifest.build(rows(5), key=KEY)
    rest = manifest.without({1, 4})
    assert sorted(rest.leaves) == [0, 2, 3]
    assert all(rest.leaves[slot] == manifest.leaves[slot] for slot in rest.leaves)
    assert rest.root == RecordManifest.build([rows(5)[slot] for slot in (0, 2, 3)], key=KEY).root
    assert rest.opening(2) == manifest.opening(2)
    with pytest.raises(InputError):
        manifest.without({5})
    with pytest.raises(InputError):
        rest.opening(1)


def test_deletion_of_every_slot_is_proven() -> None:
    manifest = RecordManifest.build(rows(12), key=KEY)
    for slot in range(12):
        rest = manifest.without({slot})
        for proof in prove_deletion(manifest, rest, slot):
            verify_deletion(proof, ingested=whole(manifest, proof.kind), retained=whole(rest, proof.kind))
            again = decode(DeletionProof, loads(canonical(encode(proof))))
            assert again == proof


def test_last_record_leaves_an_empty_manifest() -> None:
    manifest = RecordManifest.build(rows(1), key=KEY)
    rest = manifest.without({0})
    for proof in prove_deletion(manifest, rest, 0):
        verify_deletion(proof, ingested=whole(manifest, proof.kind), retained=whole(rest, proof.kind))


def test_no_proof_while_the_record_is_there() -> None:
    manifest = RecordManifest.build(rows(5), key=KEY)
    with pytest.raises(EvidenceError, match="still"):
        prove_deletion(manifest, manifest.without({1}), 2)
    with pytest.raises(InputError, match="never ingested"):
        prove_deletion(manifest, manifest, 99)


def test_same_pixels_under_another_id_block_the_content_proof() -> None:
    twins = [*rows(6), (6, "train/copy", digest("pixels 2"))]
    manifest = RecordManifest.build(twins, key=KEY)
    rest = manifest.without({2})
    rest.prove_absence(manifest.leaves[2][0], "id")
    with pytest.raises(EvidenceError, match="still"):
        prove_deletion(manifest, rest, 2)
    both = manifest.without({2, 6})
    for proof in prove_deletion(manifest, both, 2):
        verify_deletion(proof, ingested=whole(manifest, proof.kind), retained=whole(both, proof.kind))


def test_record_never_ingested_cannot_be_called_deleted() -> None:
    manifest = RecordManifest.build(rows(5), key=KEY)
    rest = manifest.without({2})
    proof = prove_deletion(manifest, rest, 2)[0]
    stranger = leaves_of(KEY, "never there", digest("x"))[0]
    gap = rest.prove_absence(stranger)
    verify_absence(gap, stranger, rest.root, rest.size)
    with pytest.raises(ProofError):
        verify_deletion(replace(proof, leaf=stranger, absent=gap), ingested=whole(manifest), retained=whole(rest))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 20), st.data())
def test_no_gap_can_be_claimed_where_a_leaf_stands(n: int, draw: st.DataObject) -> None:
    """Every pair of honest positions, offered as neighbours of a leaf that is there, is refused."""
    leaves = [digest(str(k)) for k in range(n)]
    tree = SortedTree(leaves)
    present = draw.draw(st.sampled_from(leaves))
    places = [None, *range(n)]
    left, right = draw.draw(st.sampled_from(places)), draw.draw(st.sampled_from(places))
    forged = AbsenceProof(
        left=None if left is None else tree._neighbour(left), right=None if right is None else tree._neighbour(right)
    )
    with pytest.raises(ProofError):
        verify_absence(forged, present, tree.root, n)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers())
def test_every_absent_leaf_can_be_proven_absent(n: int, seed: int) -> None:
    tree = SortedTree([digest(str(k)) for k in range(n)])
    absent = digest(f"absent {seed}")
    proof = tree.prove_absence(absent)
    verify_absence(proof, absent, tree.root, n)
    with pytest.raises(ProofError):
        verify_absence(proof, absent, tree.root, n + 1)
    with pytest.raises(ProofError):
        verify_absence(proof, absent, "sha256:" + digest("another root"), n)


def test_neighbours_of_another_tree_are_refused() -> None:
    ours, theirs = (SortedTree([digest(f"{name}{k}") for k in range(8)]) for name in "ab")
    absent = digest("x")
    verify_absence(theirs.prove_absence(absent), absent, theirs.root, 8)
    with pytest.raises(ProofError):
        verify_absence(theirs.prove_absence(absent), absent, ours.root, 8)


def test_unsorted_tree_is_the_hole_that_the_audit_closes() -> None:
    """An owner who files a leaf out of order can 'prove' it absent; audit_sorted is what finds that."""
    manifest = RecordManifest.build(rows(8), key=KEY)
    leaves = sorted(leaf for leaf, _ in manifest.leaves.values())
    hidden = leaves[3]
    shuffled = [*leaves[:3], *leaves[4:], hidden]
    crooked = SortedTree.__new__(SortedTree)
    from expunge.evidence.merkle import Tree

    crooked.leaves = tuple(shuffled)
    crooked._tree = Tree([leaf_hash(bytes.fromhex(leaf)) for leaf in shuffled])
    forged = AbsenceProof(left=crooked._neighbour(2), right=crooked._neighbour(3))
    verify_absence(forged, hidden, crooked.root, 8)  # the hole
    manifest.audit_sorted(root=manifest.root, content_root=manifest.content_root)
    with pytest.raises(IntegrityError, match="sorted"):
        manifest.audit_sorted(root=crooked.root, content_root=manifest.content_root)
    with pytest.raises(IntegrityError, match="sorted"):
        manifest.audit_sorted(root=manifest.root, content_root=crooked.root)
