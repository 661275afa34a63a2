"""The honest certificate verifies, step by step, and says no more than it may."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from evidence.story import NOW, NUMERICS, Story, asked, digest, edited, findings, policy
from expunge.core.codec import canonical, loads
from expunge.core.errors import EvidenceError, InputError
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.evidence.bundle import read_bundle
from expunge.evidence.keys import Root, TrustRoots
from expunge.evidence.predicate import NON_CLAIMS, RECOMPUTED, Bound, NotCovered, Recomputed
from expunge.evidence.recompute import Recompute, sign_recompute
from expunge.evidence.sentence import EVENTS_MEAN, EXACT_MEANS, SELF_ISSUED, SEPARATE, sentence_of
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.statement import build_statement, parse_statement
from expunge.evidence.verify import STEPS, Expectation, Verification, verify_bundle

SCHEMA = Path(__file__).parents[2] / "docs/spec/certificate-v0.1.schema.json"


@pytest.fixture
def story(tmp_path: Path) -> Story:
    story = Story(tmp_path / "s")
    story.tell()
    return story


def check(story: Story, **options: object) -> Verification:
    given = {"roots": story.roots, "policy": policy(), **options}
    return verify_bundle(story.folder / "bundle.zip", **given)  # type: ignore[arg-type]


def failed(result: Verification) -> list[int]:
    return [step.number for step in result.steps if step.status == "failed"]


def test_honest_bundle_verifies_with_everything_the_requester_holds(story: Story) -> None:
    mine = Expectation(model=story.model, opening=story.opening, records=(story.record,))
    result = check(story, against=story.receipt, expect=mine)
    assert [(step.number, step.status) for step in result.steps] == [(n, "ok") for n in range(1, 13)], result.lines()
    assert result.ok
    assert (result.case, result.model, result.guarantee) == (story.handle, story.model, Guarantee.EXACT)
    assert [step.name for step in result.steps] == list(STEPS)


def test_without_receipt_the_optional_steps_are_skipped_with_a_reason(story: Story) -> None:
    result = check(story)
    assert result.ok
    assert [step.number for step in result.steps if step.status == "skipped"] == [11, 12]
    assert "rolled back" in result.steps[10].reason


def test_same_custody_is_the_first_line(story: Story) -> None:
    assert check(story).lines()[0] == SELF_ISSUED
    assert "VERIFIED" in check(story).lines()[1]


def test_separate_custody_is_believed_only_when_the_roots_name_two_owners(tmp_path: Path) -> None:
    story = Story(tmp_path / "s", spoil=lambda p: replace(p, custody="separate"))
    story.tell()
    assert check(story).custody == SEPARATE
    one_owner = TrustRoots(keys=tuple(replace(root, name=f"Acme ({root.role})") for root in story.roots.keys))
    assert check(story, roots=one_owner).custody == SELF_ISSUED


def test_exact_sentence_says_as_logged_and_what_exact_means(story: Story) -> None:
    sentence = check(story).sentence
    assert sentence is not None
    assert sentence.startswith(f"As logged by the owner, the file {story.model}")
    assert "nobody else has recomputed it" in sentence
    assert EXACT_MEANS in sentence
    assert "membership UNVERIFIABLE" in sentence


def test_empirical_sentence_gives_numbers_and_never_says_removed(tmp_path: Path) -> None:
    story = Story(tmp_path / "s", guarantee=Guarantee.EMPIRICAL, found=findings(Verdict.PASS, Verdict.UNVERIFIABLE))
    story.tell()
    result = check(story)
    assert result.ok, result.lines()
    assert result.sentence is not None
    assert (
        "On 48 retrainings, attacks gradient_norm, lira, rmia found a mean residual of 0.03 [-0.11, 0.17]"
        in result.sentence
    )
    assert "at most 0.15 of runs exceeded the midpoint" in result.sentence
    assert not re.search(r"remov|delet|eras|gone|forgot", result.sentence)


def test_empirical_without_a_measured_membership_has_no_sentence(tmp_path: Path) -> None:
    story = Story(tmp_path / "s", guarantee=Guarantee.EMPIRICAL, found=findings()[:1])
    with pytest.raises(InputError, match="measured"):
        story.tell()


def test_the_sentence_of_an_edit_says_what_was_drawn_and_never_that_the_style_is_gone(tmp_path: Path) -> None:
    """Its proof is pictures, and there is no bank behind it."""
    story = Story(tmp_path / "s", guarantee=Guarantee.EMPIRICAL, found=edited())
    story.tell()
    sentence = sentence_of(parse_statement(story.statement).predicate)
    assert sentence.startswith(
        f"The weights of the file {story.model} were edited and not trained again. On 4800 pictures"
    )
    assert "600 pictures" in sentence
    assert "may still hold the style" in sentence
    assert "collateral PASS, style PASS" in sentence
    assert not re.search(r"remov|delet|eras|gone|forgot", sentence)


def test_an_edit_that_a_bank_was_asked_about_keeps_its_sentence_and_shows_what_the_bank_said(tmp_path: Path) -> None:
    """It is a claim about a style: no word of retrainings, and the verdict of the bank is not hidden."""
    story = Story(tmp_path / "s", guarantee=Guarantee.EMPIRICAL, found=(*edited(), asked()))
    story.tell()
    sentence = sentence_of(parse_statement(story.statement).predicate)
    assert sentence.startswith(f"The weights of the file {story.model} were edited and not trained again.")
    assert "Checks: collateral PASS, membership INCONCLUSIVE, style PASS." in sentence
    assert "retrainings" not in sentence


@pytest.mark.parametrize("found", [edited()[:1], edited(Verdict.INCONCLUSIVE)])
def test_an_edit_that_was_not_shown_has_no_sentence(tmp_path: Path, found: tuple[Finding, ...]) -> None:
    with pytest.raises(InputError, match="measured"):
        Story(tmp_path / "s", guarantee=Guarantee.EMPIRICAL, found=found).tell()


def test_certified_sentence_carries_its_bound(story: Story) -> None:
    predicate = parse_statement(story.statement).predicate
    decision = replace(predicate.decision, guarantee=Guarantee.CERTIFIED)
    certified = replace(
        predicate, guarantee=Guarantee.CERTIFIED, decision=decision, bound=Bound(epsilon=1.5, delta=1e-6), sentence=""
    )
    assert "epsilon = 1.5, delta = 1e-06" in sentence_of(certified)


def test_statement_round_trip_and_schema(story: Story) -> None:
    import jsonschema

    parsed = parse_statement(story.statement)
    assert build_statement(parsed.predicate) == story.statement
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert list(validator.iter_errors(json.loads(story.statement))) == []
    older = json.loads(story.statement)
    del older["predicate"]["erased"]  # from before less than a record could be erased
    assert list(validator.iter_errors(older)) == []
    for path in (
        ["predicate", "not_covered", "backups"],
        ["predicate", "sentence"],
        ["subject"],
        ["predicate", "files"],
    ):
        broken = json.loads(story.statement)
        inner = broken
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        assert list(validator.iter_errors(broken)), path
    extra = json.loads(story.statement)
    extra["predicate"]["compliant"] = True
    assert list(validator.iter_errors(extra))


def test_schema_accepts_every_optional_part(story: Story) -> None:
    import jsonschema

    from expunge.evidence.predicate import BankRef

    verifier = story.signers["verifier"]
    full = replace(
        parse_statement(story.statement).predicate,
        bank=BankRef(n=48, q=0.5, destroy_by=NOW, digest=digest("bank")),
        recomputed=Recomputed(name="verifier inc", keyid=verifier.keyid, numerics=NUMERICS),
        guarantee_basis=RECOMPUTED,
        custody="separate",
        sentence="",
        selftest=digest("selftest"),
        selftest_reason="",
    )
    statement = build_statement(full)
    assert not list(jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).iter_errors(loads(statement)))
    assert parse_statement(statement).predicate.bank == full.bank


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"non_claims": NON_CLAIMS[1:]}, "non_claims"),
        ({"selftest": None, "selftest_reason": ""}, "selftest"),
        ({"findings": ()}, "findings"),
        ({"attempts": 0}, "attempts"),
        ({"expires_at": NOW - timedelta(days=1)}, "expires_at"),
        ({"guarantee": Guarantee.EMPIRICAL}, "decision"),
        ({"guarantee_basis": RECOMPUTED}, "recomputed"),
        ({"policy": "nope"}, "policy"),
        ({"version": "9"}, "version"),
        ({"bound": Bound(epsilon=1.0, delta=0.1)}, "bound"),
        ({"findings": (*findings(), findings()[0])}, "answers twice"),
    ],
)
def test_predicates_that_claim_too_much_or_too_little(story: Story, change: dict, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        replace(parse_statement(story.statement).predicate, **change)


@pytest.mark.parametrize("section", ["recipients", "backups", "released_copies", "derived_models"])
def test_sections_on_what_is_not_covered_are_mandatory(section: str) -> None:
    texts = dict.fromkeys(("recipients", "backups", "released_copies", "derived_models"), "not covered")
    NotCovered(**texts)
    with pytest.raises(InputError, match=section):
        NotCovered(**{**texts, section: ""})


def test_written_sentence_is_refused_at_building(story: Story) -> None:
    predicate = parse_statement(story.statement).predicate
    with pytest.raises(InputError, match="generated"):
        build_statement(replace(predicate, sentence="All data was removed."))


def test_statement_of_another_version_is_refused() -> None:
    plain = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"tensorRoot": "0" * 64}}],
        "predicateType": "urn:x-expunge:deletion-certificate:v0.2",
        "predicate": {},
    }
    with pytest.raises(EvidenceError, match="unknown type or version"):
        parse_statement(canonical(plain))


def test_cosignature_of_a_third_key_upgrades_the_basis(story: Story, tmp_path: Path) -> None:
    third = FileSigner.create(tmp_path / "third.pem")
    roots = TrustRoots(keys=(*story.roots.keys, Root.of(third, name="University B", role="verifier")))
    plain = check(story, roots=roots)
    made = Recompute(
        certificate=plain.certificate or "", model=story.model, numerics=NUMERICS, by="whoever I say", at=NOW
    )
    result = check(story, roots=roots, cosignature=sign_recompute(made, third))
    assert result.ok, result.lines()
    assert result.basis == "recomputed by University B"
    assert result.sentence is not None
    assert result.sentence.startswith(f"The file {story.model} was recomputed by University B from data")
    assert plain.basis == "as logged by the owner"


def test_recomputation_inside_the_statement_counts_for_a_separate_verifier_who_signs(tmp_path: Path) -> None:
    story = Story(tmp_path / "s")
    keyid = story.signers["verifier"].keyid

    def claim(keyid: str, name: str, custody: str) -> Story:
        told = Story(
            tmp_path / f"{name}{custody}{keyid[:4]}",
            spoil=lambda p: replace(
                p,
                custody=custody,  # type: ignore[arg-type]
                guarantee_basis=RECOMPUTED,  # type: ignore[arg-type]
                recomputed=Recomputed(name=name, keyid=keyid, numerics=NUMERICS),
            ),
        )
        told.tell()
        return told

    honest = claim(keyid, "verifier inc", "separate")
    assert check(honest).ok, check(honest).lines()
    assert failed(check(claim(story.signers["operator"].keyid, "operator inc", "separate"))) == [9]
    assert failed(check(claim(keyid, "Somebody Famous", "separate"))) == [9]
    with pytest.raises(InputError, match="same custody"):
        claim(keyid, "verifier inc", "same")


def test_bundle_bytes_are_the_same_every_time(story: Story) -> None:
    first = (story.folder / "bundle.zip").read_bytes()
    with story.open_log() as log:
        entries = list(log.entries())
        from expunge.evidence.bundle import write_bundle

        proofs = [*(log.prove_inclusion(e.index) for e in entries), log.prove_consistency(story.receipt_size(log))]
        again = write_bundle(
            story.folder / "again.zip",
            envelope=story.envelope,
            entries=entries[::-1],
            proofs=proofs[::-1],
            checkpoint=story.checkpoint,
            files=dict(reversed(story.files().items())),
        )
    assert again.read_bytes() == first


def test_bundle_holds_no_id_no_key_and_no_content_digest(story: Story) -> None:
    whole = b"".join(read_bundle(story.folder / "bundle.zip").files.values())
    for secret in (b"train/0003", story.seed.hex().encode(), story.record.content_digest.encode()):
        assert secret not in whole


def test_two_records_need_two_proofs(tmp_path: Path) -> None:
    story = Story(tmp_path / "s", forget=(2, 7))
    story.tell()
    result = check(story, expect=Expectation(records=(story.before.opening(2), story.before.opening(7))))
    assert result.ok, result.lines()
    assert "the 2 records" in (result.sentence or "")


def test_specification_names_every_field_and_every_log_entry() -> None:
    from dataclasses import fields

    from expunge.core.case import NEXT
    from expunge.evidence.predicate import Predicate

    text = SCHEMA.with_name("certificate-v0.1.md").read_text()
    schema = json.loads(SCHEMA.read_text())["$defs"]["predicate"]
    names = {field.name for field in fields(Predicate)}
    assert names == set(schema["properties"])
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    optional = {"request.refused", "incident.opened"}
    assert [kind for kind in NEXT if f"`{kind}`" not in text and kind not in optional] == []


def test_standalone_walks_the_case_as_core_does() -> None:
    from expunge.core.case import NEXT
    from expunge.evidence import standalone

    assert set(standalone.NEXT) == set(NEXT)
    for kind, (allowed, after) in standalone.NEXT.items():
        if allowed:
            assert (allowed, after) == ({state.value for state in NEXT[kind][0]}, NEXT[kind][1].value)
    assert (standalone.EXACT_MEANS, standalone.EVENTS_MEAN) == (EXACT_MEANS, EVENTS_MEAN)
