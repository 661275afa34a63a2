"""What an owner could try with a not-learned statement: asking until it fits, hiding answers, citing what is somebody else's."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from evidence.story import selftest
from expunge.core.codec import canonical, decimal, digest_of, loads
from expunge.core.errors import Held, InputError, IntegrityError
from expunge.core.finding import Verdict
from expunge.core.selftest import EditTrial
from expunge.evidence.not_learned import (
    ALPHA,
    FOUND,
    Battery,
    read_issued,
)
from expunge.stats.spending import spent_alpha
from expunge.workflow import pipeline
from expunge.workflow.rights import desk
from expunge.workflow.selftest.gate import record, subject_of
from expunge.workflow.styles import baseline, statement, vouching
from owner import ask, count, rewrite, show, sign_anew, stated
from testbed import STRANGER, answering, checked, failed, otherwise, undrawn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def workspace(workspace_of_works):
    return workspace_of_works


@pytest.fixture
def second(workspace, monkeypatch):
    """A statement that the second question earned; the first could not be decided."""
    answering(monkeypatch, 2)
    with pytest.raises(Held):
        ask(workspace)
    answering(monkeypatch, 0)
    otherwise(workspace)
    return workspace, *ask(workspace)


# ---------------------------------------------------------------------------------------------------- asking until it fits


def test_a_style_that_was_shown_to_be_learned_cannot_be_asked_for_again_until_it_fits(workspace, monkeypatch):
    answering(monkeypatch, 36)
    with pytest.raises(Held, match="draws the style"):
        ask(workspace)
    asked = answering(monkeypatch, 0)
    otherwise(workspace)
    with pytest.raises(Held, match="draws the style"):
        ask(workspace)
    assert asked == []
    assert baseline.answered(workspace, STRANGER).finding.verdict is Verdict.FAIL


def test_a_style_that_a_later_question_shows_to_be_learned_is_not_stated_on_the_first(workspace, monkeypatch):
    answering(monkeypatch, 0)
    ask(workspace)
    answering(monkeypatch, 36)
    otherwise(workspace)
    with pytest.raises(Held, match="draws the style"):
        ask(workspace)
    otherwise(workspace, seeds=8)
    with pytest.raises(Held, match="draws the style"):
        ask(workspace)


def test_statements_that_a_later_question_refutes_are_withdrawn(workspace, monkeypatch):
    """Those of this style alone, in the log and in the owner's copies; a file in somebody's hand does not know of it."""
    answering(monkeypatch, 0)
    told, other = [ask(workspace) for _ in range(2)], ask(workspace, "duotone")
    handed = [outcome.statement.path.read_bytes() for outcome, _ in told]
    answering(monkeypatch, 36)
    otherwise(workspace)
    for _ in range(2):
        with pytest.raises(Held, match="draws the style") as held:
            ask(workspace)
        assert all(outcome.case in held.value.hint for outcome, _ in told)
    revoked = [e.case for e in workspace.log.entries() if e.kind == "certificate.revoked"]
    assert revoked == [outcome.case for outcome, _ in told]
    assert checked(workspace, *other).ok
    for (outcome, receipt), file in zip(told, handed, strict=True):
        result = checked(workspace, outcome, receipt)
        assert failed(result) == [6]
        assert "revoked" in result.steps[5].reason
        outcome.statement.path.write_bytes(file)
        assert checked(workspace, outcome, receipt).ok


def test_earlier_answers_are_in_the_sentence_and_cannot_be_left_out(second):
    workspace, outcome, receipt = second
    found = checked(workspace, outcome, receipt)
    assert found.ok, found.lines()
    assert "question 2 of 2 about this style and model, at a level of 0.9875" in found.sentence
    assert "the other answers: INCONCLUSIVE" in found.sentence
    first = next(e for e in workspace.log.entries() if e.kind == "baseline.committed")
    told = next(e for e in workspace.log.entries() if e.kind == "baseline.recorded")
    good = outcome.statement.path.read_bytes()
    for left_out in (first.index, told.index):
        rewrite(
            outcome,
            lambda p, gone=left_out: p["log"].update(entries=[e for e in p["log"]["entries"] if e["index"] != gone]),
        )
        assert failed(checked(workspace, outcome, receipt)) == [6]
        outcome.statement.path.write_bytes(good)


@pytest.mark.parametrize("others", [("PASS",), ("INCONCLUSIVE", "INCONCLUSIVE"), ("UNVERIFIABLE",)])
def test_other_answers_than_the_log_has_are_found(second, others):
    workspace, outcome, receipt = second
    sign_anew(workspace, outcome, battery=replace(stated(outcome).battery, others=others))
    assert failed(checked(workspace, outcome, receipt)) == [6]


def told_again(workspace, attempt, *verdicts):
    """More lines of the log about a question that was answered already; their indices."""
    said = next(e.payload for e in workspace.log.entries() if e.kind == FOUND and e.payload["attempt"] == attempt)
    return [workspace.log.append(FOUND, {**said, "verdict": verdict}).index for verdict in verdicts]


def test_a_logged_fail_is_not_taken_back_by_one_more_line(workspace, monkeypatch):
    answering(monkeypatch, 36)
    with pytest.raises(Held):
        ask(workspace)
    told_again(workspace, 1, "INCONCLUSIVE")
    asked = answering(monkeypatch, 0)
    otherwise(workspace)
    with pytest.raises(IntegrityError, match="two answers"):
        ask(workspace)
    assert asked == []


@pytest.mark.parametrize(
    ("attempt", "verdicts"), [(1, ("FAIL", "INCONCLUSIVE")), (2, ("FAIL",)), (2, ("FAIL", "PASS"))]
)
def test_a_file_with_a_fail_and_a_later_line_about_the_same_question_is_refused(second, attempt, verdicts):
    workspace, outcome, receipt = second
    show(workspace, outcome, *told_again(workspace, attempt, *verdicts))
    assert failed(checked(workspace, outcome, receipt)) == [6]


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
def test_a_cited_answer_of_which_the_log_says_otherwise_is_refused(workspace, monkeypatch, verdict):
    """The finding that is signed says PASS, and the log's own line does not."""
    answering(monkeypatch, 0)
    real = workspace.log.append

    def crooked(kind, payload, case=None):
        return real(kind, {**payload, "verdict": verdict} if kind == FOUND else payload, case=case)

    monkeypatch.setattr(workspace.log, "append", crooked)
    outcome, receipt = ask(workspace)
    assert failed(checked(workspace, outcome, receipt)) == [6]


def killed(workspace, monkeypatch):
    """Asked, and killed before it told: whoever sees an answer coming and kills it has asked."""
    with monkeypatch.context() as patch:
        patch.setattr(baseline, "_measured", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ask(workspace)


def test_a_question_that_was_killed_when_it_was_about_to_tell_is_answered_before_another(workspace, monkeypatch):
    killed(workspace, monkeypatch)
    asked = answering(monkeypatch, 36)
    otherwise(workspace)
    with pytest.raises(Held, match="draws the style"):
        ask(workspace)
    assert asked == [STRANGER]
    (told,) = (e.payload for e in workspace.log.entries() if e.kind == FOUND)
    assert (told["attempt"], told["verdict"]) == (1, "FAIL")
    assert count(workspace, "baseline.committed") == 1


@pytest.mark.parametrize("gone", [True, False])
def test_a_killed_question_whose_file_is_gone_or_other_is_not_got_rid_of(workspace, monkeypatch, gone):
    killed(workspace, monkeypatch)
    answering(monkeypatch, 0)
    otherwise(workspace)
    (file,) = (workspace.root / "store" / "baselines").rglob(baseline.QUESTION)
    file.unlink() if gone else file.write_bytes(file.read_bytes().replace(b'"seeds":23', b'"seeds":24'))
    with pytest.raises(InputError if gone else IntegrityError):
        ask(workspace)
    assert count(workspace, "not_learned.issued") == 0


def test_a_fail_that_is_left_out_of_the_file_as_unanswered_is_refused(workspace, monkeypatch):
    answering(monkeypatch, 2)
    with pytest.raises(Held):
        ask(workspace)
    otherwise(workspace)
    answering(monkeypatch, 0)
    outcome, receipt = ask(workspace)
    told = next(e.index for e in workspace.log.entries() if e.kind == FOUND)
    rewrite(
        outcome, lambda p: p["log"].update(entries=[entry for entry in p["log"]["entries"] if entry["index"] != told])
    )
    assert failed(checked(workspace, outcome, receipt)) == [6]
    with pytest.raises(InputError, match="an answer that is none"):
        sign_anew(workspace, outcome, battery=replace(stated(outcome).battery, others=("unanswered",)))


def test_a_later_question_spends_what_is_left_and_no_statement_says_otherwise(second):
    _, outcome, _ = second
    found = stated(outcome)
    for attempt in range(1, 11):
        battery = Battery(digest="", index=0, attempt=attempt)
        assert battery.level == decimal(1 - spent_alpha(ALPHA, attempt))
    for level in ("0.95", "0.975", "0.5"):
        details = {**found.finding.details, "level": level}
        with pytest.raises(InputError, match="level that question 2 may spend"):
            replace(found, finding=replace(found.finding, details=details))
    for battery in (replace(found.battery, attempt=3), replace(found.battery, attempt=-(2**53))):
        with pytest.raises(InputError, match="do not fit together"):
            replace(found, battery=battery)
    with pytest.raises(InputError, match="showed that the style was learned"):
        replace(found, battery=replace(found.battery, others=("FAIL",)))


def test_asking_a_question_another_and_the_first_again_gives_the_first_answer_and_tells_the_other(
    workspace, monkeypatch
):
    answering(monkeypatch, 0)
    ask(workspace)
    asked = answering(monkeypatch, 2)
    otherwise(workspace)
    with pytest.raises(Held, match="could not be decided"):
        ask(workspace)
    otherwise(workspace, seeds=8)
    outcome, receipt = ask(workspace)
    assert asked == [STRANGER]
    assert (count(workspace, "baseline.committed"), count(workspace, "baseline.recorded")) == (2, 2)
    found = stated(outcome)
    assert (found.battery.attempt, found.battery.others) == (1, ("INCONCLUSIVE",))
    result = checked(workspace, outcome, receipt)
    assert result.ok, result.lines()


# -------------------------------------------------------------------------------------------------- what is somebody else's


def test_an_answer_about_another_artist_is_no_answer_to_this_request(workspace, monkeypatch):
    """The log has only handles: the requester's receipt opens theirs."""
    answering(monkeypatch, 0)
    real = statement.ask_first
    monkeypatch.setattr(statement, "ask_first", lambda workspace, style: real(workspace, "duotone"))
    outcome, receipt = ask(workspace)
    assert failed(checked(workspace, outcome, receipt)) == [12]
    told, other = loads(receipt, what="receipt"), workspace.request(style="duotone")
    swapped = {**told, "style": loads(other.receipt.read_bytes(), what="receipt")["style"]}
    assert failed(checked(workspace, outcome, canonical(swapped))) == [12]


def test_whose_style_it_was_cannot_be_guessed_from_the_digest_of_the_question(workspace, monkeypatch):
    """The controls are all that there are but the target, the rest is public or the default, and the log has the handles."""
    answering(monkeypatch, 0)
    found = stated(ask(workspace)[0])
    (file,) = (workspace.root / "store" / "baselines").rglob(baseline.QUESTION)
    guessed = loads(file.read_bytes(), what="question")
    public = {**guessed, "model": found.model, "level": decimal(ALPHA)}
    assert found.battery.digest not in {digest_of(public), digest_of({**public, "salt": ""})}


def test_a_receipt_that_does_not_open_the_style_is_not_satisfied(workspace, monkeypatch):
    answering(monkeypatch, 0)
    outcome, receipt = ask(workspace)
    told = loads(receipt, what="receipt")
    assert checked(workspace, outcome, receipt).ok
    assert failed(checked(workspace, outcome, canonical({k: v for k, v in told.items() if k != "style"}))) == [12]


def test_another_requesters_case_is_not_in_the_file(workspace, monkeypatch):
    """A release repeats a battery for somebody else's case, and logs that case's handle beside the battery."""
    answering(monkeypatch, 0)
    first, _ = ask(workspace)
    battery = stated(first).battery.digest
    workspace.log.append("rights.verified", {"request": first.case, "battery": battery, "rung": "NOT-LEARNED"})
    outcome, _ = ask(workspace)
    assert first.case.encode() not in outcome.statement.path.read_bytes()
    assert checked(workspace, outcome).ok


# ------------------------------------------------------------------------------------------------------ whose model


def test_a_model_that_was_never_in_service_is_not_the_one_that_was_asked(workspace, monkeypatch):
    """Somebody asks a model of their choice: nothing in the log says that it was ever served."""
    answering(monkeypatch, 0)
    outcome, receipt = ask(workspace)
    put = [e.index for e in workspace.log.entries() if e.kind == "model.trained"]
    assert checked(workspace, outcome, receipt).ok
    good = outcome.statement.path.read_bytes()
    rewrite(outcome, lambda p: p["log"].update(entries=[e for e in p["log"]["entries"] if e["index"] not in put]))
    assert failed(checked(workspace, outcome, receipt)) == [6]
    outcome.statement.path.write_bytes(good)


@pytest.mark.parametrize("when", ["request.received", "baseline.committed", "baseline.recorded"])
@pytest.mark.parametrize("mine", [True, False])
def test_another_model_that_goes_into_service_meanwhile_voids_the_statement(workspace, monkeypatch, when, mine):
    """Before the question, between question and answer, and before the statement; of this case or of nobody's."""
    answering(monkeypatch, 0)
    record, real = workspace.served(), workspace.log.append
    model = record.digest if mine else "sha256:" + "1" * 64

    def crooked(kind, payload, case=None):
        entry = real(kind, payload, case=case)
        if kind == when:
            real("model.released", {"model": model}, case=workspace.state().cases[-1] if mine else None)
        return entry

    monkeypatch.setattr(workspace.log, "append", crooked)
    monkeypatch.setattr(type(workspace), "served", lambda self: record)
    outcome, receipt = ask(workspace)
    assert failed(checked(workspace, outcome, receipt)) == [6]


# --------------------------------------------------------------------------------------------------------- what vouches


WITHOUT = [
    EditTrial(unread="nobody judges"),
    EditTrial(asked="x", seeds=8, pictures=40, objection="style: refused"),
    EditTrial(asked="x"),
    EditTrial(seeds=8, pictures=40),
    None,
]


def vouch(workspace, edits):
    on = subject_of(workspace)
    now = datetime.now(UTC).replace(microsecond=0)
    record(workspace, selftest(made_at=now, policy=on.policy, expunge=on.expunge, kind=on.kind, edits=edits))


@pytest.mark.parametrize("edits", WITHOUT)
def test_no_question_is_spent_under_a_self_test_that_tried_no_judge_of_styles(workspace, monkeypatch, edits):
    asked = answering(monkeypatch, 0)
    vouch(workspace, edits)
    with pytest.raises(Held, match="nobody was asked"):
        ask(workspace)
    assert asked == []
    with pytest.raises(Held, match="nobody was asked"):
        desk._learned(workspace, STRANGER)
    assert pipeline._asked_first(workspace, STRANGER) is None
    assert (asked, count(workspace, "baseline.committed")) == ([], 0)


def test_works_are_deleted_under_a_self_test_under_which_no_style_is_asked_for(workspace, monkeypatch):
    vouch(workspace, None)
    undrawn(monkeypatch)
    assert workspace.run(workspace.request(block="duotone")).certificate is not None


@pytest.mark.parametrize("edits", WITHOUT)
def test_a_statement_under_a_self_test_that_says_nothing_about_styles_is_refused(workspace, monkeypatch, edits):
    answering(monkeypatch, 0)
    vouch(workspace, edits)
    monkeypatch.setattr(vouching, "objections", lambda *_: [])
    outcome, receipt = ask(workspace)
    assert digest_of(read_issued(outcome.statement.path).selftest) == stated(outcome).selftest
    assert failed(checked(workspace, outcome, receipt)) == [8]


def test_the_sentence_says_that_no_cheat_was_tried_against_the_question(workspace, monkeypatch):
    answering(monkeypatch, 0)
    outcome, receipt = ask(workspace)
    found = checked(workspace, outcome, receipt)
    assert "No cheat was tried against this question" in found.sentence
    assert "none against the question itself" in found.steps[7].reason


# ---------------------------------------------------------------------------- what the log says that no honest owner writes


def test_a_handle_that_is_no_commitment_fails_the_step_and_not_the_verifier(workspace, monkeypatch):
    answering(monkeypatch, 0)
    monkeypatch.setattr(baseline, "style_handle", lambda *_: "hmac-sha256:é")
    outcome, receipt = ask(workspace)
    assert failed(checked(workspace, outcome, receipt)) == [12]


@pytest.mark.parametrize("data", ["x", 1, [], ["root"], None])
def test_data_that_is_no_object_fails_the_step_and_not_the_verifier(workspace, monkeypatch, data):
    answering(monkeypatch, 0)
    outcome, receipt = ask(workspace)
    show(workspace, outcome, workspace.log.append("data.ingested", {"data": data}).index)
    assert checked(workspace, outcome, receipt).ok
    first = next(e.index for e in workspace.log.entries() if e.kind == "data.ingested")
    rewrite(outcome, lambda p: p["log"].update(entries=[e for e in p["log"]["entries"] if e["index"] != first]))
    assert failed(checked(workspace, outcome, receipt)) == [7]


def test_a_truth_value_is_not_the_first_question(workspace, monkeypatch):
    answering(monkeypatch, 0)
    real = workspace.log.append

    def crooked(kind, payload, case=None):
        return real(kind, {**payload, "attempt": True} if kind.startswith("baseline") else payload, case=case)

    monkeypatch.setattr(workspace.log, "append", crooked)
    outcome, receipt = ask(workspace)
    assert failed(checked(workspace, outcome, receipt)) == [6]


def test_the_first_of_two_questions_is_held_to_the_number_of_both(workspace, monkeypatch):
    """The second could not be decided and the first is stated: it was asked for twice all the same."""
    answering(monkeypatch, 0)
    ask(workspace)
    answering(monkeypatch, 2)
    otherwise(workspace)
    with pytest.raises(Held):
        ask(workspace)
    otherwise(workspace, seeds=8)
    outcome, receipt = ask(workspace)
    once = replace(workspace.policy, limits=replace(workspace.policy.limits, max_attempts=1))
    assert stated(outcome).battery.attempt == 1
    assert failed(checked(workspace, outcome, receipt, policy=once)) == [8]
