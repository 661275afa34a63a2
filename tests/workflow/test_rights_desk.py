"""The desk: every letter, decision, appeal and closing is an entry of the log, under pseudonyms, and has its verb."""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from expunge import Workspace
from expunge.apps.cli.main import app
from expunge.core.errors import Held, InputError, InputProblems, IntegrityError
from expunge.core.finding import Finding, Verdict
from expunge.core.styles import StyleRung
from expunge.training.recipe import parse_any_recipe
from expunge.workflow.policy import GENERATOR
from expunge.workflow.rights import closing, desk
from expunge.workflow.rights.jurisdictions import default_jurisdictions
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.rights.terms import Action
from picture_files import TINY, write_folder
from rights import NOT_LEARNED, NOW, facts, letter

POLICY, BOOK = default_rights_policy(), default_jurisdictions()
LEARNED = "learned: {verdict: FAIL, rate: 0.9, at_most: 0.95}"
SECRETS = ("Nell", "Kavrin", "Harbour", "N. K.", "ab" * 32, "Rita Reviewer", "Sam Second", "a harbour at night")


@pytest.fixture
def workspace(tmp_path):
    """A workspace that was never trained: a letter does not wait for that."""
    config = {
        "data": {
            "source": "picture_folder",
            "path": str(write_folder(tmp_path / "works", works=2)),
            "options": {"size": 16},
        },
        "model": {"seed": "00112233445566778899aabbccddeeff"},
    }
    with Workspace.create(tmp_path / "ws", config=config, recipe=parse_any_recipe(TINY), policy=GENERATOR) as opened:
        yield opened


REFUSED = facts(present=0)
"""No works, and the style is not drawn: nothing was promised, so no case has to answer it."""


def came(workspace, **words):
    return desk.receive(workspace, letter(**words), POLICY, BOOK, NOW).request


def decided(workspace, handle, text=None, reviewer="Rita Reviewer", **more):
    return desk.decide(workspace, handle, text or facts(), POLICY, BOOK, reviewer=reviewer, **more)


def shut(workspace, handle, **more):
    """Closed when nobody can appeal any more."""
    return desk.close(workspace, handle, POLICY, datetime.now(UTC) + timedelta(days=91), **more)


def kinds(workspace, handle):
    return [entry.kind for entry in workspace.log.case(handle)]


def test_a_request_goes_from_the_letter_to_the_counts_and_every_step_is_logged(workspace):
    handle = came(workspace)
    found = decided(workspace, handle, REFUSED)
    assert (found.action.value, found.ground.value) == ("refuse", "not_present")
    now = datetime.now(UTC)
    desk.appeal(workspace, handle, ["a harbour at night"], [b"work"], POLICY, now)
    desk.settle(workspace, handle, "upheld", "Sam Second", now)
    shut(workspace, handle)
    assert kinds(workspace, handle) == [
        f"rights.{word}" for word in ("received", "decided", "appealed", "settled", "closed")
    ]
    assert desk.docket(workspace, NOW) == []
    assert desk.counts(workspace, POLICY, NOW, now + timedelta(days=1)).total is None
    assert workspace.log.verify(roots=workspace.roots()).ok


def test_nobody_is_named_in_the_log_or_beside_it_and_nothing_is_left_after_closing(workspace):
    handle = came(workspace)
    decided(workspace, handle, REFUSED)
    desk.appeal(workspace, handle, ["a harbour at night"], [], POLICY, datetime.now(UTC))
    desk.settle(workspace, handle, "upheld", "Sam Second", datetime.now(UTC))
    log = (workspace.root / "log.db").read_bytes() + b"".join(f.read_bytes() for f in workspace.root.glob("log.db-*"))
    assert [name for name in SECRETS if name.encode() in log] == []
    folder = desk.private(workspace, handle)
    assert (folder.stat().st_mode & 0o777, (folder / "letter.json").stat().st_mode & 0o777) == (0o700, 0o600)
    shut(workspace, handle)
    left = [file for file in folder.parent.rglob("*") if file.is_file()]
    assert {file.name for file in left} == {"decision.json", "letter.txt"}
    assert [name for name in SECRETS for file in left if name in file.read_text()] == []


def test_two_requests_of_one_person_cannot_be_told_from_two_persons(workspace):
    first, second = came(workspace), came(workspace)
    payloads = [workspace.log.case(handle)[0].payload for handle in (first, second)]
    assert first != second
    assert payloads[0]["claim"] != payloads[1]["claim"]


@pytest.mark.parametrize(
    "spoilt",
    [
        {"work": "not a digest"},
        {"basis": "because"},
    ],
)
def test_a_bad_letter_logs_nothing(workspace, spoilt):
    size = workspace.log.size
    with pytest.raises(InputProblems):
        came(workspace, **spoilt)
    assert workspace.log.size == size
    assert not list((workspace.root / "cases").iterdir())


def test_what_was_not_measured_goes_to_a_person_and_cannot_be_closed(workspace):
    handle = came(workspace)
    assert decided(workspace, handle, facts(more="")).action.value == "legal_hold"
    with pytest.raises(InputError, match="nobody decided"):
        shut(workspace, handle)
    assert decided(workspace, handle, facts(more=NOT_LEARNED)).action.value == "not_learned"


def test_an_appeal_is_decided_by_somebody_else_whatever_the_spelling(workspace):
    handle = came(workspace)
    decided(workspace, handle)
    desk.appeal(workspace, handle, ["a harbour"], [], POLICY, datetime.now(UTC))
    for same in ("Rita Reviewer", "  rita   REVIEWER ", ""):
        with pytest.raises(InputError, match="second reviewer"):
            desk.settle(workspace, handle, "upheld", same, datetime.now(UTC))
    with pytest.raises(InputError, match="appeal is open"):
        shut(workspace, handle)
    with pytest.raises(InputError, match="appealed already"):
        desk.appeal(workspace, handle, ["another"], [], POLICY, datetime.now(UTC))
    desk.settle(workspace, handle, "upheld", "Sam Second", datetime.now(UTC))
    with pytest.raises(InputError, match="no open appeal"):
        desk.settle(workspace, handle, "granted", "Sam Second", datetime.now(UTC))


@pytest.mark.parametrize("outcome", ["granted", "held"])
def test_a_request_whose_appeal_was_not_turned_down_is_decided_anew_before_it_is_closed(workspace, outcome):
    handle = came(workspace)
    decided(workspace, handle, REFUSED)
    desk.appeal(workspace, handle, ["a harbour"], [], POLICY, datetime.now(UTC))
    desk.settle(workspace, handle, outcome, "Sam Second", datetime.now(UTC))
    with pytest.raises(InputError, match="decided anew"):
        shut(workspace, handle)
    for same in ("Rita Reviewer", "rita  reviewer"):
        with pytest.raises(InputError, match="who decided first"):
            decided(workspace, handle, REFUSED, reviewer=same)
    decided(workspace, handle, REFUSED, reviewer="Tom Third")
    desk.appeal(workspace, handle, ["the same words are a new decision"], [], POLICY, datetime.now(UTC))
    desk.settle(workspace, handle, "upheld", "Sam Second", datetime.now(UTC))
    shut(workspace, handle)


def test_a_refusal_is_not_closed_while_it_can_be_appealed(workspace):
    """Closing destroys the key of the letter, and without it nobody can file an appeal."""
    handle = came(workspace)
    decided(workspace, handle, REFUSED)
    with pytest.raises(InputError, match="an appeal can still be filed"):
        desk.close(workspace, handle, POLICY, datetime.now(UTC) + timedelta(days=89))
    desk.appeal(workspace, handle, ["a harbour"], [], POLICY, datetime.now(UTC) + timedelta(days=89))
    desk.settle(workspace, handle, "upheld", "Sam Second", datetime.now(UTC) + timedelta(days=90))
    desk.close(workspace, handle, POLICY, datetime.now(UTC) + timedelta(days=90))


def test_an_appeal_against_an_earlier_decision_is_settled_too(workspace):
    handle = came(workspace)
    for number, text in enumerate((REFUSED, facts(more=""))):
        decided(workspace, handle, text)
        desk.appeal(workspace, handle, [f"prompt {number}"], [], POLICY, datetime.now(UTC))
    decided(workspace, handle, REFUSED)
    first = desk.settle(workspace, handle, "upheld", "Sam Second", datetime.now(UTC))
    with pytest.raises(InputError, match="appeal is open"):
        shut(workspace, handle)
    assert desk.settle(workspace, handle, "upheld", "Sam Second", datetime.now(UTC)).appeal != first.appeal
    with pytest.raises(InputError, match="no open appeal"):
        desk.settle(workspace, handle, "upheld", "Sam Second", datetime.now(UTC))
    shut(workspace, handle)


def test_a_closing_that_a_crash_cut_short_is_finished(workspace, monkeypatch):
    handle = came(workspace)
    decided(workspace, handle, REFUSED)
    with monkeypatch.context() as patch:
        patch.setattr(desk, "destroy_file", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            shut(workspace, handle)
    assert any(desk.private(workspace, handle).iterdir())
    assert shut(workspace, handle).action.value == "refuse"
    assert not any(desk.private(workspace, handle).iterdir())
    assert kinds(workspace, handle).count("rights.closed") == 1
    with pytest.raises(InputError, match="is closed"):
        shut(workspace, handle)


PROMISES = {
    "not_learned": NOT_LEARNED,
    "style_edit": f"{LEARNED}\nstyle: {{others: 0, asked: 40}}\nharm: {{at_most: 0.02, neighbours: 9}}",
}


@pytest.mark.parametrize("action", PROMISES)
def test_what_was_promised_is_not_closed_without_the_case_that_did_it(workspace, action):
    handle = came(workspace)
    assert decided(workspace, handle, facts(more=PROMISES[action])).action.value == action
    with pytest.raises(InputError, match="closed by the case that did it"):
        shut(workspace, handle)
    with pytest.raises(InputError, match="no such case"):
        shut(workspace, handle, case="case-0000")
    assert kinds(workspace, handle)[-1] == "rights.decided"


def test_every_action_that_promises_something_says_what_answers_it():
    nothing_done = {Action.LEGAL_HOLD, Action.REFUSE, Action.NARROW, Action.EXCLUDE_NEXT}
    assert set(Action) - nothing_done == set(closing.ANSWERS)
    for words in closing.ANSWERS.values():
        assert not words & {StyleRung.NOT_ERASED, StyleRung.NOT_SHOWN, StyleRung.SUPPRESSED}


def test_a_claim_that_was_changed_on_disk_is_not_decided(workspace):
    handle = came(workspace)
    file = desk.private(workspace, handle) / "claim.json"
    file.write_bytes(file.read_bytes().replace(b'"copyright"', b'"contract"'))
    with pytest.raises(IntegrityError, match="not the one that was logged"):
        decided(workspace, handle)


def test_a_closed_request_stays_closed(workspace):
    handle = came(workspace)
    decided(workspace, handle, REFUSED)
    shut(workspace, handle)
    for step in (lambda: decided(workspace, handle), lambda: shut(workspace, handle)):
        with pytest.raises(InputError, match="closed"):
            step()
    with pytest.raises(InputError, match="no such request"):
        decided(workspace, "rights-0000")


def test_what_is_due_is_listed_until_it_is_done_and_late_is_said(workspace):
    handle = came(workspace, basis="gdpr")
    (found,) = desk.docket(workspace, NOW + timedelta(days=8))
    assert found.overdue == ("mitigation", "triage")
    assert "acknowledge" not in found.due
    decided(
        workspace,
        handle,
        facts(more=f"{LEARNED}\nstyle: {{others: 0, asked: 40}}\nharm: {{at_most: 0.02, neighbours: 9}}"),
    )
    (found,) = desk.docket(workspace, NOW + timedelta(days=40))
    assert found.action == "style_edit"
    assert {"edit", "mitigation", "gdpr_answer"} <= set(found.overdue)
    assert "decision" not in found.due


def test_the_model_is_asked_where_the_facts_do_not_say(workspace, monkeypatch):
    asked = []

    class Answered:
        finding = Finding(
            check="baseline",
            question="q",
            statistic="s",
            verdict=Verdict.PASS,
            reason="r",
            estimate=0.0,
            limit=0.01,
            n=9,
        )

    monkeypatch.setattr(desk, "ask_first", lambda ws, style: asked.append(style) or Answered())
    handle = came(workspace)
    found = decided(workspace, handle, facts(more=""), style="neon")
    assert (found.action.value, asked) == ("not_learned", ["neon"])
    assert "at most 1.0%" in found.measurements["learned"]
    decided(workspace, handle, facts(more=LEARNED), style="neon")
    assert asked == ["neon"], "what was measured is not asked again"


def test_public_counts_are_of_a_period_and_fold_what_is_small(workspace):
    for _ in range(6):
        handle = came(workspace)
        decided(workspace, handle, REFUSED)
        shut(workspace, handle)
    now = datetime.now(UTC)
    found = desk.counts(workspace, POLICY, now - timedelta(days=1), now + timedelta(days=1))
    assert (found.total, found.outcomes) == (6, {"refuse": 6})
    assert desk.counts(workspace, POLICY, now + timedelta(days=1), now + timedelta(days=2)).total is None


# ----------------------------------------------------------------------------------------------------- the interim filter


SETTINGS = b"names: [Nell Kavrin, N. K.]\n"
HALF_YEAR = timedelta(days=POLICY.limits.mitigation_days)


def filtered(workspace, handle, now=NOW, kind="name_block"):
    return desk.mitigate(workspace, handle, kind, SETTINGS, POLICY, now)


def test_a_filter_is_listed_until_it_expires_and_is_never_called_a_removal(workspace):
    handle = came(workspace)
    found = filtered(workspace, handle)
    assert (found.request, found.since, found.until) == (handle, NOW, NOW + HALF_YEAR)
    assert "not a removal" in found.label
    (before,) = desk.docket(workspace, NOW + timedelta(days=100))
    (after,) = desk.docket(workspace, NOW + HALF_YEAR)
    assert (before.filters, before.lapsed) == ((found,), False)
    assert (after.filters, after.lapsed) == ((), True)


def test_a_filter_that_lapses_while_its_request_is_open_is_an_incident_until_another_holds(workspace):
    handle, never = came(workspace), came(workspace)
    filtered(workspace, handle)
    late = NOW + HALF_YEAR + timedelta(days=1)
    assert {one.request: one.lapsed for one in desk.docket(workspace, late)} == {handle: True, never: False}
    again = filtered(workspace, handle, late, "similarity_filter")
    (found, _) = desk.docket(workspace, late)
    assert (found.filters, found.lapsed) == ((again,), False)


def test_the_docket_exits_4_where_a_filter_has_lapsed_and_nothing_else_is_late(workspace):
    handle = desk.receive(workspace, letter(), POLICY, BOOK, datetime.now(UTC)).request
    workspace.close()
    docket = ["rights", "docket", "-w", str(workspace.root)]
    assert CliRunner().invoke(app, docket).exit_code == 0
    with Workspace.open(workspace.root) as opened:
        filtered(opened, handle, datetime(2020, 1, 1, tzinfo=UTC))
    found = CliRunner().invoke(app, docket)
    assert isinstance(found.exception, Held)
    assert "expired: an incident" in found.exception.message
    assert "NO INTERIM FILTER LEFT" in found.stdout


def test_a_filter_changes_neither_where_a_request_stands_nor_what_else_is_due(workspace):
    handle = came(workspace, basis="gdpr")
    decided(workspace, handle, facts(more=PROMISES["style_edit"]))
    (before,) = desk.docket(workspace, NOW)
    filtered(workspace, handle)
    (after,) = desk.docket(workspace, NOW)
    assert (after.state, after.action) == (before.state, before.action) == ("decided", "style_edit")
    assert set(before.due) - set(after.due) == {"mitigation"}
    assert set(after.due) < set(before.due)


def test_a_closed_request_gets_no_filter_and_those_it_had_are_no_incident(workspace):
    handle = came(workspace)
    filtered(workspace, handle)
    decided(workspace, handle, REFUSED)
    shut(workspace, handle)
    size = workspace.log.size
    with pytest.raises(InputError, match="closed"):
        filtered(workspace, handle)
    found = desk.standing(workspace, handle, NOW + HALF_YEAR)
    assert (workspace.log.size, found.lapsed, found.filters) == (size, False, ())
    assert desk.standing(workspace, handle, NOW).filters == ()


def test_attack_a_name_is_not_guessed_from_what_the_log_has_of_a_filter(workspace):
    """Settings are a few words: whoever has the log could try names against a plain digest."""
    handles = [came(workspace), came(workspace)]
    for handle in handles:
        filtered(workspace, handle)
    logged = [workspace.log.case(handle)[-1].payload["mitigation"]["settings"] for handle in handles]
    assert logged[0] != logged[1], "the same settings of two requests cannot be told to be the same"
    assert not {f"sha256:{hashlib.sha256(SETTINGS).hexdigest()}"} & set(logged)
    raw = (workspace.root / "log.db").read_bytes() + b"".join(f.read_bytes() for f in workspace.root.glob("log.db-*"))
    assert hashlib.sha256(SETTINGS).hexdigest().encode() not in raw
    assert b"Kavrin" not in raw


def test_a_filter_that_blocks_nothing_is_refused(workspace):
    handle = came(workspace)
    size = workspace.log.size
    with pytest.raises(InputError, match="blocks nothing"):
        desk.mitigate(workspace, handle, "name_block", b" \n", POLICY, NOW)
    with pytest.raises(InputError, match="no such request"):
        filtered(workspace, "rights-0000")
    assert workspace.log.size == size


def test_the_verbs_and_their_exit_codes(workspace, tmp_path):
    root = workspace.root
    workspace.close()
    (tmp_path / "letter.yaml").write_text(letter())
    (tmp_path / "facts.yaml").write_text(REFUSED)
    (tmp_path / "open.yaml").write_text(facts(more=""))
    (tmp_path / "prompts.txt").write_text("a harbour\n\n")

    def verb(*arguments):
        return CliRunner().invoke(app, ["rights", *map(str, arguments), "-w", str(root)])

    def told(*arguments):
        found = verb(*arguments, "--json")
        assert found.exit_code == 0, (found.output, found.exception)
        return json.loads(found.stdout)

    handle = told("intake", tmp_path / "letter.yaml", "--received", "2026-03-02")["request"]["request"]
    assert isinstance(verb("docket").exception, Held)
    (tmp_path / "settings.yaml").write_bytes(SETTINGS)
    with_settings = ("mitigate", handle, "--settings", tmp_path / "settings.yaml", "--filter")
    assert isinstance(verb(*with_settings, "for_good").exception, InputError)
    assert "not a removal" in " ".join(verb(*with_settings, "name_block").stdout.split())
    assert "not a removal" in told(*with_settings, "similarity_filter")["label"]
    assert "name_block until" in verb("docket").stdout
    assert isinstance(verb("decide", handle, tmp_path / "open.yaml", "--reviewer", "Rita").exception, Held)
    assert told("decide", handle, tmp_path / "facts.yaml", "--reviewer", "Rita")["decision"]["action"] == "refuse"
    told("appeal", handle, "--prompts", tmp_path / "prompts.txt")
    assert isinstance(verb("settle", handle, "--outcome", "lost", "--reviewer", "Sam").exception, InputError)
    assert told("settle", handle, "--outcome", "upheld", "--reviewer", "Sam")["outcome"]["outcome"] == "upheld"
    assert isinstance(verb("close", handle, "--case", "case-0000").exception, InputError)
    told("close", handle)
    assert told("docket")["open"] == []
    assert told("counts", "--since", "2026-01-01", "--until", "2099-01-01")["counts"]["total"] is None
    assert isinstance(verb("intake", tmp_path / "prompts.txt").exception, InputError)
