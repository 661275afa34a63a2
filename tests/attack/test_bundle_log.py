"""Certificates whose log, roots, receipts or co-signatures lie. Every test first shows that the honest bundle passes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from attack.bundles import check, failed, reason, with_files
from evidence.story import NOW, NUMERICS, ORIGIN, Story, digest
from expunge.core.codec import canonical, encode, loads, sha256_hex
from expunge.evidence.absence import tree_leaf
from expunge.evidence.bundle import write_bundle
from expunge.evidence.envelope import sign_envelope
from expunge.evidence.keys import Root, TrustRoots
from expunge.evidence.log import AuditLog
from expunge.evidence.manifest import RecordManifest, prove_deletion
from expunge.evidence.merkle import InclusionProof, Tree
from expunge.evidence.recompute import Recompute, sign_recompute
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.statement import build_statement, parse_statement
from expunge.evidence.verify import Expectation

# ------------------------------------------------------------------------------------------------------- log, roots


def test_statement_issued_twice_with_only_one_logged(story: Story) -> None:
    other = build_statement(replace(parse_statement(story.statement).predicate, expires_at=NOW + timedelta(days=400)))
    envelope = sign_envelope(other, [story.signers["operator"], story.signers["verifier"]])
    result = check(story, with_files(story, {"certificate.json": canonical(envelope)}))
    assert failed(result) == [6]
    assert "certificate in the log" in reason(result, 6)


def test_data_root_made_up_after_the_plan(tmp_path: Path) -> None:
    story = Story(tmp_path / "s", skip_ingestion=True)
    with story.open_log() as log:
        story.intake(log)
        story.run(log)
        log.append("data.ingested", {"data": encode(story.data(story.before))})
        story.seal(log)
    result = check(story)
    assert failed(result) == [7]
    assert "not logged before the plan" in reason(result, 7)


def test_absence_proof_of_another_record(tmp_path: Path) -> None:
    class Cheat(Story):
        """Proves slot 5 absent from a tree of its own while slot 3 was asked for."""

        def files(self) -> dict[str, bytes]:
            proofs = prove_deletion(self.before, self.before.without({5}), 5)
            return {**super().files(), "absence.json": canonical(encode(list(proofs)))}

    story = Cheat(tmp_path / "s")
    story.tell()
    assert failed(check(story)) == [7]


def test_deleting_somebody_else_does_not_answer_my_request(tmp_path: Path) -> None:
    story = Story(tmp_path / "s", forget=(5,))
    story.tell()
    assert check(story).ok
    mine = story.before.opening(3)
    assert failed(check(story, expect=Expectation(records=(mine,)))) == [12]


def test_fewer_absence_proofs_than_records(tmp_path: Path) -> None:
    class Lazy(Story):
        def files(self) -> dict[str, bytes]:
            files = super().files()
            return {**files, "absence.json": canonical(loads(files["absence.json"])[:-1])}

    for forget in ((3,), (3, 4)):
        story = Lazy(tmp_path / str(len(forget)), forget=forget)
        story.tell()
        assert failed(check(story)) == [7]


class Repeating(Story):
    """Proves the content of one forgotten record twice, in place of the other's."""

    def files(self) -> dict[str, bytes]:
        one, other = (prove_deletion(self.before, self.after, slot) for slot in self.forget)
        proofs = [one[0], one[1], other[0], one[1]]
        return {**super().files(), "absence.json": canonical(encode(proofs))}


def test_one_content_proof_shown_twice_is_one_record(tmp_path: Path) -> None:
    story = Repeating(tmp_path / "s", forget=(3, 4))
    story.tell()
    result = check(story)
    assert failed(result) == [7]
    assert "number of content proofs" in reason(result, 7)


class Twins(Story):
    """Slots 3 and 4 hold the same content: one content leaf at two places."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = [(slot, f"train/{slot:04}", sha256_hex(b"%d" % (3 if slot == 4 else slot))) for slot in range(9)]
        self.before = RecordManifest.build(rows, key=self.seed)
        self.after = self.before.without(set(self.forget))


class TwinsAtTheirPlaces(Twins):
    """Each content proof shows its own place among the ingested contents."""

    def files(self) -> dict[str, bytes]:
        (first, content), (second, _) = (prove_deletion(self.before, self.after, slot) for slot in self.forget)
        leaves, place = self.before.tree("content").leaves, content.ingested.index + 1
        assert leaves[place] == content.leaf
        path = tuple(item.hex() for item in Tree(tree_leaf(leaf) for leaf in leaves).inclusion(place))
        twin = replace(content, ingested=InclusionProof(index=place, size=len(leaves), path=path))
        return {**super().files(), "absence.json": canonical(encode([first, content, second, twin]))}


def test_two_deleted_records_with_the_same_content_at_their_own_places_are_two(tmp_path: Path) -> None:
    story = TwinsAtTheirPlaces(tmp_path / "s", forget=(3, 4))
    story.tell()
    assert check(story).ok, check(story).lines()


def test_two_deleted_records_with_the_same_content_are_proven_at_their_own_places(tmp_path: Path) -> None:
    story = Twins(tmp_path / "s", forget=(3, 4))
    story.tell()
    assert check(story).ok, check(story).lines()


def test_fork_after_the_receipt_is_found(tmp_path: Path) -> None:
    """The requester's receipt is from a log the owner later threw away and rewrote."""
    first = Story(tmp_path / "a")
    with first.open_log() as log:
        log.append("data.ingested", {"rewritten": True})
        receipt = first.intake(log)
    story = Story(tmp_path / "b")
    story.tell()
    assert check(story).ok
    assert 11 in failed(check(story, against=receipt))


def test_rollback_behind_the_receipt_is_found(story: Story) -> None:
    with story.open_log() as log:
        log.append("later", {})
        receipt = log.checkpoint()
        proof = log.prove_consistency(int(story.checkpoint.split("\n")[1]))
    result = check(story, against=receipt)
    assert failed(result) == [11]
    assert "consistency proof" in reason(result, 11)
    assert check(story, against=receipt, expect=Expectation(consistency=proof)).ok


def test_receipt_of_the_same_size_with_another_root_is_a_fork(story: Story, tmp_path: Path) -> None:
    size = int(story.checkpoint.split("\n")[1])
    with AuditLog(tmp_path / "fork.db", signer=story.signers["log"], origin=ORIGIN) as log:
        log.append_many([("k", {"n": n}, None) for n in range(size)])
        forked = log.checkpoint()
    result = check(story, against=forked)
    assert failed(result) == [11]
    assert "FORK" in reason(result, 11)


def test_forged_receipt_proves_nothing(story: Story, tmp_path: Path) -> None:
    with AuditLog(tmp_path / "x.db", signer=FileSigner.create(tmp_path / "x.pem"), origin=ORIGIN) as log:
        assert failed(check(story, against=log.checkpoint())) == [11]
    assert failed(check(story, against="not a note")) == [11]


def test_checkpoint_from_before_the_certificate(story: Story) -> None:
    assert failed(check(story, with_files(story, {"checkpoint.txt": story.receipt.encode()}))) == [4]


def test_revoked_certificate_is_refused(story: Story) -> None:
    with story.open_log() as log:
        log.append("certificate.revoked", {"certificate": parse_statement(story.statement).digest}, case=story.handle)
        story.checkpoint = log.checkpoint()
        entries = list(log.entries())
        write_bundle(
            story.folder / "revoked.zip",
            envelope=story.envelope,
            entries=entries,
            proofs=[log.prove_inclusion(e.index) for e in entries],
            checkpoint=story.checkpoint,
            files=story.files(),
        )
    result = check(story, story.folder / "revoked.zip")
    assert failed(result) == [6]
    assert "revoked" in reason(result, 6)


# ------------------------------------------------------------------------------------------------------ co-signature


def test_cosignatures_that_do_not_count(story: Story, tmp_path: Path) -> None:
    third = FileSigner.create(tmp_path / "third.pem")
    roots = TrustRoots(keys=(*story.roots.keys, Root.of(third, name="B", role="verifier")))
    certificate = parse_statement(story.statement).digest
    good = Recompute(certificate=certificate, model=story.model, numerics=NUMERICS, by="B", at=NOW)
    assert check(story, roots=roots, cosignature=sign_recompute(good, third)).ok
    stranger = FileSigner.create(tmp_path / "stranger.pem")
    for made, signer in (
        (good, stranger),
        (good, story.signers["operator"]),
        (good, story.signers["verifier"]),
        (good, story.signers["log"]),
        (replace(good, certificate=digest("another certificate")), third),
        (replace(good, model=digest("another result")), third),
    ):
        assert failed(check(story, roots=roots, cosignature=sign_recompute(made, signer))) == [9]
    assert failed(check(story, roots=roots, cosignature={})) == [9]
    assert failed(check(story, roots=roots, cosignature=story.envelope)) == [9]


def test_weights_swapped_after_the_certificate(story: Story) -> None:
    assert check(story, expect=Expectation(model=story.model)).ok
    assert failed(check(story, expect=Expectation(model=digest("swapped")))) == [12]


def test_bundle_is_not_even_there(story: Story, tmp_path: Path) -> None:
    assert failed(check(story, tmp_path / "none.zip")) == [1]
    shutil.rmtree(story.folder)
    assert failed(check(story)) == [1]
