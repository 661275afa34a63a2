"""A request of a rights holder is closed by the logged evidence of one case, which came after it and answers what was decided."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from expunge.core.errors import InputError, IntegrityError
from expunge.core.styles import StyleRung
from expunge.workflow.intake import find_case
from expunge.workflow.rights import desk
from expunge.workflow.rights.jurisdictions import default_jurisdictions
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.rights.terms import Action
from expunge.workflow.styles.earned import earned_in
from expunge.workflow.workspace import Workspace
from rights import NOW, facts, letter
from testbed import STRANGER, answering

pytestmark = pytest.mark.usefixtures("one_thread")


class Desk:
    """Letters to a workspace, and cases that may answer them."""

    def __init__(self, workspace):
        self.workspace, self.policy, self.book = workspace, default_rights_policy(), default_jurisdictions()

    def decided(self, text, *, wanted):
        request = desk.receive(self.workspace, letter(), self.policy, self.book, NOW).request
        found = desk.decide(self.workspace, request, text, self.policy, self.book, reviewer="Rita")
        assert found.action is wanted
        return request

    def close(self, request, case):
        return desk.close(self.workspace, request, self.policy, datetime.now(UTC) + timedelta(days=91), case=case)

    def state(self, monkeypatch):
        answering(monkeypatch, 0)
        return self.workspace.run(self.workspace.request(style=STRANGER)).case


COPIED = facts().replace("copies: {found: 0", "copies: {found: 1")


def test_a_request_is_closed_with_the_word_of_its_case_and_of_no_other(case, monkeypatch):
    """Nobody types the word: it is read from the signed evidence, which has to answer what was decided."""
    front = Desk(case[0])
    request = front.decided(facts(), wanted=Action.NOT_LEARNED)
    copied = front.decided(COPIED, wanted=Action.PURGE_WORKS)
    stated = front.state(monkeypatch)
    with pytest.raises(InputError, match="does not answer purge_works"):
        front.close(copied, stated)
    assert front.close(request, stated).rung is StyleRung.NOT_LEARNED
    logged = [entry.payload for entry in case[0].log.entries() if entry.kind == "rights.closed"][-1]
    assert logged["by"]
    assert stated not in str(logged)


def test_a_case_from_before_the_letter_does_not_answer_it(case):
    workspace, handle = case
    front = Desk(workspace)
    request = front.decided(COPIED, wanted=Action.PURGE_WORKS)
    with pytest.raises(InputError, match="before the letter came"):
        front.close(request, handle)


def test_one_case_answers_one_letter(case, monkeypatch):
    front = Desk(case[0])
    requests = [front.decided(facts(), wanted=Action.NOT_LEARNED) for _ in range(2)]
    stated = front.state(monkeypatch)
    front.close(requests[0], stated)
    with pytest.raises(InputError, match="another letter"):
        front.close(requests[1], stated)


def test_a_statement_about_a_model_that_is_no_longer_in_service_closes_nothing(case, monkeypatch):
    front = Desk(case[0])
    request = front.decided(facts(), wanted=Action.NOT_LEARNED)
    stated = front.state(monkeypatch)
    served = replace(case[0].served(), digest="sha256:" + "0" * 64)
    monkeypatch.setattr(Workspace, "served", lambda self: served)
    with pytest.raises(InputError, match="another model"):
        front.close(request, stated)


def test_a_statement_that_was_revoked_closes_nothing(case, monkeypatch):
    """A later question showed that the style was learned after all."""
    front = Desk(case[0])
    request = front.decided(facts(), wanted=Action.NOT_LEARNED)
    stated = front.state(monkeypatch)
    case[0].log.append("certificate.revoked", {"statement": "sha256:" + "0" * 64}, case=stated)
    with pytest.raises(InputError, match="revoked"):
        front.close(request, stated)


def test_evidence_that_was_put_into_a_cases_folder_does_not_speak_for_it(case, monkeypatch):
    """A statement copied beside a certificate, or another case's certificate in its place."""
    workspace, handle = case
    stated = Desk(workspace).state(monkeypatch)
    mine, other = (find_case(workspace, one) for one in (handle, stated))
    shutil.copy(other.statement, mine.statement)
    assert earned_in(workspace, mine).rung is StyleRung.EXACT
    answering(monkeypatch, 0)
    again = find_case(workspace, workspace.run(workspace.request(style=STRANGER)).case)
    shutil.copy(other.statement, again.statement)
    with pytest.raises(IntegrityError, match="not what was logged"):
        earned_in(workspace, again)
