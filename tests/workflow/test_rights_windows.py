"""What waits for an edit, what edits have cost since the last training, and what to do now: read from log and evidence."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from expunge import Workspace
from expunge.apps.cli.main import app
from expunge.core.errors import Held, IntegrityError
from expunge.core.finding import Guarantee
from expunge.core.styles import StyleEvidence
from expunge.evidence.bundle import read_bundle
from expunge.evidence.envelope import payload_of
from expunge.evidence.statement import parse_statement
from expunge.stats.spending import limit_level
from expunge.stats.style_collateral import LOST, Limits, collateral_of
from expunge.testing.style_evidence import honest_styles
from expunge.workflow import verify
from expunge.workflow.intake import find_case
from expunge.workflow.rights import desk, load
from expunge.workflow.rights.batching import Answer
from expunge.workflow.rights.facts import Load
from expunge.workflow.rights.jurisdictions import default_jurisdictions
from expunge.workflow.rights.load import heavier, load_of
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.rights.windows import window
from picture_files import ARTISTS, make_works
from rights import facts, letter

pytestmark = pytest.mark.usefixtures("one_thread")

POLICY, BOOK = default_rights_policy(), default_jurisdictions()
LIMIT = POLICY.limits
EDIT = """\
learned: {{verdict: FAIL, rate: 0.9, at_most: 0.95}}
style: {{others: 0, asked: 40}}
harm: {{at_most: {loss}, neighbours: 9}}"""
LOSS = collateral_of(honest_styles().kept, Limits(), level=limit_level(1)).lost


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A trained workspace with one edit in service, and the certificate that says what it cost others."""
    root = tmp_path_factory.mktemp("windows") / "ws"
    with pytest.MonkeyPatch.context() as patch, make_works(root) as workspace:
        patch.setattr(verify, "style_evidence", lambda *_: honest_styles())
        outcome = workspace.run(workspace.request(block=ARTISTS[1]), ["erasers/uce"])
        assert outcome.guarantee is Guarantee.EMPIRICAL
    return root, outcome.case


@pytest.fixture
def workspace(made, tmp_path):
    with Workspace.open(shutil.copytree(made[0], tmp_path / "ws")) as opened:
        yield opened


def limited(**limits):
    return replace(POLICY, limits=replace(LIMIT, **limits))


def accepted(workspace, loss=0.01, handle=None, policy=POLICY, action="style_edit"):
    """A request whose style edit was accepted just now, or which was decided so."""
    handle = handle or desk.receive(workspace, letter(), POLICY, BOOK, datetime.now(UTC)).request
    text = facts(more=EDIT.format(loss=loss))
    found = desk.decide(workspace, handle, text, policy, BOOK, reviewer="Rita Reviewer")
    assert found.action.value == action
    return handle


def later(days=LIMIT.window_days):
    return datetime.now(UTC) + timedelta(days=days)


def asked(workspace, days=LIMIT.window_days):
    return window(workspace, POLICY, later(days))


# ------------------------------------------------------------------------------------------------------------- the load


def cost(found, edits):
    """Is this a load of so many edits like the one of the workspace?"""
    return found.edits == edits and found.lost == pytest.approx(edits * LOSS)


def collateral_in(case):
    found = parse_statement(payload_of(read_bundle(case.bundle).json("certificate.json"))).predicate.findings
    return next(item for item in found if item.check == "collateral")


def test_what_an_edit_cost_others_is_read_from_its_certificate(workspace, made):
    finding = collateral_in(find_case(workspace, made[1]))
    assert float(finding.details[LOST]) == pytest.approx(LOSS)
    assert finding.estimate < LOSS, "the upper limit, and not what was seen"
    assert cost(load_of(workspace), 1)


def test_a_training_without_the_works_starts_the_load_anew_and_an_edit_adds_to_it(workspace, monkeypatch):
    monkeypatch.setattr(verify, "style_evidence", lambda *_: honest_styles())
    workspace.run(workspace.request(block=ARTISTS[0]), ["erasers/uce"])
    assert cost(load_of(workspace), 2)
    monkeypatch.setattr(verify, "style_evidence", lambda *_: StyleEvidence(unread="nothing was drawn, in this test"))
    works = [name for name in workspace.book.ids if name is not None]
    assert workspace.run(workspace.request(ids=works[:4]), ["retrain"]).guarantee is Guarantee.EXACT
    assert load_of(workspace) == Load()


def test_attack_a_kinder_certificate_in_the_place_of_the_one_that_was_logged(workspace, made, monkeypatch):
    """Another case's certificate is as genuine, and was issued for another edit."""
    monkeypatch.setattr(verify, "style_evidence", lambda *_: honest_styles())
    other = workspace.run(workspace.request(block=ARTISTS[0]), ["erasers/uce"]).case
    shutil.copy(find_case(workspace, other).bundle, find_case(workspace, made[1]).bundle)
    with pytest.raises(IntegrityError, match="not the one that was logged"):
        load_of(workspace)
    with pytest.raises(IntegrityError, match="not the one that was logged"):
        accepted(workspace)


def test_an_edit_whose_certificate_is_gone_did_not_cost_nothing(workspace, made):
    find_case(workspace, made[1]).bundle.unlink()
    with pytest.raises(Held, match="nobody knows what it cost"):
        load_of(workspace)


def test_a_certificate_that_does_not_say_what_was_lost_may_have_cost_everything(workspace, monkeypatch):
    monkeypatch.setattr(load, "LOST", "no such figure")
    assert load_of(workspace) == Load(edits=1, lost=1.0)
    accepted(workspace, action="retrain")


def test_attack_a_request_is_not_decided_on_a_load_that_is_smaller_than_the_logs(workspace):
    """What is handed over leaves out the edit that is in service; a person who hands over more is believed."""
    assert heavier(Load(edits=3, lost=0.01), Load(edits=1, lost=0.04)) == Load(edits=3, lost=0.04)
    handle = accepted(workspace)
    assert cost(desk.facts_of(workspace, handle).load, 1)
    accepted(workspace, policy=limited(edits=1), action="retrain")
    accepted(workspace, policy=limited(edits=2))


# ----------------------------------------------------------------------------------------------------------- the window


def test_a_window_says_who_waits_until_when_and_then_who_is_edited(workspace):
    assert (asked(workspace).waiting, asked(workspace).step.answer) == ((), Answer.WAIT)
    handles = [accepted(workspace, 0.01), accepted(workspace, 0.02)]
    early, due = asked(workspace, days=1), asked(workspace)
    assert [(one.request, one.loss) for one in early.waiting] == list(zip(handles, (0.01, 0.02), strict=True))
    assert early.step.answer is Answer.WAIT
    assert early.closes.isoformat() in early.step.reason
    assert early.closes == early.waiting[0].accepted + timedelta(days=LIMIT.window_days)
    assert (due.step.answer, [one.request for one in due.step.batch]) == (Answer.EDIT, handles)
    assert cost(due.load, 1)


def test_edits_that_would_cost_others_too_much_together_are_a_retraining_and_so_are_too_many(workspace):
    """Each is within the limit for itself, and so is what was edited before."""
    handles = [accepted(workspace, 0.03), accepted(workspace, 0.03)]
    found = asked(workspace)
    assert (found.step.answer, [one.request for one in found.step.left]) == (Answer.RETRAIN, handles)
    assert "others would have lost" in found.step.reason
    many = window(workspace, limited(edits=2, cumulative_loss=0.05), later())
    assert (many.step.answer, many.step.reason) == (
        Answer.RETRAIN,
        "3 edits since the last training; 2 are allowed",
    )


def test_nobody_waits_who_was_refused_or_whose_appeal_was_granted_or_who_is_done(workspace):
    refused, granted, waits = (accepted(workspace) for _ in range(3))
    desk.decide(workspace, refused, facts(present=0), POLICY, BOOK, reviewer="Rita Reviewer")
    for handle, outcome in ((granted, "granted"), (waits, "upheld")):
        desk.appeal(workspace, handle, ["a harbour at night"], [], POLICY, datetime.now(UTC))
        desk.settle(workspace, handle, outcome, "Sam Second", datetime.now(UTC))
    assert [one.request for one in asked(workspace).waiting] == [waits]
    desk.decide(workspace, waits, facts(present=0), POLICY, BOOK, reviewer="Rita Reviewer")
    desk.close(workspace, waits, POLICY, datetime.now(UTC) + timedelta(days=91))
    assert asked(workspace).waiting == ()


def test_attack_deciding_the_same_again_and_again_does_not_keep_a_window_open_for_ever(workspace):
    first = accepted(workspace)
    since = asked(workspace).waiting[0].accepted
    accepted(workspace, 0.02, handle=first)
    assert (asked(workspace).waiting[0].accepted, asked(workspace).waiting[0].loss) == (since, 0.02)
    desk.decide(workspace, first, facts(present=0), POLICY, BOOK, reviewer="Rita Reviewer")
    accepted(workspace, handle=first)
    assert asked(workspace).waiting[0].accepted > since


@pytest.mark.parametrize("file", ["private/facts.json", "decision.json"])
def test_attack_what_an_edit_costs_others_is_not_made_smaller_on_disk(workspace, file):
    handle = accepted(workspace, 0.04)
    target = desk.private(workspace, handle).parent / file
    text = target.read_text()
    assert "0.04" in text or "4.0%" in text
    target.write_text(text.replace("0.04", "0.01").replace("4.0%", "1.0%"))
    with pytest.raises(IntegrityError, match="not those of the decision"):
        asked(workspace)


def test_looking_at_the_window_writes_nothing_and_the_verb_says_what_is_due(workspace):
    handle = accepted(workspace, 0.02)
    size, root = workspace.log.size, workspace.root
    workspace.close()
    found = CliRunner().invoke(app, ["rights", "window", "-w", str(root), "--json"])
    assert found.exit_code == 0, (found.output, found.exception)
    told = json.loads(found.stdout)["window"]
    assert (told["step"]["answer"], told["load"]["edits"]) == ("wait", 1)
    assert [row["request"] for row in told["waiting"]] == [handle]
    shown = CliRunner().invoke(app, ["rights", "window", "-w", str(root)]).stdout
    assert f"{handle}: since" in shown
    assert "costs others up to 2.0%" in shown
    assert "WAIT: until" in shown
    with Workspace.open(root) as opened:
        assert opened.log.size == size
