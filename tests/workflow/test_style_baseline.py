"""A style is asked for before it is edited; one that was not learned ends in a statement, and works are owed all the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from expunge.apps.cli.main import app
from expunge.core.codec import canonical
from expunge.core.errors import Held, InputError, IntegrityError, NotErased
from expunge.core.finding import Guarantee, Verdict
from expunge.evidence.envelope import payload_of, sign_envelope
from expunge.evidence.not_learned import ATTACKS, RUNS, WORDS, Scale, build, parse, read_issued, scale_of, sentence_of
from expunge.evidence.verify import Expectation
from expunge.workflow.styles import baseline
from expunge.workflow.styles.kept import FILE, read_kept
from recommending import failed_steps
from testbed import STRANGER, answering, checked, failed, otherwise, undrawn
from workspaces import nothing_changed, vouch_for

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def workspace(workspace_of_works):
    return workspace_of_works


def kinds(workspace):
    return [entry.kind for entry in workspace.log.entries()]


# ------------------------------------------------------------------------------------------------------- the statement


@pytest.mark.parametrize(("style", "works"), [(STRANGER, 0), ("duotone", 4)])
def test_a_style_that_was_not_learned_ends_in_a_statement_and_changes_nothing(workspace, monkeypatch, style, works):
    asked = answering(monkeypatch, 0)
    before = workspace.served().digest
    case = workspace.request(style=style)
    receipt = case.receipt.read_bytes()
    outcome = workspace.run(case)
    assert (outcome.certificate, outcome.guarantee, outcome.trials) == (None, None, ())
    assert asked == [style]
    assert workspace.served().digest == before
    found = checked(workspace, outcome, receipt)
    assert found.ok, found.lines()
    assert {step.status for step in found.steps} == {"ok"}
    said = found.sentence
    assert said.startswith("Not learned, as measured: the file sha256:")
    assert "no proof of absence" in said
    assert "Scale: procedural styles of invented artists at 32x32" in said
    assert ("4 records of the training data are listed under the artist's name" in said) == bool(works)
    assert not any(word in said for word in ("removed", "erased", "compliant"))
    assert not {"plan.committed", "candidate.executed", "model.released", "data.purged"} & set(kinds(workspace))


def test_the_question_is_in_the_log_before_its_answer_and_the_statement(workspace, monkeypatch):
    answering(monkeypatch, 0)
    workspace.run(workspace.request(style=STRANGER))
    assert kinds(workspace)[-4:] == [
        "request.received",
        "baseline.committed",
        "baseline.recorded",
        "not_learned.issued",
    ]


def test_nobody_is_named_in_what_is_published_or_kept(workspace, monkeypatch):
    answering(monkeypatch, 0)
    outcome = workspace.run(workspace.request(style=STRANGER))
    files = [file for file in outcome.statement.path.parent.rglob("*") if file.is_file()]
    files += [workspace.root / "log.db", *(workspace.root / "store" / "baselines").rglob("*.*")]
    assert {file.name for file in files} >= {"not-learned.json", "battery.json", "finding.json"}
    assert [file.name for file in files if STRANGER.encode() in file.read_bytes()] == []


def test_a_style_is_asked_for_once_a_model(workspace, monkeypatch):
    asked = answering(monkeypatch, 0)
    first, second = (workspace.run(workspace.request(style=STRANGER)) for _ in range(2))
    assert asked == [STRANGER]
    assert all(checked(workspace, outcome).ok for outcome in (first, second))


def test_who_asks_until_it_fits_pays_with_the_level_and_is_counted(workspace, monkeypatch):
    """Other counts are another question: it is in the log, it is held to half of the error, and it shows in the statement."""
    answering(monkeypatch, 2)
    with pytest.raises(Held):
        workspace.run(workspace.request(style=STRANGER))
    answering(monkeypatch, 0)
    otherwise(workspace)
    outcome = workspace.run(workspace.request(style=STRANGER))
    found, _ = parse(payload_of(read_issued(outcome.statement.path).envelope))
    assert found.battery.attempt == 2
    assert found.finding.details["level"] == "0.9875"
    strict = replace(workspace.policy, limits=replace(workspace.policy.limits, max_attempts=1))
    assert failed(checked(workspace, outcome, policy=strict)) == [8]


def test_a_killed_question_is_taken_up_again_seed_and_all(workspace, monkeypatch):
    answering(monkeypatch, 0)
    case = workspace.request(style=STRANGER)

    def die(*_, **__):
        raise KeyboardInterrupt

    seeds = []
    real = baseline._measured

    def spied(workspace, question, attempt, folder):
        seeds.append(question.plan.seed)
        return die() if len(seeds) == 1 else real(workspace, question, attempt, folder)

    monkeypatch.setattr(baseline, "_measured", spied)
    with pytest.raises(KeyboardInterrupt):
        workspace.run(case)
    workspace.log.append("something.else", {})
    assert checked(workspace, workspace.run(case)).ok
    assert seeds[0] == seeds[1]
    assert kinds(workspace).count("baseline.committed") == 1


def test_a_crash_after_the_log_knew_of_the_statement_is_repaired(workspace, monkeypatch):
    from expunge.workflow.styles import statement

    answering(monkeypatch, 0)
    case = workspace.request(style=STRANGER)
    with monkeypatch.context() as patch:
        patch.setattr(statement, "close_statement", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            workspace.run(case)
    assert not case.statement.exists()
    assert checked(workspace, workspace.run(case)).ok
    with pytest.raises(InputError, match="closed"):
        workspace.run(case)


def test_an_answer_that_was_changed_on_disk_is_refused(workspace, monkeypatch):
    answering(monkeypatch, 40)
    with pytest.raises(Held):
        workspace.run(workspace.request(style=STRANGER))
    (file,) = (workspace.root / "store" / "baselines").rglob("finding.json")
    file.write_bytes(file.read_bytes().replace(b'"FAIL"', b'"PASS"'))
    with pytest.raises(IntegrityError, match="not the one that was logged"):
        workspace.run(workspace.request(style=STRANGER))


# ----------------------------------------------------------------------------------------------- what is owed all the same


def test_works_are_deleted_whatever_the_model_draws(workspace, monkeypatch):
    """Who asks for works is not put off with "not learned"."""
    asked = answering(monkeypatch, 0)
    undrawn(monkeypatch)
    outcome = workspace.run(workspace.request(block="duotone"))
    assert outcome.guarantee is Guarantee.EXACT
    assert outcome.statement is None
    assert asked == []
    assert failed_steps(workspace, outcome) == []


def test_a_style_that_was_learned_is_answered_by_deleting_the_works(workspace, monkeypatch):
    answering(monkeypatch, 36)
    undrawn(monkeypatch)
    case = workspace.request(style="duotone")
    outcome = workspace.run(case)
    assert outcome.guarantee is Guarantee.EXACT
    assert "the 4 records" in outcome.certificate.sentence
    assert failed_steps(workspace, outcome) == []


def test_a_style_of_which_it_could_not_be_decided_is_deleted_too(workspace, monkeypatch):
    answering(monkeypatch, 2)
    undrawn(monkeypatch)
    assert workspace.run(workspace.request(style="duotone")).guarantee is Guarantee.EXACT
    assert baseline.answered(workspace, "duotone") is None, "it is another model now, and nobody has asked that one"


@pytest.mark.parametrize(("hits", "match"), [(36, "draws the style, and no work"), (2, "could not be decided")])
def test_a_stranger_whom_the_model_draws_is_for_a_person(workspace, monkeypatch, hits, match):
    answering(monkeypatch, hits)
    with nothing_released(workspace), pytest.raises(Held, match=match):
        workspace.run(workspace.request(style=STRANGER))


class nothing_released:
    def __init__(self, workspace):
        self.workspace = workspace

    def __enter__(self):
        self.before = self.workspace.served().digest

    def __exit__(self, *_):
        assert self.workspace.served().digest == self.before
        assert "not_learned.issued" not in kinds(self.workspace)


def test_no_edit_is_tried_on_a_style_that_was_not_learned_and_the_works_go_exactly(workspace, monkeypatch):
    asked = answering(monkeypatch, 0)
    undrawn(monkeypatch)
    outcome = workspace.run(workspace.request(block="duotone"), ["erasers/uce", "retrain"])
    assert [trial.method for trial in outcome.trials] == ["retrain"]
    assert asked == ["duotone"]
    assert "candidate.failed" not in kinds(workspace)


def test_only_edits_on_a_style_that_was_not_learned_are_held_and_open_no_incident(workspace, monkeypatch):
    answering(monkeypatch, 0)
    with pytest.raises(Held, match="nothing is edited"):
        workspace.run(workspace.request(block="duotone"), ["erasers/uce"])
    assert workspace.state().incidents == ()


def test_an_edit_is_tried_where_the_style_was_learned(workspace, monkeypatch):
    answering(monkeypatch, 36)
    undrawn(monkeypatch)
    with pytest.raises(NotErased) as refused:
        workspace.run(workspace.request(block="duotone"), ["erasers/uce"])
    assert [trial.method for trial in refused.value.trials] == ["erasers/uce"]


def test_who_cannot_be_asked_for_is_refused_at_intake(workspace):
    with nothing_changed(workspace.root), pytest.raises(InputError, match="cannot be asked for"):
        workspace.request(style="nobody")
    with nothing_changed(workspace.root), pytest.raises(InputError, match="asked about alone"):
        workspace.request(style=STRANGER, block="neon")


def test_without_another_artist_nothing_would_show_that_a_learned_style_is_seen(workspace, monkeypatch):
    answering(monkeypatch, 0)
    found = baseline.material_for(workspace, STRANGER)
    monkeypatch.setattr(baseline, "material_for", lambda *_: replace(found, retained=()))
    with pytest.raises(Held, match="no other artist"):
        workspace.run(workspace.request(style=STRANGER))


# -------------------------------------------------------------------------------------------------------- a relying party


@pytest.fixture
def issued(workspace, monkeypatch):
    answering(monkeypatch, 0)
    case = workspace.request(style=STRANGER)
    receipt = case.receipt.read_bytes()
    return workspace, workspace.run(case), receipt


def rewritten(outcome, change):
    plain = json.loads(outcome.statement.path.read_bytes())
    change(plain)
    outcome.statement.path.write_bytes(canonical(plain))


def signed_anew(workspace, outcome, **changes):
    """The owner signs another statement over the same log: what only the log stands against."""
    found, _ = parse(payload_of(read_issued(outcome.statement.path).envelope))
    payload = build(replace(found, **changes))
    envelope = sign_envelope(payload, [workspace.signer("operator"), workspace.signer("verifier")])
    rewritten(outcome, lambda plain: plain.update(envelope=envelope))


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (lambda p: p["envelope"]["signatures"].pop(), 2),
        (lambda p: p.update(v=2), 1),
        (lambda p: p["log"]["entries"].pop(), 6),
        (lambda p: p["log"]["entries"].pop(0), 7),
        (lambda p: p["log"]["entries"].reverse(), 1),
        (lambda p: p["log"]["entries"][0]["body"]["payload"].update(x=1), 5),
        (lambda p: p.update(checkpoint=p["checkpoint"].replace("\n\n", "\n\n\n")), 4),
        (lambda p: p["selftest"].update(size="other"), 8),
    ],
)
def test_a_tampered_statement_is_found(issued, change, step):
    workspace, outcome, receipt = issued
    rewritten(outcome, change)
    assert failed(checked(workspace, outcome, receipt)) == [step]


def test_a_statement_that_the_log_does_not_hold_is_found(issued):
    workspace, outcome, receipt = issued
    signed_anew(workspace, outcome, works=3)
    assert failed(checked(workspace, outcome, receipt)) == [6]


def test_changed_weights_are_not_those_that_were_asked(issued):
    workspace, outcome, receipt = issued
    other = Expectation(model="sha256:" + "0" * 64)
    assert failed(checked(workspace, outcome, receipt, expect=other)) == [12]


def test_a_statement_about_a_style_is_no_answer_to_a_request_for_works(issued):
    workspace, outcome, _ = issued
    works = workspace.request(block="duotone")
    found = checked(workspace, outcome, works.receipt.read_bytes(), against=None)
    assert failed(found) == [12]


def test_a_policy_for_another_kind_of_model_accepts_none(issued):
    from expunge.workflow.policy import DEFAULT, parse_policy

    workspace, outcome, receipt = issued
    assert failed(checked(workspace, outcome, receipt, policy=parse_policy(DEFAULT))) == [8]


def test_a_finding_that_shows_nothing_makes_no_statement(issued):
    _, outcome, _ = issued
    found, _ = parse(payload_of(read_issued(outcome.statement.path).envelope))
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIABLE):
        with pytest.raises(InputError, match="does not show"):
            replace(found, finding=replace(found.finding, verdict=verdict))
    said = found.finding.conditions
    without_attack, undecided = said[:2], (*said[:2], replace(said[2], verdict=Verdict.INCONCLUSIVE))
    for conditions in ((), said[1:], without_attack, undecided):
        with pytest.raises(InputError, match="does not show"):
            replace(found, finding=replace(found.finding, conditions=conditions))
    with pytest.raises(InputError, match="does not show"):
        replace(found, finding=replace(found.finding, limit=0.2))
    assert sentence_of(found) == found.sentence


def test_an_answer_survives_another_self_test(issued):
    workspace, _, _ = issued
    vouch_for(workspace)
    assert checked(workspace, workspace.run(workspace.request(style=STRANGER))).ok


def test_the_verbs_ask_plan_run_and_verify(workspace, monkeypatch):
    answering(monkeypatch, 0)
    workspace.close()
    root = workspace.root

    def verb(*arguments, code=0):
        found = CliRunner().invoke(app, [*map(str, arguments), "--json"])
        assert found.exit_code == code, found.output
        return json.loads(found.stdout)

    case = verb("request", "--style", STRANGER, "-w", root)
    assert case["style"]
    kept = root.parent / "receipt.json"
    kept.write_bytes(Path(case["receipt"]).read_bytes())
    plan = verb("plan", "-w", root)
    assert plan["candidates"] == []
    assert plan["first"].startswith("is the style learned?")
    outcome = verb("run", "-w", root)["outcome"]
    path = outcome["statement"]["path"]
    trust = ("--trust", root / "roots.json", "--policy", root / "policy.yaml")
    assert verb("verify", path, *trust, "--against", kept)["verified"]
    verb("request", "--block", "duotone", "-w", root)
    assert next(item["method"] for item in verb("plan", "-w", root)["candidates"]) == "replay"


def test_asked_in_earnest_a_model_that_learned_nothing_decides_nothing(workspace, monkeypatch):
    """Every probe is really drawn, of the known artist too: what sees nothing excuses nobody."""
    few = Scale(seeds=8, pictures=4, steps=1, guidance=3.0, budget=1)
    monkeypatch.setattr(baseline, "LEAST", few)
    with pytest.raises(Held):
        workspace.run(workspace.request(style=STRANGER))
    found = baseline.answered(workspace, STRANGER)
    assert found is not None
    assert found.finding.verdict is not Verdict.PASS
    assert found.finding.n == 4 * 8 * 4
    assert scale_of(found.finding) == few
    kept = read_kept(found.folder / FILE)
    assert kept is not None
    assert set(kept.known_counts) == set(kept.arms)
    assert kept.models["original"] == workspace.served().digest
    assert {item.name for item in found.finding.conditions} == {*WORDS, *ATTACKS, *(name + RUNS for name in ATTACKS)}
    assert {probe.label for probe in baseline.PROBES} == {*WORDS, *ATTACKS}
