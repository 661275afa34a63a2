"""Certificates that lie, each by the name of the lie. Every test first shows that the honest bundle passes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from attack.bundles import HONEST, check, failed, forged_log, reason, with_files
from evidence.story import NOW, NUMERICS, Story, digest, findings, policy, spoiled
from expunge.core.codec import canonical, encode, loads
from expunge.core.errors import InputError
from expunge.core.finding import Finding, Guarantee, Verdict
from expunge.core.plan import CheckSpec
from expunge.core.policy import Demand, Limits, Policy
from expunge.evidence.bundle import read_bundle, zip_bytes
from expunge.evidence.envelope import sign_envelope
from expunge.evidence.keys import Root, TrustRoots
from expunge.evidence.signers.file import FileSigner
from expunge.evidence.statement import build_statement, parse_statement
from expunge.evidence.verify import Expectation, verify_bundle

# ------------------------------------------------------------------------------------------------------------ files


def test_a_changed_byte_in_any_file_is_found(story: Story) -> None:
    files = read_bundle(story.folder / "bundle.zip").files
    assert len(files) == 11
    rng = random.Random(2)
    for name, data in files.items():
        for position in {0, len(data) // 2, len(data) - 1, *(rng.randrange(len(data)) for _ in range(12))}:
            changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
            assert failed(check(story, with_files(story, {name: changed}))), f"{name} at {position}"


def test_a_removed_file_is_found(story: Story) -> None:
    files = read_bundle(story.folder / "bundle.zip").files
    for name in files:
        assert failed(check(story, zip_bytes({key: data for key, data in files.items() if key != name}))), name


def test_a_figure_nobody_signed_for_is_found(story: Story) -> None:
    assert failed(check(story, with_files(story, {"figures/extra.svg": b"<svg/>"}))) == [6]


def test_verifier_in_the_bundle_replaced_by_one_that_always_says_yes(story: Story) -> None:
    assert failed(check(story, with_files(story, {"verify.py": b"print('VERIFIED')"}))) == [6]


# ------------------------------------------------------------------------------------------------------- signatures


def test_one_key_signing_twice_is_not_two_keys(story: Story) -> None:
    one = sign_envelope(story.statement, [story.signers["operator"]])
    twice = {**one, "signatures": one["signatures"] * 2}
    assert failed(check(story, with_files(story, {"certificate.json": canonical(twice)}))) == [2]
    assert failed(check(story, with_files(story, {"certificate.json": canonical(one)}))) == [2]
    with pytest.raises(InputError):
        sign_envelope(story.statement, [story.signers["operator"]] * 2)


def test_two_operators_do_not_make_a_verifier(story: Story, tmp_path: Path) -> None:
    second = FileSigner.create(tmp_path / "second.pem")
    roots = TrustRoots(keys=(*story.roots.keys, Root.of(second, name="second", role="operator")))
    envelope = sign_envelope(story.statement, [story.signers["operator"], second])
    assert failed(check(story, with_files(story, {"certificate.json": canonical(envelope)}), roots=roots)) == [2]


def test_the_log_key_does_not_sign_certificates(story: Story) -> None:
    envelope = sign_envelope(story.statement, [story.signers["operator"], story.signers["log"]])
    assert failed(check(story, with_files(story, {"certificate.json": canonical(envelope)}))) == [2]


def test_keys_brought_by_the_bundle_are_not_roots(tmp_path: Path, story: Story) -> None:
    (tmp_path / "forger").mkdir()
    forger = Story(tmp_path / "forger" / "s")
    forger.tell()
    assert check(forger).ok
    assert failed(check(forger, roots=story.roots)) == [2]


def test_empty_roots_and_absent_policy_are_refused(story: Story) -> None:
    result = check(story, roots=TrustRoots(keys=()))
    assert failed(result) == [2]
    assert "hold no" in reason(result, 2)
    assert failed(check(story, policy=None)) == [8]
    only_log = TrustRoots(keys=story.roots.role("log"))
    assert failed(check(story, roots=only_log)) == [2]
    no_log = TrustRoots(keys=story.roots.role("operator", "verifier"))
    assert failed(check(story, roots=no_log)) == [4]


def test_signature_moved_to_another_statement(story: Story) -> None:
    other = build_statement(replace(parse_statement(story.statement).predicate, expires_at=NOW + timedelta(days=9999)))
    forged = {**story.envelope, "payload": sign_envelope(other, [story.signers["operator"]])["payload"]}
    assert failed(check(story, with_files(story, {"certificate.json": canonical(forged)}))) == [2]


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        {"payload": "", "payloadType": "x", "signatures": []},
        {"payload": 5, "payloadType": "x", "signatures": [{"keyid": "a", "sig": "b"}]},
        {"payload": "!!!!", "payloadType": "x", "signatures": [{"keyid": "a", "sig": "AAAA"}]},
        {"payload": "AAAA", "payloadType": "text/plain", "signatures": [{"keyid": "a", "sig": "AAAA"}]},
        {"payload": "AAAA", "payloadType": "x", "signatures": [{"keyid": "a", "sig": "AAAA", "x": "y"}]},
        {"payload": "AAAA", "payloadType": "x", "signatures": ["AAAA"]},
        {"payload": "AAAA", "payloadType": "x", "signatures": [{"keyid": "a", "sig": "AAAA"}] * 17},
    ],
)
def test_malformed_envelopes_fail_without_an_exception(story: Story, envelope: Any) -> None:
    assert failed(check(story, with_files(story, {"certificate.json": canonical(envelope)}))) == [2]


# ---------------------------------------------------------------------------------------------- other people's cases


def two_cases(tmp_path: Path) -> tuple[Story, Story]:
    """Two honest cases in one log, by the same keys, about the same data."""
    first = Story(tmp_path / "s")
    second = Story(tmp_path / "s", handle="case-0002", forget=(5,), skip_ingestion=True)
    with first.open_log() as log:
        first.intake(log)
        second.intake(log)
        for story in (first, second):
            story.run(log)
            story.seal(log, f"{story.handle}.zip")
    for story in (first, second):
        assert verify_bundle(story.folder / f"{story.handle}.zip", roots=story.roots, policy=policy()).ok
    return first, second


def test_certificate_of_another_case_is_refused(tmp_path: Path) -> None:
    mine, other = two_cases(tmp_path)
    whole = other.folder / f"{other.handle}.zip"
    for expect in (
        Expectation(opening=mine.opening),
        Expectation(records=(mine.record,)),
        Expectation(model=mine.model),
    ):
        assert failed(verify_bundle(whole, roots=mine.roots, policy=policy(), expect=expect)) == [12]
    theirs = Expectation(model=other.model, opening=other.opening, records=(other.record,))
    assert verify_bundle(whole, roots=mine.roots, policy=policy(), expect=theirs).ok


@pytest.mark.parametrize("swapped", ["certificate.json", "log.json", "absence.json", "checkpoint.txt"])
def test_files_of_another_case_are_refused(tmp_path: Path, swapped: str) -> None:
    mine, other = two_cases(tmp_path)
    files = {s.handle: dict(read_bundle(s.folder / f"{s.handle}.zip").files) for s in (mine, other)}
    mixed = zip_bytes({**files[mine.handle], swapped: files[other.handle][swapped]})
    assert failed(verify_bundle(mixed, roots=mine.roots, policy=policy()))


# ------------------------------------------------------------------------------------------------------ order, plans


@pytest.mark.parametrize(
    "order",
    [
        ("candidate.executed", "plan.committed", "findings.recorded", "decision.made", "model.released", "data.purged"),
        ("plan.committed", "findings.recorded", "candidate.executed", "decision.made", "model.released", "data.purged"),
        ("plan.committed", "candidate.executed", "decision.made", "findings.recorded", "model.released", "data.purged"),
        ("plan.committed", "candidate.executed", "findings.recorded", "data.purged", "decision.made", "model.released"),
        ("plan.committed", "candidate.executed", "findings.recorded", "decision.made", "model.released"),
        (*HONEST[:4], "plan.committed", *HONEST[4:]),
    ],
    ids=["result older than its plan", "findings first", "decided unseen", "purged early", "no purge", "plan after"],
)
def test_steps_out_of_order(tmp_path: Path, order: tuple[str, ...]) -> None:
    story = Story(tmp_path / "s", order=order)
    story.tell()
    assert 6 in failed(check(story))


def test_clock_set_back_does_not_reorder_the_case(tmp_path: Path) -> None:
    story = Story(tmp_path / "s")
    with story.open_log() as log:
        real = log.append
        log.append = lambda kind, payload, case=None: real(  # type: ignore[method-assign]
            kind, payload, case=case, now=NOW - timedelta(days=log.size)
        )
        story.intake(log)
        story.run(log)
        story.seal(log)
    assert check(story).ok


class Released(Story):
    """What the log says went into service is in `released`."""

    released: Mapping[str, Any] = {}

    def payloads(self) -> dict[str, dict[str, Any]]:
        payloads = super().payloads()
        return {**payloads, "model.released": {**payloads["model.released"], **self.released}}


def test_certified_model_that_was_never_put_in_service(tmp_path: Path) -> None:
    story = Story(tmp_path / "s", order=tuple(kind for kind in HONEST if kind != "model.released"))
    story.tell()
    result = check(story)
    assert failed(result) == [6]
    assert "not put in service" in reason(result, 6)


@pytest.mark.parametrize(
    "order", [(*HONEST[:3], HONEST[4], HONEST[3], HONEST[5]), (*HONEST[:4], *HONEST[4:5] * 2, HONEST[5])]
)
def test_model_put_in_service_before_it_was_judged_or_twice(tmp_path: Path, order: tuple[str, ...]) -> None:
    story = Story(tmp_path / "s", order=order)
    story.tell()
    assert failed(check(story)) == [6]


@pytest.mark.parametrize("field", ["model", "replaces"])
def test_certificate_of_one_model_while_another_is_served(tmp_path: Path, field: str) -> None:
    for number, other in enumerate((digest("another model"), None, {})):
        story = Released(tmp_path / f"{number}" / "s")
        story.folder.mkdir(parents=True, exist_ok=True)
        story.released = {field: other}
        story.tell()
        result = check(story)
        assert failed(result) == [6]
        assert "of service" in reason(result, 6) or "in service" in reason(result, 6)


@pytest.mark.parametrize("model", ["model before", "another model"])
@pytest.mark.parametrize("own", [True, False], ids=["in the case", "outside any case"])
def test_original_put_back_in_service_after_the_certificate(story: Story, model: str, own: bool) -> None:
    with story.open_log() as log:
        rows = [(entry.kind, entry.payload, entry.case) for entry in log.entries()]
    back = {"model": digest(model), "replaces": story.model}
    place = len(rows)
    result = forged_log(story, [*rows, ("model.released", back, story.handle if own else None)], f"back{place}")
    assert failed(result) == [6]
    assert "model in service since index" in reason(result, 6)
    same = {"model": story.model, "replaces": digest("between")}
    assert forged_log(story, [*rows, ("model.released", same, None)], "same").ok


class Forked(Story):
    """The owner shows another plan than the one that was logged before the run."""

    shown: Callable[[dict[str, Any]], None]
    changed = False

    def plan(self) -> Any:
        plan = super().plan()
        loose = tuple(replace(spec, limits={**spec.limits, "margin": "0.5"}) for spec in plan.checks)
        return replace(plan, checks=loose) if self.changed else plan


def test_changed_threshold_after_run_is_found(tmp_path: Path) -> None:
    story = Forked(tmp_path / "s")
    with story.open_log() as log:
        story.intake(log)
        entry = log.append("plan.committed", story.payloads()["plan.committed"], case=story.handle)
        story.plan_index, story.changed = entry.index, True
        story.order = story.order[1:]
        story.run(log)
        story.seal(log)
    result = check(story, policy=policy(margin=0.5))
    assert failed(result) == [6]
    assert "plan in the log" in reason(result, 6)


def test_plan_with_looser_limits_than_mine_is_refused(tmp_path: Path) -> None:
    loose = {k: str(v) for k, v in encode(Limits(margin=0.5)).items()}
    story = Story(tmp_path / "s", limits=loose, found=findings(margin=0.5))
    story.tell()
    result = check(story)
    assert failed(result) == [8]
    assert "membership.margin = 0.5, yours 0.2" in reason(result, 8)
    assert check(story, policy=policy(margin=0.5)).ok


class Planned(Story):
    """A plan whose checks the owner chose to leave thin."""

    checks: tuple[CheckSpec, ...] = ()

    def plan(self) -> Any:
        return replace(super().plan(), checks=self.checks)


def thin(story: Story) -> dict[str, tuple[CheckSpec, ...]]:
    whole = Story.plan(story).checks
    return {
        "empty plan": (),
        "a demanded check not planned": tuple(spec for spec in whole if spec.check != "membership"),
        "no limits": tuple(replace(spec, limits={}) for spec in whole),
        "one limit left out": tuple(
            replace(spec, limits={key: value for key, value in spec.limits.items() if key != "alpha"}) for spec in whole
        ),
        "a second, thinner spec of the same check": (*whole, CheckSpec(check="membership", limits={})),
    }


@pytest.mark.parametrize(
    "attack",
    [
        "empty plan",
        "a demanded check not planned",
        "no limits",
        "one limit left out",
        "a second, thinner spec of the same check",
    ],
)
def test_soft_policy_of_an_empty_or_thinner_plan_bypasses_nothing(tmp_path: Path, attack: str) -> None:
    story = Planned(tmp_path / "s")
    story.checks = thin(story)[attack]
    story.tell()
    result = check(story)
    assert failed(result) == [8]
    assert "soft policy" in reason(result, 8)


@pytest.mark.parametrize(
    "limit",
    ["alpha", "margin", "absolute_margin", "accuracy_margin", "class_margin", "max_attempts", "power", "signals"],
)
def test_soft_policy_by_leaving_out_any_single_limit(tmp_path: Path, limit: str) -> None:
    limits = {key: str(value) for key, value in encode(Limits()).items() if key != limit}
    story = Story(tmp_path / "s", limits=limits)
    story.tell()
    result = check(story)
    assert failed(result) == [8]
    assert f"membership.{limit}: no limit" in reason(result, 8)


def test_a_check_that_i_only_want_reported_needs_no_limits(tmp_path: Path) -> None:
    extra = Finding(check="utility", question="q", statistic="s", verdict=Verdict.PASS, reason="fine", n=3)
    story = Planned(tmp_path / "s", found=(*findings(), extra))
    story.checks = tuple(
        replace(spec, limits={}) if spec.check == "utility" else spec for spec in Story.plan(story).checks
    )
    story.tell()
    rules = {**policy().guarantees["EXACT"], "utility": Demand.REPORT}
    assert check(story, policy=Policy(name="m", guarantees={"EXACT": rules}, limits=Limits())).ok
    strict = {**rules, "utility": Demand.MUST_NOT_FAIL}
    assert failed(check(story, policy=Policy(name="m", guarantees={"EXACT": strict}, limits=Limits()))) == [8]


def test_findings_that_do_not_satisfy_my_policy(tmp_path: Path) -> None:
    story = Story(tmp_path / "s", found=findings(Verdict.FAIL))
    story.tell()
    result = check(story)
    assert failed(result) == [8]
    assert "membership: FAIL" in reason(result, 8)
    strict = {"provenance": Demand.MUST_PASS, "membership": Demand.MUST_NOT_FAIL, "deployed": Demand.MUST_NOT_FAIL}
    extra = Policy(name="m", guarantees={"EXACT": {**strict, "utility": Demand.MUST_PASS}}, limits=Limits())
    assert "utility: not run" in reason(check(story, policy=extra), 8)
    other = Policy(name="m", guarantees={"EMPIRICAL": policy().guarantees["EMPIRICAL"]}, limits=Limits())
    assert "no rule for EXACT" in reason(check(story, policy=other), 8)


def test_outside_method_is_capped_at_empirical(tmp_path: Path) -> None:
    class Outside(Story):
        def plan(self) -> Any:
            return replace(super().plan(), method_origin="their-package==1 sha256:00")

    story = Outside(tmp_path / "s")
    story.tell()
    assert "capped at EMPIRICAL" in reason(check(story), 8)


def test_guarantee_above_what_the_plan_aimed_at(tmp_path: Path) -> None:
    class Modest(Story):
        def plan(self) -> Any:
            return replace(super().plan(), aims_at=Guarantee.EMPIRICAL)

    story = Modest(tmp_path / "s", found=findings(Verdict.PASS))
    story.tell()
    result = check(story)
    assert failed(result) == [6]
    assert "more is granted" in reason(result, 6)


LIES: dict[str, tuple[Callable[[Any], Any], list[int]]] = {
    "another handle": (lambda p: replace(p, case=replace(p.case, handle="case-9999")), [6]),
    "another request": (lambda p: replace(p, case=replace(p.case, request="hmac-sha256:" + "1" * 64)), [6]),
    "another model after": (lambda p: replace(p, models=replace(p.models, after=digest("other"))), [6]),
    "another model before": (lambda p: replace(p, models=replace(p.models, before=digest("other"))), [6]),
    "another method": (lambda p: replace(p, method=replace(p.method, name="retrain")), [6]),
    "other parameters": (lambda p: replace(p, method=replace(p.method, params=digest("other"))), [6]),
    "another policy": (spoiled(policy=digest("other")), [6]),
    "other numerics": (spoiled(numerics=replace(NUMERICS, threads=8)), [6]),
    "an earlier plan index": (lambda p: replace(p, plan=replace(p.plan, index=p.plan.index - 1)), [6]),
    "more attempts": (spoiled(attempts=2), [6]),
    "better findings": (spoiled(findings=findings(Verdict.PASS)), [6]),
    "a finding dropped": (spoiled(findings=findings()[:2]), [6]),
    "another log": (lambda p: replace(p, log=replace(p.log, origin="other.example")), [4]),
    "a later log": (lambda p: replace(p, log=replace(p.log, size=p.log.size + 50)), [4]),
    "more left than there is": (
        lambda p: replace(p, data_after=replace(p.data_after, present=p.data_after.present - 1)),
        [6, 7],
    ),
    "another root after": (lambda p: replace(p, data_after=replace(p.data_after, root=digest("x"))), [6, 7]),
    "another content root after": (
        lambda p: replace(p, data_after=replace(p.data_after, content_root=digest("x"))),
        [6, 7],
    ),
    "another root before": (lambda p: replace(p, data_before=replace(p.data_before, root=digest("x"))), [7]),
    "expired": (spoiled(issued_at=NOW - timedelta(days=9), expires_at=NOW - timedelta(days=1)), [10]),
    "issued in the future": (spoiled(issued_at=NOW + timedelta(days=1)), [10]),
}


@pytest.mark.parametrize("lie", LIES)
def test_signed_statement_that_lies_against_log_or_files(tmp_path: Path, lie: str) -> None:
    spoil, steps = LIES[lie]
    story = Story(tmp_path / "s", spoil=spoil)
    try:
        story.tell()
    except InputError:
        pytest.fail("the lie must reach the verifier, not the writer")
    assert failed(check(story)) == steps


def test_written_sentence_signed_by_both_keys_is_found(tmp_path: Path) -> None:
    story = Story(tmp_path / "s")
    with story.open_log() as log:
        story.intake(log)
        story.run(log)
        plain = loads(story.statement)
        plain["predicate"]["sentence"] = "All influence of the person was removed."
        story.statement = canonical(plain)
        story.seal(log)
    assert failed(check(story)) == [9]


def test_statement_without_a_mandatory_section_signed_by_both_keys_is_found(tmp_path: Path) -> None:
    for number, field in enumerate(("backups", "recipients")):
        story = Story(tmp_path / f"{number}")
        with story.open_log() as log:
            story.intake(log)
            story.run(log)
            plain = loads(story.statement)
            plain["predicate"]["not_covered"][field] = ""
            story.statement = canonical(plain)
            with pytest.raises(InputError, match=field):
                story.seal(log)
        honest = Story(tmp_path / f"honest{number}")
        honest.tell()
        envelope = sign_envelope(story.statement, [story.signers["operator"], story.signers["verifier"]])
        assert failed(check(honest, with_files(honest, {"certificate.json": canonical(envelope)}))) == [3]
